"""SPDY/3.1: frames as bytes and back, what a real client sends, and what a broken one may send."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.apiserver.streams.spdy_frames import (
    MAX_CONTROL_BYTES,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Data,
    FrameReader,
    FrameWriter,
    GoAway,
    Headers,
    Ping,
    RstStream,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from testbed.apiserver.streams.spdy_headers import DICTIONARY, MAX_BLOCK_BYTES, HeaderWriter
from testbed.apiserver.streams.spdy_session import MAX_STREAMS, Ended, Opened, Received, Reset, SpdySession

# `echo hello | kubectl exec -i web -- cat` by kubectl 1.20.2, from the end of its request's headers on.
RECORDED = bytes.fromhex(
    "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff"
    "800300010000001700000003000000000000c22e555c92929907000000ffff"
    "800300010000001900000005000000000000c22ac5565c92925f5a02000000ffff"
    "800300010000001500000007000000000000c229975a5404000000ffff"
    "000000030000000668656c6c6f0a"
    "0000000301000000"
)
RECORDED_FRAMES = [
    SynStream(1, {"streamtype": "error"}),
    SynStream(3, {"streamtype": "stdin"}),
    SynStream(5, {"streamtype": "stdout"}),
    SynStream(7, {"streamtype": "stderr"}),
    Data(3, b"hello\n"),
    Data(3, b"", fin=True),
]

streams = st.integers(1, 0x7FFFFFFF)
words = st.integers(0, 0xFFFFFFFF)
headers = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50), max_size=5)
frames = st.one_of(
    st.builds(SynStream, streams, headers, st.booleans()),
    st.builds(SynReply, streams, headers, st.booleans()),
    st.builds(Headers, streams, headers, st.booleans()),
    st.builds(RstStream, streams, words),
    st.builds(Data, streams, st.binary(max_size=300), st.booleans()),
    st.builds(Ping, words),
    st.builds(GoAway, st.integers(0, 0x7FFFFFFF), words),
    st.builds(Settings, st.lists(st.tuples(words, words), max_size=4).map(tuple)),
    st.builds(WindowUpdate, st.integers(0, 0x7FFFFFFF), st.integers(0, 0x7FFFFFFF)),
)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(data: bytes, size: int = 1 << 20) -> list[object]:
    reader = FrameReader()
    return [frame for piece in in_pieces(data, size) for frame in reader.feed(piece)]


@given(st.lists(frames, max_size=8), st.integers(1, 100))
def test_frames_survive_the_wire_in_pieces_of_any_length(sent, size):
    writer = FrameWriter()
    assert read(b"".join(writer.encode(frame) for frame in sent), size) == sent


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_kubectl_sends_is_understood(size):
    assert read(RECORDED, size) == RECORDED_FRAMES


def test_the_dictionary_is_the_drafts():
    # zlib streams name their dictionary by this number: the recorded one does, too.
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2 == int.from_bytes(RECORDED[20:24], "big")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (struct.pack(">HHI", 0x8002, 6, 4) + bytes(4), "version 2"),
        (struct.pack(">HHI", 0x8003, 1, MAX_CONTROL_BYTES + 1), "65537 bytes"),
        (struct.pack(">HHI", 0x8003, 3, 4) + bytes(4), "too short"),
        (struct.pack(">HHII", 0x8003, 4, 4, 0xFFFFFFFF), "too short"),
        (struct.pack(">II", 0, 0), "stream 0"),
        (struct.pack(">HHIIIH", 0x8003, 1, 14, 1, 0, 0) + b"nonz", "decompressed"),
        (struct.pack(">HHIIIH", 0x8003, 1, 10, 1, 0, 0), "too early"),
    ],
)
def test_what_is_no_frame_is_refused(data, text):
    with pytest.raises(ProtocolError, match=text):
        read(data)


def test_a_header_block_cannot_grow_without_end():
    bomb = HeaderWriter().block({"a": "x" * (MAX_BLOCK_BYTES + 1)})
    assert len(bomb) < 1000
    with pytest.raises(ProtocolError, match="more than"):
        read(struct.pack(">HHIIIH", 0x8003, 1, 10 + len(bomb), 1, 0, 0) + bomb)


@pytest.mark.parametrize("block", [{"": "x"}, {"a": "x", "A": "y"}])
def test_headers_have_names_once(block):
    data = HeaderWriter().block(block)
    frame = struct.pack(">HHIIIH", 0x8003, 1, 10 + len(data), 1, 0, 0) + data
    if "" in block:
        with pytest.raises(ProtocolError, match="no name"):
            read(frame)
    else:
        assert read(frame) == [SynStream(1, block)]


def test_unknown_control_frames_are_left_out():
    assert read(struct.pack(">HHI", 0x8003, 11, 3) + b"abc" + FrameWriter().encode(Ping(1))) == [Ping(1)]


class Client:
    """The other side of a session."""

    def __init__(self) -> None:
        self.session, self._writer, self._reader = SpdySession(), FrameWriter(), FrameReader()

    def say(self, *frames):
        return list(self.session.receive(b"".join(self._writer.encode(frame) for frame in frames)))

    def heard(self):
        return list(self._reader.feed(self.session.take()))


def test_a_streams_life():
    client = Client()
    assert client.say(SynStream(1, {"streamtype": "stdin"})) == [Opened(1, {"streamtype": "stdin"})]
    assert client.heard() == [SynReply(1)]
    assert client.say(Data(1, b"a"), Data(1, b"b", fin=True)) == [Received(1, b"a"), Received(1, b"b"), Ended(1)]
    client.session.send(1, b"x" * 70_000)
    client.session.end(1)
    client.session.end(1)
    client.session.send(1, b"too late")
    assert client.heard() == [Data(1, b"x" * 65536), Data(1, b"x" * 4464), Data(1, b"", fin=True)]
    assert client.say(Data(1, b"after the end")) == []
    client.session.go_away()
    assert client.heard() == [GoAway(1)]


def test_a_stream_that_is_given_up_is_silent():
    client = Client()
    client.say(SynStream(1), SynStream(3))
    client.heard()
    assert client.say(RstStream(1), Data(1, b"late"), RstStream(1), RstStream(99)) == [Reset(1)]
    client.session.send(1, b"nobody reads it")
    client.session.reset(3, REFUSED_STREAM)
    assert client.heard() == [RstStream(3, REFUSED_STREAM)]
    assert client.say(Data(3, b"under way")) == []


def test_pings_are_answered_and_advice_is_ignored():
    client = Client()
    assert client.say(Ping(1), Ping(2), Settings(((7, 65536),)), WindowUpdate(0, 5), Data(9, b"?")) == []
    assert client.heard() == [Ping(1), RstStream(9, 2)]
    assert not client.session.has_left
    client.say(GoAway())
    assert client.session.has_left


@pytest.mark.parametrize("number", [1, 2])
def test_stream_numbers_are_odd_and_rise(number):
    client = Client()
    client.say(SynStream(3))
    with pytest.raises(ProtocolError, match="cannot be opened"):
        client.say(SynStream(number))
    assert client.heard() == [SynReply(3), RstStream(number, PROTOCOL_ERROR)]


def test_streams_have_a_limit():
    client = Client()
    opened = client.say(*(SynStream(2 * index + 1) for index in range(MAX_STREAMS + 1)))
    assert len(opened) == MAX_STREAMS
    assert client.heard()[-1] == RstStream(2 * MAX_STREAMS + 1, REFUSED_STREAM)


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data):
    session = SpdySession()
    try:
        list(session.receive(RECORDED + data))
    except ProtocolError:
        return
    session.take()
