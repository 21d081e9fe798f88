"""A small client of the cluster API: requests, watches, and a list-and-watch loop over several kinds.

Standard library only, and only plain blocking sockets, ``select`` and no threads of its own, so that it works alike in
an ordinary thread and in a green thread of eventlet with its monkey patches active. In a process that runs eventlet
*without* the patches, run :meth:`ListWatch.run` in an operating system thread, or it stops the hub.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from testbed.cluster.confirm import versions_text
from testbed.cluster.kinds import Kind, kind_of
from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject, object_name, object_namespace, resource_version
from testbed.cluster.status import ApiError, Expired, error_from_status
from testbed.cluster.store import Event, ObjectList

MERGE_PATCH = "application/merge-patch+json"

_RECEIVE_BYTES = 1 << 20
_DRAIN_READS = 64  # reads before a batch is delivered even though more is waiting
_FIRST_RETRY_S, _LAST_RETRY_S = 0.02, 1.0


@dataclass(frozen=True)
class Selection:
    """Objects of one kind: all of them, or those of a namespace or that pass the selectors."""

    kind: Kind
    namespace: str | None = None
    field_selector: str = ""
    label_selector: str = ""

    @property
    def path(self) -> str:
        return self.kind.path(self.namespace)

    @property
    def parameters(self) -> dict[str, str]:
        selectors = {"fieldSelector": self.field_selector, "labelSelector": self.label_selector}
        return {name: text for name, text in selectors.items() if text}


class ApiClient:
    """Requests to the API at ``url`` (``http://127.0.0.1:PORT``), each on a connection of its own. Thread-safe.

    All methods raise ApiError (its subclasses tell what happened) when the API refuses, and OSError or
    http.client.HTTPException when it cannot be reached or breaks off.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
        self._host, self._tcp_port, self._timeout_s = parts.hostname, parts.port, timeout_s

    def get(self, kind: Kind, name: str, namespace: str = DEFAULT_NAMESPACE) -> JsonObject:
        return self._request("GET", kind.path(namespace, name))

    def list(self, selection: Selection) -> ObjectList:
        """The selected objects and the version to watch from."""
        answer = self._request("GET", _with_query(selection.path, selection.parameters))
        kind = selection.kind
        # Lists leave out what all their items have in common.
        items = [{"apiVersion": kind.api_version, "kind": kind.name, **wire} for wire in answer["items"]]
        return ObjectList(items, int(answer["metadata"]["resourceVersion"]))

    def create(self, wire: JsonObject) -> JsonObject:
        return self._request("POST", kind_of(wire).path(object_namespace(wire)), wire)

    def replace(self, wire: JsonObject) -> JsonObject:
        return self._request("PUT", kind_of(wire).path(object_namespace(wire), object_name(wire)), wire)

    def patch(self, kind: Kind, name: str, patch: JsonObject, namespace: str = DEFAULT_NAMESPACE) -> JsonObject:
        """Change an object by a JSON merge patch (RFC 7396)."""
        return self._request("PATCH", kind.path(namespace, name), patch, MERGE_PATCH)

    def delete(
        self, kind: Kind, name: str, namespace: str = DEFAULT_NAMESPACE, grace_period_s: int | None = None
    ) -> JsonObject:
        """Remove an object; what that means for a running Pod is told at :meth:`testbed.cluster.store.Store.delete`."""
        options = {} if grace_period_s is None else {"gracePeriodSeconds": str(grace_period_s)}
        return self._request("DELETE", _with_query(kind.path(namespace, name), options))

    def watch(self, selection: Selection, version: int) -> Iterator[Event]:
        """Every change after ``version``, until the server ends the watch. Raises Expired when that is too long ago."""
        stream = self.open_watch(selection, version)
        try:
            yield from stream.take_early()
            while not stream.ended:
                yield from stream.read()
        finally:
            stream.close()

    def open_watch(self, selection: Selection, version: int) -> WatchStream:
        """A watch whose socket can be waited for together with others."""
        parameters = {
            **selection.parameters,
            "watch": "1",
            "resourceVersion": str(version),
            "allowWatchBookmarks": "true",
        }
        sock = socket.create_connection((self._host, self._tcp_port), self._timeout_s)
        try:
            head = f"GET {_with_query(selection.path, parameters)} HTTP/1.1\r\nHost: {self._host}:{self._tcp_port}\r\n"
            sock.sendall(head.encode() + b"Accept: application/json\r\nConnection: close\r\n\r\n")
            return WatchStream(sock, version)
        except BaseException:
            sock.close()
            raise

    def _request(self, method: str, path: str, body: JsonObject | None = None, media: str = "") -> JsonObject:
        connection = http.client.HTTPConnection(self._host, self._tcp_port, timeout=self._timeout_s)
        try:
            headers = {"Accept": "application/json", "Connection": "close"}
            if body is not None:
                headers["Content-Type"] = media or "application/json"
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer: Any = json.loads(response.read())
        finally:
            connection.close()
        if response.status >= 400:
            raise error_from_status(answer)
        result: JsonObject = answer
        return result


class WatchStream:
    """The receiving end of one watch: a chunked HTTP response of JSON lines (RFC 9112 section 7.1).

    ``resource_version`` is where another watch can go on; bookmarks move it and are not returned.
    """

    def __init__(self, sock: socket.socket, version: int) -> None:
        self._sock = sock
        self._chunks = _ChunkedBody()
        self._line = b""  # the beginning of an event whose end is still to come
        self.resource_version = version
        self.ended = False
        self._read_head()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def read(self) -> list[Event]:
        """The events that are there, waiting for some bytes first; may be empty. Sets ``ended`` at the stream's end.

        Raises Expired, or another ApiError that the server sends; OSError when the connection breaks.
        """
        received = self._sock.recv(_RECEIVE_BYTES)
        if not received:
            self.ended = True
            return []
        return self._decode(received)

    def _read_head(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = self._sock.recv(65536)
            if not received or len(head) > 65536:
                raise http.client.BadStatusLine("the API broke off before it answered")
            head += received
        head, _, rest = head.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            raise error_from_status(_json_body(self._sock, rest))
        if b"transfer-encoding: chunked" not in head.lower():
            raise http.client.UnknownTransferEncoding("a watch must be a chunked response")
        self._sock.settimeout(None)  # from here on silence is not an error
        self._early = self._decode(rest)

    def take_early(self) -> list[Event]:
        """The events that came together with the response's head (to be asked for once, before the first wait)."""
        early, self._early = self._early, []
        return early

    def _decode(self, received: bytes) -> list[Event]:
        payload, self.ended = self._chunks.feed(received)
        *lines, self._line = (self._line + payload).split(b"\n")
        events = []
        for line in lines:
            decoded = json.loads(line)
            wire = decoded["object"]
            if decoded["type"] == "ERROR":
                raise error_from_status(wire)
            self.resource_version = max(self.resource_version, resource_version(wire))
            if decoded["type"] != "BOOKMARK":
                events.append(Event(decoded["type"], wire))
        return events


class Batch(NamedTuple):
    """Changes that belong together. ``versions`` is what to write into the node's entry of ``controller-status``."""

    events: tuple[Event, ...]
    versions: str


class ListWatch:
    """Follows several selections of objects and calls ``on_batch`` with the changes, as informers do.

    The first batch has every object that exists (ADDED), of all selections together. Each later one has whatever had
    arrived while the one before was being handled. When a watch breaks it is taken up where it stopped; when the server
    no longer knows that version, the objects are listed again and the batch has the difference. A server that cannot be
    reached is tried again until ``stop``; nothing is delivered until all selections are complete again.

    ``objects`` has the present state: by selection, then by (namespace, name). It is up to date when ``on_batch`` runs.
    """

    def __init__(self, api: ApiClient, selections: Sequence[Selection], on_batch: Callable[[Batch], None]) -> None:
        self._api, self._on_batch = api, on_batch
        self._sources = [_Source(selection) for selection in selections]
        self._pending: deque[Event] = deque()
        self._stopped = False
        self._wake, self._waker = socket.socketpair()

    @property
    def objects(self) -> dict[Selection, dict[tuple[str, str], JsonObject]]:
        return {source.selection: source.objects for source in self._sources}

    def stop(self) -> None:
        """Make ``run`` return; from any thread, also from within ``on_batch``."""
        self._stopped = True
        with contextlib.suppress(OSError):  # ``run`` has returned already
            self._waker.send(b"x")

    def run(self) -> None:
        """Follow the objects until ``stop``. Errors of ``on_batch`` end the loop and come out here."""
        retry_s = _FIRST_RETRY_S
        try:
            while not self._stopped:
                if not self._connect():
                    self._wait([], retry_s)
                    retry_s = min(2 * retry_s, _LAST_RETRY_S)
                    continue
                retry_s = _FIRST_RETRY_S
                self._deliver()
                self._wait([source.stream for source in self._sources if source.stream], None)
                self._drain()
        finally:
            for source in self._sources:
                source.close()
            self._wake.close()
            self._waker.close()

    def _connect(self) -> bool:
        """Open the watches that are not; False when the server cannot be reached or has an error of its own."""
        for source in self._sources:
            try:
                source.open(self._api, self._pending)
            except (OSError, http.client.HTTPException, ValueError):  # ValueError: the answer is not JSON
                return False
            except ApiError as error:
                if error.code < 500:
                    raise  # the request itself is wrong, trying again will not help
                return False
        return all(source.stream for source in self._sources)

    def _wait(self, streams: Sequence[WatchStream], timeout_s: float | None) -> None:
        sources: list[WatchStream | socket.socket] = [*streams, self._wake]
        select.select(sources, [], [], timeout_s)

    def _drain(self) -> None:
        """Take in all that has arrived."""
        for _ in range(_DRAIN_READS):
            by_stream = {source.stream: source for source in self._sources if source.stream}
            readable: list[WatchStream] = select.select(list(by_stream), [], [], 0)[0]
            if not readable:
                return
            for stream in readable:
                # Of two that are ready at once, eventlet gives the second to the select after the one that waited.
                if stream in by_stream:
                    self._pending.extend(by_stream[stream].read())

    def _deliver(self) -> None:
        if self._pending and not self._stopped:
            events = tuple(self._pending)
            self._pending.clear()
            versions = {source.selection.kind.name: source.version for source in self._sources}
            self._on_batch(Batch(events, versions_text(versions)))


@dataclass
class _Source:
    """One selection: the objects as last seen, and the stream that keeps them so."""

    selection: Selection
    version: int = -1  # -1: to be listed
    stream: WatchStream | None = None
    objects: dict[tuple[str, str], JsonObject] = field(default_factory=dict)

    def open(self, api: ApiClient, found: deque[Event]) -> None:
        """List if need be and watch, unless the stream is open; adds the changes that this brings to light.

        The stream stays closed when the version to watch from has expired; the next call then lists again.
        """
        if self.stream is not None:
            return
        if self.version < 0:
            listed = api.list(self.selection)
            found.extend(self._difference(listed.items))
            self.version = listed.resource_version
        try:
            self.stream = api.open_watch(self.selection, self.version)
            found.extend(self._note(self.stream.take_early()))
        except Expired:
            self.version = -1

    def read(self) -> list[Event]:
        assert self.stream is not None
        try:
            events = self._note(self.stream.read())
        except Expired:
            self.close()
            self.version = -1
            return []
        except (OSError, ApiError, ValueError):  # ValueError: not HTTP or not JSON
            self.close()
            return []
        if self.stream.ended:
            self.close()
        return events

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def _note(self, events: list[Event]) -> list[Event]:
        for event in events:
            if event.type == "DELETED":
                self.objects.pop(_object_key(event.object), None)
            else:
                self.objects[_object_key(event.object)] = event.object
        if self.stream is not None:
            self.version = self.stream.resource_version
        return events

    def _difference(self, items: list[JsonObject]) -> list[Event]:
        before, self.objects = self.objects, {_object_key(wire): wire for wire in items}
        gone = [Event("DELETED", wire) for key, wire in before.items() if key not in self.objects]
        new = [Event("ADDED", wire) for key, wire in self.objects.items() if key not in before]
        changed = [
            Event("MODIFIED", wire) for key, wire in self.objects.items() if key in before and before[key] != wire
        ]
        return gone + new + changed


class _ChunkedBody:
    """Decodes a chunked body from pieces of any size. Trailers and chunk extensions are passed over."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the current chunk still to come, its line end included

    def feed(self, received: bytes) -> tuple[bytes, bool]:
        """The payload in these bytes, and whether the body has ended. Raises ValueError when it is not chunked."""
        self._buffer += received
        payload = []
        while self._buffer:
            if self._left:
                piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                # The last two bytes of what is left are the chunk's line end.
                payload.append(piece[: max(0, self._left - 2)])
                self._left -= len(piece)
                continue
            line, separator, rest = self._buffer.partition(b"\r\n")
            if not separator:
                break
            size = int(line.split(b";")[0], 16)
            if size == 0:
                return b"".join(payload), True
            self._buffer, self._left = rest, size + 2
        return b"".join(payload), False


def _json_body(sock: socket.socket, body: bytes) -> JsonObject:
    """An error's body; the server closes the connection after it."""
    while True:
        received = sock.recv(65536)
        if not received:
            break
        body += received
    answer: JsonObject = json.loads(body)
    return answer


def _object_key(wire: JsonObject) -> tuple[str, str]:
    return wire["metadata"].get("namespace", ""), wire["metadata"]["name"]


def _with_query(path: str, parameters: dict[str, str]) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path
