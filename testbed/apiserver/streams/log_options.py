"""What a request for a container's log asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from testbed.apiserver.exchange import Query
from testbed.cluster.status import BadRequest, invalid


@dataclass(frozen=True)
class LogOptions:
    """The parameters of ``pods/NAME/log`` (``PodLogOptions`` of the Kubernetes API)."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: float | None = None
    """Lines of that time and later, in seconds since 1970."""
    tail_lines: int | None = None
    limit_bytes: int | None = None


def log_options(query: Query, pod: str) -> LogOptions:
    """The options in a query. Raises BadRequest, Invalid."""
    seconds, text = query.number("sinceSeconds"), query.text("sinceTime")
    limit = query.number("limitBytes")
    problems = []
    if limit == 0:
        problems.append(("limitBytes", "Invalid value: 0: must be greater than 0"))
    if seconds == 0:
        problems.append(("sinceSeconds", "Invalid value: 0: must be greater than 0"))
    if seconds is not None and text:
        problems.append(("", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if problems:
        raise invalid("PodLogOptions", pod, problems)
    return LogOptions(
        follow=query.flag("follow"),
        previous=query.flag("previous"),
        timestamps=query.flag("timestamps"),
        since=time.time() - seconds if seconds is not None else _moment(text),
        tail_lines=query.number("tailLines"),
        limit_bytes=limit,
    )


def _moment(text: str) -> float | None:
    """A time by RFC 3339, in seconds since 1970. Raises BadRequest."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+"))
    except ValueError:
        raise BadRequest(f"sinceTime is no time by RFC 3339: {text!r}") from None
    if moment.tzinfo is None:
        raise BadRequest(f"sinceTime has no time zone: {text!r}")
    return moment.timestamp()
