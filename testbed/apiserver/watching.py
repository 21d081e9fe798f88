"""Watches: the changes of a collection, as a stream of JSON lines."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from testbed.apiserver.exchange import JSON, Chunks, Exchange, encode
from testbed.apiserver.paths import Target
from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.selectors import parse_selection
from testbed.cluster.status import Expired
from testbed.cluster.store import Event, Matches

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


def selected(exchange: Exchange, target: Target) -> Matches | None:
    """What the request's selectors and namespace leave. Raises BadRequest."""
    query = exchange.query
    return parse_selection(target.namespace, query.text("labelSelector"), query.text("fieldSelector"))


def watch(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Answer by the changes from the wanted version on, until the timeout, the client or the server ends it."""
    matches = selected(exchange, target)
    bookmarks = exchange.query.flag("allowWatchBookmarks")
    timeout_s = exchange.query.number("timeoutSeconds")
    ends = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
    version = exchange.query.number("resourceVersion") or 0
    with exchange.stream(JSON) as chunks:
        try:
            if version == 0:  # "any version": the objects that exist, then their changes
                existing = server.store.list(target.kind, matches)
                version = existing.resource_version
                _send(chunks, [Event("ADDED", wire) for wire in existing.items])
            with server.watching(target.kind, version, matches) as changes:
                while not changes.closed and (left := ends - time.monotonic()) > 0:
                    if events := changes.next(min(left, server.bookmark_interval_s)):
                        _send(chunks, events)
                    elif chunks.client_left():
                        raise BrokenPipeError("the client left")
                    elif bookmarks:
                        _send(chunks, [_bookmark(target.kind, changes.resource_version)])
        except Expired as error:
            _send(chunks, [("ERROR", error.status())])


def _send(chunks: Chunks, events: Iterable[tuple[str, JsonObject]]) -> None:
    chunks.write(b"".join(encode({"type": kind, "object": wire}) + b"\n" for kind, wire in events))


def _bookmark(kind: Kind, version: int) -> tuple[str, JsonObject]:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return "BOOKMARK", {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}
