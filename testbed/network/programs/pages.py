"""A small web server, as the catalogue's programs need it: HTTP/1.1 with kept connections, a thread each.

The standard library's own (http.server) would bring TLS and e-mail along: 10 MB that every pod's process shares, and
copies where it touches them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

_MAX_HEAD_BYTES, _MAX_BODY_BYTES = 65536, 1 << 24
_REASONS = {
    200: "OK",
    301: "Moved Permanently",
    400: "Bad Request",
    404: "Not Found",
    413: "Content Too Large",
    431: "Header Too Large",
    502: "Bad Gateway",
}


@dataclass(frozen=True)
class Request:
    """What a client has asked. ``headers`` are keyed in lower case, ``address`` and ``port`` are the client's."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]
    body: bytes
    address: str
    port: int

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    def parameter(self, name: str) -> str | None:
        """The first value of a parameter in the query."""
        return parse_qs(self.target.partition("?")[2]).get(name, [None])[0]


@dataclass(frozen=True)
class Page:
    """An answer."""

    body: str | bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else self.body


Answer = Callable[[Request], Page]


def serve(port: int, answer: Answer) -> None:
    """Serve for ever, on all addresses. Raises OSError when the port is taken."""
    threading.stack_size(256 * 1024)
    with socket.create_server(("0.0.0.0", port), backlog=128) as listener:
        while True:
            connection, client = listener.accept()
            threading.Thread(target=_converse, args=(connection, client[0], client[1], answer), daemon=True).start()


def logged(answer: Answer) -> Answer:
    """The same answers, each with a line on standard output, in the Common Log Format that Apache's image writes."""

    def answer_and_tell(request: Request) -> Page:
        page = answer(request)
        length = len(page.content) if request.method != "HEAD" else 0
        when = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        asked = f"{request.method} {request.target} {request.version}".replace('"', '\\"')
        line = f'{request.address} - - [{when}] "{asked}" {page.status} {length or "-"}\n'
        with contextlib.suppress(OSError):  # a log that cannot be written is no reason not to answer
            os.write(1, line.encode())  # whole, while other threads write theirs
        return page

    return answer_and_tell


def port_from_environment(default: int) -> int:
    """PORT in the environment, which chooses another port than the image's."""
    return int(os.environ.get("PORT") or default)


def _converse(connection: socket.socket, address: str, port: int, answer: Answer) -> None:
    with connection:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = bytearray()
            while _one(connection, received, address, port, answer):
                pass
        except OSError:
            return  # the client has gone


def _one(connection: socket.socket, received: bytearray, address: str, port: int, answer: Answer) -> bool:
    """Read and answer one request; whether another may follow."""
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > _MAX_HEAD_BYTES:
            _send(connection, Page("", 431), "GET", last=True)
            return False
        chunk = connection.recv(65536)
        if not chunk:
            return False
        received += chunk
    lines = received[:end].decode("latin-1").split("\r\n")
    del received[: end + 4]
    words = lines[0].split()
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = headers.get("content-length", "0")
    if len(words) != 3 or not length.isdecimal():
        _send(connection, Page("", 400), "GET", last=True)
        return False
    if int(length) > _MAX_BODY_BYTES:
        _send(connection, Page("", 413), words[0], last=True)
        return False
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(received) < int(length):
        chunk = connection.recv(65536)
        if not chunk:
            return False
        received += chunk
    body = bytes(received[: int(length)])
    del received[: int(length)]
    asked = headers.get("connection", "").lower()
    last = asked == "close" or (words[2] == "HTTP/1.0" and asked != "keep-alive")
    _send(connection, answer(Request(words[0], words[1], words[2], headers, body, address, port)), words[0], last)
    return not last


def _send(connection: socket.socket, page: Page, method: str, last: bool) -> None:
    """In one segment: headers and body together."""
    body = page.content
    headers = {
        "Content-Type": page.content_type,
        "Content-Length": str(len(body)),
        "Connection": "close" if last else "keep-alive",
        **page.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = f"HTTP/1.1 {page.status} {_REASONS.get(page.status, 'Other')}\r\n{head}\r\n"
    connection.sendall(start.encode() + (b"" if method == "HEAD" else body))
