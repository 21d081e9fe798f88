"""The subresources of objects (``pods/NAME/log``): a table that says who answers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.streams.attach import answer_attach
from testbed.apiserver.streams.exec import answer_exec
from testbed.apiserver.streams.log import answer_log
from testbed.apiserver.streams.port_forward import answer_port_forward
from testbed.cluster.kinds import POD, Kind

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


@dataclass(frozen=True)
class Subresource:
    """One subresource: which requests ``answer`` is called for, and how discovery describes it.

    ``answer`` raises ApiError to refuse. It runs in the thread of the connection and may take as long as it likes.
    """

    kind: Kind
    name: str
    methods: tuple[str, ...]
    answers_kind: str
    """The kind that discovery names for it: ``Pod`` for ``log``, ``PodExecOptions`` for ``exec``."""
    verbs: tuple[str, ...]
    answer: Callable[[Exchange, ApiServer, Target], None]


_ALL: tuple[Subresource, ...] = (
    Subresource(POD, "log", ("GET",), "Pod", ("get",), answer_log),
    Subresource(POD, "exec", ("GET", "POST"), "PodExecOptions", ("create", "get"), answer_exec),
    Subresource(POD, "attach", ("GET", "POST"), "PodAttachOptions", ("create", "get"), answer_attach),
    Subresource(POD, "portforward", ("GET", "POST"), "PodPortForwardOptions", ("create", "get"), answer_port_forward),
)

SUBRESOURCES: dict[tuple[Kind, str], Subresource] = {(entry.kind, entry.name): entry for entry in _ALL}
