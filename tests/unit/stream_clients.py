"""Small clients for the API's streams: SPDY, as kubectl before 1.30 speaks it, and WebSocket, as later ones do."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import urlencode

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from testbed.apiserver.streams.spdy_frames import Data, Frame, FrameReader, FrameWriter, SynStream

POD = "/api/v1/namespaces/default/pods/web"


def url(subresource: str, **query: object) -> str:
    """The path of a pod's subresource; parameters may be lists."""
    return f"{POD}/{subresource}?{urlencode(query, doseq=True)}"


class Refused(Exception):
    """The server's answer to a request for another protocol, when it is no 101."""


class SpdyClient:
    """A SPDY connection: frames out, frames in; the answers to opened streams are taken care of."""

    def __init__(self, port: int, path: str, protocol: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
        lines += [f"X-Stream-Protocol-Version: {one}" for one in protocol.split(",") if one]
        self.socket.sendall("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            got = self.socket.recv(65536)
            assert got
            answer += got
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Refused(answer.decode())
        self.head = head.decode()
        self._writer, self._reader = FrameWriter(), FrameReader()
        self._frames = list(self._reader.feed(rest))
        self._next = 1

    def send(self, frame: Frame) -> None:
        self.socket.sendall(self._writer.encode(frame))

    def open(self, fin: bool = False, **headers: str) -> int:
        """Open a stream; its number."""
        stream, self._next = self._next, self._next + 2
        self.send(SynStream(stream, headers, fin))
        return stream

    def frames(self) -> Iterator[Frame]:
        """The server's frames until it closes."""
        while True:
            while self._frames:
                yield self._frames.pop(0)
            data = self.socket.recv(65536)
            if not data:
                return
            self._frames += self._reader.feed(data)

    def until_end(self) -> dict[int, bytes]:
        """All that comes until the server closes, by the stream."""
        got: defaultdict[int, bytearray] = defaultdict(bytearray)
        for frame in self.frames():
            if isinstance(frame, Data):
                got[frame.stream] += frame.payload
        return {stream: bytes(payload) for stream, payload in got.items()}


class WebSocketClient:
    """A WebSocket connection: messages out, messages in."""

    def __init__(self, port: int, path: str, *protocols: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self.socket.sendall(self._connection.send(Request(host="x", target=path, subprotocols=list(protocols))))
        self._events = self._read()
        answer = next(self._events)
        if isinstance(answer, RejectConnection):
            raise Refused(str(answer.status_code))
        assert isinstance(answer, AcceptConnection)
        self.protocol = answer.subprotocol

    def send(self, payload: bytes | str) -> None:
        message = TextMessage(payload) if isinstance(payload, str) else BytesMessage(payload)
        self.socket.sendall(self._connection.send(message))

    def ping(self) -> bytes:
        """Ask for a sign of life; what comes back."""
        self.socket.sendall(self._connection.send(Ping(b"there?")))
        for event in self._events:
            if isinstance(event, Pong):
                return bytes(event.payload)
        return b""

    def messages(self) -> Iterator[bytes]:
        """The server's messages until it closes."""
        message = b""
        for event in self._events:
            if isinstance(event, BytesMessage | TextMessage):
                message += event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
                if event.message_finished:
                    yield message
                    message = b""
            elif isinstance(event, CloseConnection):
                self.code = event.code
                self.socket.sendall(self._connection.send(event.response()))
                return

    def until_end(self) -> dict[int, bytes]:
        """All that comes until the server closes, by the channel."""
        got: defaultdict[int, bytearray] = defaultdict(bytearray)
        for message in self.messages():
            got[message[0]] += message[1:]
        return {channel: bytes(payload) for channel, payload in got.items()}

    def _read(self) -> Iterator[object]:
        while True:
            yield from self._connection.events()
            data = self.socket.recv(65536)
            if not data:
                return
            self._connection.receive_data(data)
