"""Watches: the changes of a collection, as a stream of JSON lines."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from testbed.apiserver.answers import Form
from testbed.apiserver.exchange import Chunks, Exchange, encode
from testbed.apiserver.listing import selected
from testbed.apiserver.paths import Target
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import Expired
from testbed.cluster.store import Event

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_INITIAL_END = "k8s.io/initial-events-end"


def watch(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Answer by the changes from the wanted version on, until the timeout, the client or the server ends it.

    Without a version, and with ``sendInitialEvents``, the objects that exist come first, as added ones.
    """
    query = exchange.query
    matches, form = selected(exchange, target), Form(exchange, target)
    bookmarks, initial = query.flag("allowWatchBookmarks"), query.flag("sendInitialEvents")
    timeout_s = query.number("timeoutSeconds")
    ends = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
    version = query.number("resourceVersion") or 0
    with exchange.stream(form.content_type, target.headers) as chunks:
        lines = _Lines(chunks, form, target)
        try:
            if version == 0 or initial:
                existing = server.store.list(target.kind, matches)
                version = existing.resource_version
                lines.send(Event("ADDED", wire) for wire in existing.items)
                if initial and bookmarks:
                    lines.bookmark(version, {_INITIAL_END: "true"})
            with server.watching(target.kind, version, matches) as changes:
                while not changes.closed and (left := ends - time.monotonic()) > 0:
                    if events := changes.next(min(left, server.bookmark_interval_s)):
                        lines.send(events)
                    elif chunks.client_left():
                        raise BrokenPipeError("the client left")
                    elif bookmarks:
                        lines.bookmark(changes.resource_version)
        except Expired as error:
            lines.write([("ERROR", error.status())])


class _Lines:
    """What is sent: one JSON object a line."""

    def __init__(self, chunks: Chunks, form: Form, target: Target) -> None:
        self._chunks, self._form, self._target = chunks, form, target
        self._is_first = True

    def send(self, events: Iterable[Event]) -> None:
        shown = []
        for event in events:
            shown.append((event.type, self._form.one(event.object, with_columns=self._is_first)))
            self._is_first = False
        self.write(shown)

    def bookmark(self, version: int, annotations: dict[str, str] | None = None) -> None:
        """Say up to where everything has been sent."""
        metadata: JsonObject = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        empty = {"kind": self._target.kind.name, "apiVersion": self._target.api_version, "metadata": metadata}
        self.write([("BOOKMARK", self._form.bookmark(empty))])

    def write(self, lines: Iterable[tuple[str, JsonObject]]) -> None:
        self._chunks.write(b"".join(encode({"type": kind, "object": wire}) + b"\n" for kind, wire in lines))
