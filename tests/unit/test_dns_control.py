"""The language of the name server's control socket, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.network.dns.control import END, END_OF_BLOCK, ControlError, Decoder, Item, Unit, encode_unit

# What knotc 3.2 sends for `zone-set cluster.local. web 5 A 10.96.3.4`, read off its socket.
RECORDED = (
    b"\x01\x10\x00\x08zone-set\x11\x00\x00\x16\x00\x0ecluster.local.\x17\x00\x03web"
    b"\x18\x00\x015\x19\x00\x01A\x1a\x00\x0910.96.3.4"
)
UNIT: Unit = {
    "cmd": "zone-set",
    "flags": "",
    "zone": "cluster.local.",
    "owner": "web",
    "ttl": "5",
    "type": "A",
    "data": "10.96.3.4",
}

_ITEMS: list[Item] = ["cmd", "error", "zone", "owner", "ttl", "type", "data"]
_UNITS = st.lists(st.dictionaries(st.sampled_from(_ITEMS), st.text(max_size=300)), max_size=5)


def _decoded(decoder: Decoder, pieces: list[bytes]) -> list[Unit]:
    units: list[Unit] = []
    for piece in pieces:
        decoder.feed(piece)
        units += decoder.units()
    return units


def test_a_unit_is_written_as_knotc_writes_it() -> None:
    assert encode_unit(UNIT) == RECORDED


@given(_UNITS, st.integers(1, 700))
def test_units_are_read_however_they_are_cut(units: list[Unit], size: int) -> None:
    data = b"".join(map(encode_unit, units)) + END_OF_BLOCK
    decoder = Decoder()
    assert _decoded(decoder, [data[start : start + size] for start in range(0, len(data), size)]) == units
    assert decoder.block_ended


@pytest.mark.parametrize("end", [END, END_OF_BLOCK])
def test_what_follows_the_end_of_a_block_is_left(end: bytes) -> None:
    decoder = Decoder()
    assert _decoded(decoder, [RECORDED + end + RECORDED + end]) == [UNIT]


def test_a_unit_is_not_complete_before_the_next_code() -> None:
    decoder = Decoder()
    assert _decoded(decoder, [RECORDED]) == []
    assert not decoder.block_ended


@pytest.mark.parametrize("data", [b"\x10\x00\x01a", b"\x01\x50\x00\x01a", b"\xff"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ControlError):
        _decoded(Decoder(), [data])
