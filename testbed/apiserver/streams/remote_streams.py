"""The streams of a program that runs far away - stdin, stdout, stderr, its status, its terminal's size - on one wire.

Two ways to carry them: a SPDY stream or a channel of WebSocket messages for each. Versions of the protocols above
(``channel.k8s.io``, ``v2.`` .. ``v5.channel.k8s.io``) differ in how the status is told: as a ``Status`` object from v4
on, before as the text of an error, if there is one. Terminal sizes came with v3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from testbed.apiserver.streams.channel_messages import ChannelMessages, channel_version
from testbed.apiserver.streams.spdy_frames import REFUSED_STREAM
from testbed.apiserver.streams.spdy_session import Ended, Opened, Received, Reset, SpdySession
from testbed.apiserver.streams.websocket import WebSocket
from testbed.cluster.objects import JsonObject

SPDY_PROTOCOLS = (*(f"v{version}.channel.k8s.io" for version in (5, 4, 3, 2)), "channel.k8s.io")
WEBSOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)

_KUBECTL_SETTLES_S = 0.05
_CHANNELS = ("stdin", "stdout", "stderr", "error", "resize")


class Arrival(NamedTuple):
    """Bytes that the client has sent on a stream, and whether they are its last."""

    name: str
    payload: bytes = b""
    ended: bool = False


class RemoteStreams(Protocol):
    """What both ways have in common; no input or output of their own."""

    @property
    def is_complete(self) -> bool:
        """Whether the client has opened every stream that it has asked for."""

    @property
    def has_left(self) -> bool:
        """Whether the client has said that it leaves."""

    @property
    def settling_s(self) -> float:
        """How long a client that has said nothing yet may need to be ready for what it is sent."""

    def receive(self, data: bytes) -> Iterator[Arrival]:
        """What the client's bytes say. Raises ProtocolError."""

    def send(self, name: str, payload: bytes) -> None:
        """Send bytes on ``stdout`` or ``stderr``."""

    def finish(self, status: JsonObject) -> None:
        """Say how it ended, and end every stream."""

    def take(self) -> bytes:
        """The bytes that are to be sent, once."""


class SpdyStreams:
    """A SPDY stream for each; the client opens those of ``names``, and ``error``."""

    settling_s = 0.0

    def __init__(self, protocol: str, names: frozenset[str]) -> None:
        self._version = channel_version(protocol)
        self._missing = set(names | {"error"})
        if self._version < 3:
            self._missing.discard("resize")
        self._session = SpdySession()
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}

    @property
    def is_complete(self) -> bool:
        return not self._missing

    @property
    def has_left(self) -> bool:
        return self._session.has_left

    def receive(self, data: bytes) -> Iterator[Arrival]:
        for event in self._session.receive(data):
            match event:
                case Opened(stream, headers):
                    self._open(stream, headers.get("streamtype", ""))
                case Received(stream, payload) if stream in self._names:
                    yield Arrival(self._names[stream], payload)
                case Ended(stream) | Reset(stream) if stream in self._names:
                    yield Arrival(self._names[stream], ended=True)

    def send(self, name: str, payload: bytes) -> None:
        if name in self._numbers:
            self._session.send(self._numbers[name], payload)

    def finish(self, status: JsonObject) -> None:
        self.send("error", _told(status, self._version))
        for stream in self._names:
            self._session.end(stream)
        self._session.go_away()

    def take(self) -> bytes:
        return self._session.take()

    def _open(self, stream: int, name: str) -> None:
        if name not in self._missing:
            self._session.reset(stream, REFUSED_STREAM)
            return
        self._missing.discard(name)
        self._numbers[name], self._names[stream] = stream, name


class WebSocketStreams:
    """A channel for each, all there from the start."""

    is_complete = True

    def __init__(self, websocket: WebSocket, protocol: str, names: frozenset[str]) -> None:
        self._messages, self._names = ChannelMessages(websocket, protocol), names
        # kubectl 1.32 drops what comes before it has made its streams, which it does just after the handshake.
        self.settling_s = _KUBECTL_SETTLES_S if self._messages.version >= 5 else 0.0
        if self._messages.version < 5:
            # An empty message on the first channel that is written to says that the connection is there.
            self._messages.send(min(_CHANNELS.index(name) for name in names - {"stdin", "resize"} | {"error"}), b"")

    @property
    def has_left(self) -> bool:
        return self._messages.has_left

    def receive(self, data: bytes) -> Iterator[Arrival]:
        for channel, payload, ended in self._messages.receive(data):
            name = _CHANNELS[channel] if 0 <= channel < len(_CHANNELS) else ""
            if name in ("stdin", "resize") and name in self._names:  # what comes on others is ignored
                yield Arrival(name, payload, ended)

    def send(self, name: str, payload: bytes) -> None:
        if name in self._names:
            self._messages.send(_CHANNELS.index(name), payload)

    def finish(self, status: JsonObject) -> None:
        if told := _told(status, self._messages.version):
            self._messages.send(_CHANNELS.index("error"), told)
        self._messages.close()

    def take(self) -> bytes:
        return self._messages.take()


def _told(status: JsonObject, version: int) -> bytes:
    if version >= 4:
        return json.dumps(status).encode()
    return b"" if status["status"] == "Success" else str(status["message"]).encode()
