"""The server's side of a SPDY/3.1 connection, as Kubernetes uses it: clients open streams, both sides send on them.

There is no flow control: Kubernetes' own implementation (``moby/spdystream``) neither heeds nor sends WINDOW_UPDATE, so
whoever waits for one would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.apiserver.streams.spdy_frames import (
    INVALID_STREAM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Data,
    FrameReader,
    FrameWriter,
    GoAway,
    Ping,
    RstStream,
    SynReply,
    SynStream,
)

MAX_STREAMS = 4096
"""How many streams a client may have open at once."""

_MAX_PAYLOAD = 64 * 1024


class Opened(NamedTuple):
    """The client has opened a stream, which is accepted."""

    stream: int
    headers: Mapping[str, str]


class Received(NamedTuple):
    """The client has sent bytes on a stream."""

    stream: int
    payload: bytes


class Ended(NamedTuple):
    """The client sends no more on a stream."""

    stream: int


class Reset(NamedTuple):
    """The client has given a stream up; nothing can be sent on it."""

    stream: int


Event = Opened | Received | Ended | Reset


class SpdySession:
    """Bytes from the client to events, and what is to be sent to bytes; no input or output of its own."""

    def __init__(self) -> None:
        self.has_left = False
        """The client has said that it goes away."""
        self._reader, self._writer = FrameReader(), FrameWriter()
        self._outgoing = bytearray()
        self._sending: set[int] = set()  # streams that this side has not ended
        self._receiving: set[int] = set()  # streams that the client has not ended
        self._newest = 0

    def receive(self, data: bytes) -> Iterator[Event]:
        """What the client's bytes say. Raises ProtocolError."""
        for frame in self._reader.feed(data):
            match frame:
                case SynStream(stream, headers, fin):
                    yield from self._open(stream, headers, fin)
                case Data(stream, payload, fin):
                    yield from self._data(stream, payload, fin)
                case RstStream(stream):
                    if stream in self._sending or stream in self._receiving:
                        self._forget(stream)
                        yield Reset(stream)
                case Ping(number) if number % 2:  # the client's own; an even one would answer ours
                    self._put(frame)
                case GoAway():
                    self.has_left = True

    def send(self, stream: int, payload: bytes) -> None:
        """Send bytes on a stream; nothing happens when it has ended meanwhile."""
        if stream in self._sending:
            for start in range(0, len(payload), _MAX_PAYLOAD):
                self._put(Data(stream, payload[start : start + _MAX_PAYLOAD]))

    def end(self, stream: int) -> None:
        """Send no more on a stream."""
        if stream in self._sending:
            self._sending.discard(stream)
            self._put(Data(stream, fin=True))

    def reset(self, stream: int, status: int) -> None:
        """Give a stream up."""
        self._forget(stream)
        self._put(RstStream(stream, status))

    def go_away(self) -> None:
        """Say that the connection ends."""
        self._put(GoAway(self._newest))

    def take(self) -> bytes:
        """The bytes that are to be sent, once."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken

    def _open(self, stream: int, headers: Mapping[str, str], fin: bool) -> Iterator[Event]:
        if stream % 2 == 0 or stream <= self._newest:
            self.reset(stream, PROTOCOL_ERROR)
            raise ProtocolError(f"stream {stream} cannot be opened after stream {self._newest}")
        self._newest = stream
        if len(self._sending | self._receiving) >= MAX_STREAMS:
            self.reset(stream, REFUSED_STREAM)
            return
        self._sending.add(stream)
        self._receiving.add(stream)
        self._put(SynReply(stream))
        yield Opened(stream, headers)
        if fin:
            self._receiving.discard(stream)
            yield Ended(stream)

    def _data(self, stream: int, payload: bytes, fin: bool) -> Iterator[Event]:
        if stream not in self._receiving:
            if stream > self._newest:
                self._put(RstStream(stream, INVALID_STREAM))
            return  # it was given up while the client was sending
        if payload:
            yield Received(stream, payload)
        if fin:
            self._receiving.discard(stream)
            yield Ended(stream)

    def _forget(self, stream: int) -> None:
        self._sending.discard(stream)
        self._receiving.discard(stream)

    def _put(self, frame: Data | RstStream | SynReply | Ping | GoAway) -> None:
        self._outgoing += self._writer.encode(frame)
