"""One request and the ways to answer it: at once, as a stream of chunks, or by taking over the connection."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest

JSON = "application/json"


class Query:
    """The parameters of a URL."""

    def __init__(self, text: str) -> None:
        self._values = parse_qs(text, keep_blank_values=True)

    def __contains__(self, name: str) -> bool:
        """Whether the parameter is given at all."""
        return name in self._values

    def text(self, name: str) -> str:
        """The parameter's first value; empty when it is not given."""
        return self._values.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """All values of a parameter that may be given several times, for example ``command``."""
        return self._values.get(name, [])

    def flag(self, name: str) -> bool:
        """Whether a parameter is given and says yes."""
        return self.text(name).lower() in ("1", "t", "true")

    def number(self, name: str) -> int | None:
        """A whole number, not negative; None when the parameter is not given. Raises BadRequest."""
        text = self.text(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise BadRequest(f"{name} is no whole number: {text!r}")
        return int(text)


class Exchange:
    """A request, whose body has been read, and its answer: exactly one of the four methods that answer is called."""

    def __init__(self, connection: BaseHTTPRequestHandler, path: str, query: Query, body: bytes) -> None:
        self.path, self.query, self.body = path, query, body
        self.is_answered = False
        """Whether an answer has begun, so that it is too late for another."""
        self._connection = connection

    @property
    def method(self) -> str:
        """``GET``, ``POST``, ..."""
        return getattr(self._connection, "command", None) or ""

    @property
    def headers(self) -> Message:
        """The request's headers."""
        return self._connection.headers

    def answer(self, code: int, document: JsonObject, headers: Mapping[str, str] | None = None) -> None:
        """Answer by a JSON document."""
        self.answer_bytes(code, JSON, encode(document), headers)

    def answer_bytes(
        self, code: int, content_type: str, payload: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer by anything else."""
        self.is_answered = True
        connection = self._connection
        connection.send_response(code)
        connection.send_header("Content-Type", content_type)
        connection.send_header("Content-Length", str(len(payload)))
        for name, text in (headers or {}).items():
            connection.send_header(name, text)
        if connection.close_connection:
            connection.send_header("Connection", "close")
        connection.end_headers()
        if self.method != "HEAD":
            connection.wfile.write(payload)
        connection.wfile.flush()

    @contextmanager
    def stream(self, content_type: str, headers: Mapping[str, str] | None = None) -> Iterator[Chunks]:
        """Answer piece by piece (200, chunked); the answer ends with the block, and breaks off with its error."""
        self.is_answered = True
        connection = self._connection
        connection.send_response(200)
        connection.send_header("Content-Type", content_type)
        connection.send_header("Transfer-Encoding", "chunked")
        for name, text in (headers or {}).items():
            connection.send_header(name, text)
        connection.end_headers()
        connection.wfile.flush()
        try:
            yield Chunks(connection)
        except BaseException:
            connection.close_connection = True
            raise
        connection.wfile.write(b"0\r\n\r\n")
        connection.wfile.flush()

    def take_over(self) -> tuple[socket.socket, bytes]:
        """The connection's blocking socket, for another protocol than HTTP, and what has been read of it already.

        Nothing is answered yet: the caller writes its own ``101 Switching Protocols``. The connection is closed when
        the caller returns, and shut down by the server when that stops.
        """
        self.is_answered = True
        connection = self._connection
        connection.close_connection = True
        connection.wfile.flush()
        sock: socket.socket = connection.connection
        sock.setblocking(False)  # or peek would wait for bytes when none have been read ahead
        early = connection.rfile.peek()  # type: ignore[attr-defined]
        sock.setblocking(True)
        return sock, bytes(early)


class Chunks:
    """The pieces of an answer that goes on."""

    def __init__(self, connection: BaseHTTPRequestHandler) -> None:
        self._connection = connection

    def write(self, payload: bytes) -> None:
        """Send some bytes at once. Raises OSError when the client has left."""
        if payload:  # an empty chunk would end the answer
            self._connection.wfile.write(b"%x\r\n%b\r\n" % (len(payload), payload))
            self._connection.wfile.flush()

    def wait_for_leaving(self, timeout_s: float) -> bool:
        """Wait until the client closes its end, for so many seconds at most; whether it has."""
        poll = select.poll()
        poll.register(self._connection.connection, select.POLLRDHUP)
        return bool(poll.poll(timeout_s * 1000))

    def client_left(self) -> bool:
        """Whether the client has closed its end."""
        try:
            sock: socket.socket = self._connection.connection
            return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False


def encode(document: object) -> bytes:
    """JSON as it is sent."""
    return json.dumps(document, separators=(",", ":")).encode()
