"""The connections to ports of a pod that one client asks for, on one wire.

Three ways to carry them: a pair of SPDY streams for each (``portforward.k8s.io``), the same inside WebSocket messages
(``SPDY/3.1+portforward.k8s.io``), and a pair of channels for each port in WebSocket messages (``v4.channel.k8s.io``).
One of a pair carries data both ways, the other says what went wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from testbed.apiserver.streams.channel_messages import ChannelMessages
from testbed.apiserver.streams.spdy_frames import REFUSED_STREAM
from testbed.apiserver.streams.spdy_session import Ended, Opened, Received, Reset, SpdySession
from testbed.apiserver.streams.websocket import WebSocket

SPDY_PROTOCOLS = ("portforward.k8s.io",)
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")


class Connect(NamedTuple):
    """The client wants a connection to a port; ``number`` names it from now on."""

    number: int
    port: int


class Bytes(NamedTuple):
    """The client has sent bytes on a connection."""

    number: int
    payload: bytes


class Finished(NamedTuple):
    """The client sends no more on a connection."""

    number: int


class Dropped(NamedTuple):
    """The client wants nothing more of a connection."""

    number: int


Request = Connect | Bytes | Finished | Dropped


class Forwards(Protocol):
    """What all ways have in common; no input or output of their own."""

    @property
    def has_left(self) -> bool:
        """Whether the client has said that it leaves."""

    def receive(self, data: bytes) -> Iterator[Request]:
        """What the client's bytes say. Raises ProtocolError."""

    def send(self, number: int, payload: bytes) -> None:
        """Send bytes on a connection."""

    def end(self, number: int, error: str) -> None:
        """End a connection, with the text of what went wrong or an empty one."""

    def finish(self) -> None:
        """End everything."""

    def take(self) -> bytes:
        """The bytes that are to be sent, once."""


class SpdyForwards:
    """A pair of SPDY streams for each connection; both have the request's number and the port in their headers.

    Clients open the stream for errors first, and the connection is made when the one for data is opened.
    """

    def __init__(self) -> None:
        self._session = SpdySession()
        self._errors: dict[str, int] = {}  # by the request: the stream for errors, until that for data comes
        self._error_of: dict[int, int | None] = {}  # by the stream for data

    @property
    def has_left(self) -> bool:
        return self._session.has_left

    def receive(self, data: bytes) -> Iterator[Request]:
        for event in self._session.receive(data):
            match event:
                case Opened(stream, headers):
                    yield from self._open(stream, headers)
                case Received(stream, payload) if stream in self._error_of:
                    yield Bytes(stream, payload)
                case Ended(stream) if stream in self._error_of:
                    yield Finished(stream)
                case Reset(stream) if stream in self._error_of:
                    yield Dropped(stream)

    def send(self, number: int, payload: bytes) -> None:
        self._session.send(number, payload)

    def end(self, number: int, error: str) -> None:
        self._session.end(number)
        stream = self._error_of.pop(number)
        if stream is not None:
            self._session.send(stream, error.encode())
            self._session.end(stream)

    def finish(self) -> None:
        self._session.go_away()

    def take(self) -> bytes:
        return self._session.take()

    def _open(self, stream: int, headers: Mapping[str, str]) -> Iterator[Request]:
        kind, port = headers.get("streamtype"), port_number(headers.get("port", ""))
        if port is None or kind not in ("data", "error"):
            self._session.reset(stream, REFUSED_STREAM)
        elif kind == "error":
            self._errors[headers.get("requestid") or str(stream)] = stream
        else:
            # Clients without request numbers open the two one after the other.
            self._error_of[stream] = self._errors.pop(headers.get("requestid") or str(stream - 2), None)
            yield Connect(stream, port)


class TunnelledForwards:
    """SPDY inside the binary messages of a WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket, self._inside = websocket, SpdyForwards()

    @property
    def has_left(self) -> bool:
        return self._websocket.has_left or self._inside.has_left

    def receive(self, data: bytes) -> Iterator[Request]:
        for message in self._websocket.receive(data):
            yield from self._inside.receive(message)

    def send(self, number: int, payload: bytes) -> None:
        self._inside.send(number, payload)

    def end(self, number: int, error: str) -> None:
        self._inside.end(number, error)

    def finish(self) -> None:
        self._inside.finish()
        self._wrap()
        self._websocket.close()

    def take(self) -> bytes:
        self._wrap()
        return self._websocket.take()

    def _wrap(self) -> None:
        if inside := self._inside.take():
            self._websocket.send(inside)


class ChannelForwards:
    """A pair of channels for each port, which begin with its number; every port is connected to once, at once."""

    def __init__(self, websocket: WebSocket, protocol: str, ports: Sequence[int]) -> None:
        self._messages = ChannelMessages(websocket, protocol)
        self._connects = [Connect(2 * index, port) for index, port in enumerate(ports)]
        self._open = {connect.number for connect in self._connects}
        for number, port in self._connects:
            for channel in (number, number + 1):
                self._messages.send(channel, struct.pack("<H", port))

    @property
    def has_left(self) -> bool:
        return self._messages.has_left or not self._open

    def receive(self, data: bytes) -> Iterator[Request]:
        connects, self._connects = self._connects, []
        yield from connects
        for channel, payload, _ in self._messages.receive(data):
            if channel in self._open:
                yield Bytes(channel, payload)

    def send(self, number: int, payload: bytes) -> None:
        self._messages.send(number, payload)

    def end(self, number: int, error: str) -> None:
        self._open.discard(number)
        if error:
            self._messages.send(number + 1, error.encode())

    def finish(self) -> None:
        self._messages.close()

    def take(self) -> bytes:
        return self._messages.take()


def port_number(text: str) -> int | None:
    """A TCP port; None when the text is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return number if 0 < number < 65536 else None
