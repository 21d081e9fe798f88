"""The frames of SPDY/3.1: bytes to values and back.

Source: the draft "SPDY Protocol - Draft 3.1", sections 2.2 and 2.6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.apiserver.streams.spdy_headers import HeaderReader, HeaderWriter

VERSION = 3
MAX_CONTROL_BYTES = 64 * 1024
"""How long a control frame may be (data frames: what their 24 bits of length can say)."""

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
"""Statuses of RST_STREAM that are used here."""

_FIN = 0x01


class _Kind(IntEnum):
    SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9


@dataclass(frozen=True)
class SynStream:
    """A new stream; ``fin``: its sender will send nothing on it."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class SynReply:
    """A stream that was accepted."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class RstStream:
    """A stream that ends at once, in both directions."""

    stream: int
    status: int = CANCEL


@dataclass(frozen=True)
class Headers:
    """Further headers of a stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True)
class Data:
    """Bytes of a stream; ``fin``: its sender's last."""

    stream: int
    payload: bytes = b""
    fin: bool = False


@dataclass(frozen=True)
class Ping:
    """A question that is answered by itself; clients ask with odd numbers."""

    number: int


@dataclass(frozen=True)
class GoAway:
    """The sender accepts no more streams."""

    last_stream: int = 0
    status: int = 0


@dataclass(frozen=True)
class Settings:
    """Advice about the connection: pairs of an identifier and a value."""

    values: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class WindowUpdate:
    """More bytes that the sender is willing to receive, on a stream or (0) in all."""

    stream: int
    delta: int


Frame = SynStream | SynReply | RstStream | Headers | Data | Ping | GoAway | Settings | WindowUpdate


class FrameWriter:
    """Frames to bytes, for one direction of a connection."""

    def __init__(self) -> None:
        self._headers = HeaderWriter()

    def encode(self, frame: Frame) -> bytes:
        """The bytes of the next frame: headers are compressed with what came before."""
        match frame:
            case Data(stream, payload, fin):
                return struct.pack(">II", stream, _flags(fin) << 24 | len(payload)) + payload
            case SynStream(stream, headers, fin):
                return _control(_Kind.SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._headers.block(headers), fin)
            case SynReply(stream, headers, fin):
                return _control(_Kind.SYN_REPLY, struct.pack(">I", stream) + self._headers.block(headers), fin)
            case Headers(stream, headers, fin):
                return _control(_Kind.HEADERS, struct.pack(">I", stream) + self._headers.block(headers), fin)
            case RstStream(stream, status):
                return _control(_Kind.RST_STREAM, struct.pack(">II", stream, status))
            case Ping(number):
                return _control(_Kind.PING, struct.pack(">I", number))
            case GoAway(last_stream, status):
                return _control(_Kind.GOAWAY, struct.pack(">II", last_stream, status))
            case WindowUpdate(stream, delta):
                return _control(_Kind.WINDOW_UPDATE, struct.pack(">II", stream, delta))
            case Settings(values):
                pairs = b"".join(struct.pack(">II", identifier, value) for identifier, value in values)
                return _control(_Kind.SETTINGS, struct.pack(">I", len(values)) + pairs)


class FrameReader:
    """Bytes to frames, for one direction of a connection."""

    def __init__(self) -> None:
        self._headers = HeaderReader()
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these bytes, but for control frames of unknown types, as the draft says.

        Raises ProtocolError.
        """
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= 8:
                head, flags_and_length = struct.unpack_from(">II", self._buffer, position)
                length = flags_and_length & 0xFFFFFF
                is_control = bool(head & 0x80000000)
                if is_control and length > MAX_CONTROL_BYTES:
                    raise ProtocolError(f"a control frame of {length} bytes")
                if len(self._buffer) - position - 8 < length:
                    break
                body = bytes(self._buffer[position + 8 : position + 8 + length])
                position += 8 + length
                fin = bool(flags_and_length >> 24 & _FIN)
                frame = self._control(head, body, fin) if is_control else _data(head, body, fin)
                if frame is not None:
                    yield frame
        finally:
            del self._buffer[:position]

    def _control(self, head: int, body: bytes, fin: bool) -> Frame | None:
        version, kind = head >> 16 & 0x7FFF, head & 0xFFFF
        if version != VERSION:
            raise ProtocolError(f"a frame of SPDY version {version}")
        try:
            match kind:
                case _Kind.SYN_STREAM:
                    stream, _, _ = struct.unpack_from(">IIH", body)
                    return SynStream(_stream(stream), self._headers.headers(body[10:]), fin)
                case _Kind.SYN_REPLY:
                    return SynReply(_stream(*_numbers(body, 1)), self._headers.headers(body[4:]), fin)
                case _Kind.RST_STREAM:
                    stream, status = _numbers(body, 2)
                    return RstStream(_stream(stream), status)
                case _Kind.SETTINGS:
                    (count,) = _numbers(body, 1)
                    values = _numbers(body, 1 + 2 * count)[1:]
                    return Settings(tuple(zip(values[::2], values[1::2], strict=True)))
                case _Kind.PING:
                    return Ping(*_numbers(body, 1))
                case _Kind.GOAWAY:
                    last, status = _numbers(body, 2)
                    return GoAway(last & 0x7FFFFFFF, status)
                case _Kind.HEADERS:
                    return Headers(_stream(*_numbers(body, 1)), self._headers.headers(body[4:]), fin)
                case _Kind.WINDOW_UPDATE:
                    stream, delta = _numbers(body, 2)
                    return WindowUpdate(stream & 0x7FFFFFFF, delta & 0x7FFFFFFF)
        except struct.error:
            raise ProtocolError(f"a control frame of type {kind} is too short") from None
        return None


def _numbers(body: bytes, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f">{count}I", body)


def _data(head: int, body: bytes, fin: bool) -> Data:
    return Data(_stream(head), body, fin)


def _stream(number: int) -> int:
    stream = number & 0x7FFFFFFF
    if stream == 0:
        raise ProtocolError("stream 0 is no stream")
    return stream


def _control(kind: int, body: bytes, fin: bool = False) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, _flags(fin) << 24 | len(body)) + body


def _flags(fin: bool) -> int:
    return _FIN if fin else 0
