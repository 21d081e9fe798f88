"""Lists: selected objects of a kind, whole or page by page."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections import OrderedDict
from typing import Any

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.cluster.objects import JsonObject
from testbed.cluster.selectors import parse_selection
from testbed.cluster.status import BadRequest, Expired
from testbed.cluster.store import Matches, ObjectList, Store

_KEPT = 32  # lists whose further pages can still be asked for; objects never change, so they cost little


class Pages:
    """Lists of which the client has not seen the end yet: all pages are of one moment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: OrderedDict[str, ObjectList] = OrderedDict()

    def keep(self, listed: ObjectList) -> str:
        """Keep a list; its name."""
        name = uuid.uuid4().hex
        with self._lock:
            self._lists[name] = listed
            if len(self._lists) > _KEPT:
                self._lists.popitem(last=False)
        return name

    def get(self, name: str) -> ObjectList:
        """A list that was kept. Raises Expired."""
        with self._lock:
            if name not in self._lists:
                raise Expired("the provided continue parameter is too old; list again without it")
            self._lists.move_to_end(name)
            return self._lists[name]


def selected(exchange: Exchange, target: Target) -> Matches | None:
    """What the request's selectors and namespace leave. Raises BadRequest."""
    query = exchange.query
    return parse_selection(target.namespace, query.text("labelSelector"), query.text("fieldSelector"), target.kind)


def list_page(exchange: Exchange, store: Store, pages: Pages, target: Target) -> tuple[list[JsonObject], JsonObject]:
    """The objects of the page asked for, and the list's metadata. Raises BadRequest, Expired."""
    query = exchange.query
    limit = query.number("limit") or 0
    if token := query.text("continue"):
        name, start = _read_token(token)
        listed = pages.get(name)
    else:
        name, start = "", 0
        listed = _list(exchange, store, target)
    metadata: dict[str, Any] = {"resourceVersion": str(listed.resource_version)}
    end = start + limit if limit else len(listed.items)
    if end < len(listed.items):
        metadata["continue"] = _token(name or pages.keep(listed), end)
        if not query.text("labelSelector") and not query.text("fieldSelector"):
            metadata["remainingItemCount"] = len(listed.items) - end
    return listed.items[start:end], metadata


def _list(exchange: Exchange, store: Store, target: Target) -> ObjectList:
    query = exchange.query
    matches = selected(exchange, target)
    wanted, match = query.number("resourceVersion"), query.text("resourceVersionMatch")
    if match not in ("", "Exact", "NotOlderThan"):
        raise BadRequest(f"resourceVersionMatch {match!r} is none of Exact, NotOlderThan")
    if match and wanted is None:
        raise BadRequest("resourceVersionMatch needs a resourceVersion")
    listed = store.list(target.kind, matches)
    if wanted is not None:
        if wanted > listed.resource_version:
            raise Expired(f"too large resource version: {wanted}, current: {listed.resource_version}")
        if match == "Exact" and wanted != listed.resource_version:
            raise Expired(f"too old resource version: {wanted} ({listed.resource_version})")
    return listed


def _token(name: str, start: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([name, start]).encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[str, int]:
    try:
        name, start = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if isinstance(name, str) and isinstance(start, int) and start >= 0:
            return name, start
    except (ValueError, TypeError, RecursionError):
        pass
    raise BadRequest(f"continue key is not valid: {token!r}")
