"""The store, served over HTTP in the form of the Kubernetes API: a thread for each connection, loopback only."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote

from testbed.cluster.client import MERGE_PATCH
from testbed.cluster.discovery import discovery_documents
from testbed.cluster.kinds import KINDS, Kind, kind_of
from testbed.cluster.objects import JsonObject
from testbed.cluster.selectors import parse_selection
from testbed.cluster.status import (
    ApiError,
    BadRequest,
    Expired,
    LengthRequired,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from testbed.cluster.store import Event, Matches, Store, Watch

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 3 * 1024 * 1024  # what the Kubernetes API server accepts
_BOOKMARK_INTERVAL_S = 10.0


class ApiServer:
    """Serves a store on a socket that is already listening, on a loopback address only. A context manager.

    ``bookmark_interval_s``: how often a watch with nothing to tell says how far it is, and notices a client that left.
    Raises ValueError when the socket is reachable from elsewhere.
    """

    def __init__(
        self, store: Store, listener: socket.socket, bookmark_interval_s: float = _BOOKMARK_INTERVAL_S
    ) -> None:
        host, self.tcp_port = listener.getsockname()[:2]
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the cluster API is served on loopback only, not on {host}")
        self.url = f"http://{host}:{self.tcp_port}"
        self.store, self.bookmark_interval_s = store, bookmark_interval_s
        self.documents = discovery_documents()
        self._listener = listener
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._watches: set[Watch] = set()
        self._stopping = False
        self._acceptor = threading.Thread(target=self._accept, name="cluster-api", daemon=True)

    def __enter__(self) -> ApiServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        """Close the listener and all connections; watches end. Idempotent."""
        with self._lock:
            self._stopping = True
            connections, watches = list(self._connections), list(self._watches)
        for watch in watches:
            watch.close()
        with contextlib.suppress(OSError):  # not connected: another process that shares it has shut it down
            self._listener.shutdown(socket.SHUT_RDWR)  # unlike close, this wakes the acceptor
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def watching(self, kind: Kind, version: int, matches: Matches | None) -> Iterator[Watch]:
        """A watch that ends with the server."""
        with self.store.watch(kind, version, matches) as watch:
            with self._lock:
                self._watches.add(watch)
                if self._stopping:
                    watch.close()
            try:
                yield watch
            finally:
                with self._lock:
                    self._watches.discard(watch)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, peer = self._listener.accept()
            except ConnectionAbortedError:
                continue  # the client gave up while it was queueing
            except OSError as error:
                if not self._stopping:
                    _log.error("the cluster API accepts no more connections: %s", error)
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, peer), name="cluster-api", daemon=True).start()

    def _serve(self, connection: socket.socket, peer: object) -> None:
        try:
            _Handler(connection, peer, self)
        except OSError:
            pass  # the client left
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class _Target(NamedTuple):
    """What a URL names: a kind's collection (of one namespace, if given) or one object of it."""

    kind: Kind
    namespace: str | None
    name: str | None


_COLLECTIONS = {(*kind.path().strip("/").split("/")[:-1], kind.plural): kind for kind in KINDS}


def parse_path(path: str) -> _Target:
    """The kind, namespace and name in a URL path. Raises NotFound."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    prefix = 3 if parts[0] == "apis" else 2
    namespace = None
    rest = parts[prefix:]
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    kind = _COLLECTIONS.get((*parts[:prefix], rest[0])) if rest else None
    if kind is None or len(rest) > 2 or (namespace is not None and not kind.namespaced):
        raise NotFound("the server could not find the requested resource")
    return _Target(kind, namespace, rest[1] if len(rest) == 2 else None)


class _Handler(BaseHTTPRequestHandler):
    """One connection. Every answer is JSON; every refusal a ``Status`` object."""

    protocol_version = "HTTP/1.1"
    server_version = "testbed"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together, at the flush
    server: ApiServer  # type: ignore[assignment]

    def __init__(self, connection: socket.socket, peer: object, server: ApiServer) -> None:
        super().__init__(connection, peer, server)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own refusals (a malformed request line, an unknown method), as a Status like all others."""
        error = ApiError(message or self.responses.get(code, ("refused", ""))[0])
        error.code, error.reason = int(code), "BadRequest" if code < 500 else "InternalError"
        self.close_connection = True
        self.request_version = self.protocol_version  # a request line that is no HTTP/1.x still gets a whole answer
        self._send(error.code, error.status())

    def _answer(self) -> None:
        try:
            body = self._body()
            path, _, query_text = self.path.partition("?")
            query = dict(parse_qsl(query_text, keep_blank_values=True))
            document = self.server.documents.get(path.rstrip("/"))
            if document is not None and self.command == "GET":
                self._send(200, document)
                return
            target = parse_path(path)
            if query.get("dryRun"):
                raise BadRequest("dryRun is not supported")
            self._dispatch(target, query, body)
        except ApiError as error:
            self._send(error.code, error.status())
        except OSError:
            raise  # the client left
        except Exception:
            _log.exception("%s %s", self.command, self.path)
            self.close_connection = True
            self._send(500, ApiError("an internal error occurred; the log of the testbed has the details").status())

    def _dispatch(self, target: _Target, query: dict[str, str], body: bytes) -> None:
        store = self.server.store
        if target.name is None:
            if self.command == "POST":
                self._send(201, store.create(self._object(target, body)))
            elif self.command != "GET":
                raise MethodNotAllowed("a collection can be listed, watched and added to")
            elif query.get("watch", "").lower() in ("1", "true"):
                self._watch(target, query)
            else:
                listed = store.list(target.kind, _matches(target, query))
                self._send(200, _list_object(target.kind, listed.items, listed.resource_version))
            return
        if target.kind.namespaced and target.namespace is None:
            raise NotFound("the server could not find the requested resource")
        where = (target.name, target.namespace or "")
        if self.command == "GET":
            self._send(200, store.get(target.kind, *where))
        elif self.command == "PUT":
            self._send(200, store.replace(self._object(target, body)))
        elif self.command == "PATCH":
            self._expect_media(MERGE_PATCH)
            self._send(200, store.patch(target.kind, target.name, _json_object(body), target.namespace or ""))
        elif self.command == "DELETE":
            self._send(200, store.delete(target.kind, *where, grace_period_s=_grace_period_s(query, body)))
        else:
            raise MethodNotAllowed("an object can be read, replaced, patched and deleted")

    def _watch(self, target: _Target, query: dict[str, str]) -> None:
        matches = _matches(target, query)
        bookmarks = query.get("allowWatchBookmarks", "").lower() in ("1", "true")
        ends = time.monotonic() + _number(query, "timeoutSeconds", math.inf)
        version = int(_number(query, "resourceVersion", 0))
        self._start_stream()
        try:
            if version == 0:  # "any version": the objects that exist, then their changes
                existing = self.server.store.list(target.kind, matches)
                version = existing.resource_version
                self._send_lines([Event("ADDED", wire) for wire in existing.items])
            with self.server.watching(target.kind, version, matches) as watch:
                while not watch.closed and (left := ends - time.monotonic()) > 0:
                    events = watch.next(min(left, self.server.bookmark_interval_s))
                    if events:
                        self._send_lines(events)
                    elif self._client_left():
                        self.close_connection = True
                        return
                    elif bookmarks:
                        self._send_lines([_bookmark(target.kind, watch.resource_version)])
        except Expired as error:
            self._send_lines([("ERROR", error.status())])
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _send_lines(self, events: Any) -> None:
        """Events as JSON lines in one chunk."""
        lines = [_encode({"type": event[0], "object": event[1]}) + b"\n" for event in events]
        if lines:
            payload = b"".join(lines)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(payload), payload))
            self.wfile.flush()

    def _client_left(self) -> bool:
        try:
            connection: socket.socket = self.connection
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False

    def _send(self, code: int, answer: JsonObject) -> None:
        payload = _encode(answer)
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
        self.wfile.flush()

    def _body(self) -> bytes:
        """The request's body, read whole, so that the next request on the connection begins where it should."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise LengthRequired("a request body needs a Content-Length")
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit():
            self.close_connection = True
            raise BadRequest(f"Content-Length is no number: {text!r}")
        if len(text) > 12 or int(text) > MAX_BODY_BYTES:
            self.close_connection = True
            raise RequestEntityTooLarge(f"the request body has more than {MAX_BODY_BYTES} bytes")
        return self.rfile.read(int(text))

    def _object(self, target: _Target, body: bytes) -> JsonObject:
        """The object in a POST or PUT, checked to be what the URL names."""
        self._expect_media("application/json")
        wire = _json_object(body)
        if kind_of(wire) is not target.kind:
            raise BadRequest(f"the object is a {wire['kind']}, the URL is for {target.kind.resource}")
        metadata = wire.get("metadata")
        if not isinstance(metadata, dict):
            raise BadRequest("the object has no metadata")
        if target.name is not None and metadata.get("name") != target.name:
            raise BadRequest("the name of the object does not match the name on the URL")
        if target.kind.namespaced:
            if target.namespace is None:
                raise MethodNotAllowed("an object is created in a namespace, which the URL must have")
            if metadata.setdefault("namespace", target.namespace) != target.namespace:
                raise BadRequest("the namespace of the object does not match the namespace on the URL")
        return wire

    def _expect_media(self, wanted: str) -> None:
        given = self.headers.get("Content-Type", wanted).split(";")[0].strip().lower()
        if given != wanted:
            raise UnsupportedMediaType(f"the media type {given!r} is not supported; use {wanted}")


def _matches(target: _Target, query: dict[str, str]) -> Matches | None:
    return parse_selection(target.namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))


def _number(query: dict[str, str], name: str, default: float) -> float:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest(f"{name} is no whole number: {text!r}")
    return int(text)


def _grace_period_s(query: dict[str, str], body: bytes) -> int | None:
    """What a DELETE says by ``gracePeriodSeconds``, in the query or in its body (``DeleteOptions``).

    Raises BadRequest, also when what the object keeps is to stay without it: nothing here outlives its owner.
    """
    options = _json_object(body) if body else {}
    if "Orphan" in (query.get("propagationPolicy"), options.get("propagationPolicy")):
        raise BadRequest("propagationPolicy Orphan is not supported")
    if "gracePeriodSeconds" in query:
        return int(_number(query, "gracePeriodSeconds", 0))
    wanted = options.get("gracePeriodSeconds")
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0):
        raise BadRequest(f"gracePeriodSeconds is no whole number: {wanted!r}")
    return wanted


def _list_object(kind: Kind, items: list[JsonObject], version: int) -> JsonObject:
    metadata = {"resourceVersion": str(version)}
    return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}


def _bookmark(kind: Kind, version: int) -> tuple[str, JsonObject]:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return "BOOKMARK", {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}


def _encode(answer: JsonObject) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def _json_object(body: bytes) -> JsonObject:
    """The JSON object in a request body (RFC 8259: no NaN, no infinity). Raises BadRequest."""
    try:
        decoded = json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise BadRequest("the body is not a JSON object")
    return decoded


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
