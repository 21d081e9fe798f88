"""The language of Knot DNS's control socket, which ``knotc`` speaks: units of named texts, ended by a block mark.

It is used, and not RFC 2136 updates, for three reasons. A transaction of any size becomes visible at once. A zone need
not exist before it is filled. And Knot DNS 3.2 plans the work of an update by whole seconds, together with that of
notifying secondary servers: where both fall into the same second, the update waits until the next one begins
(src/knot/events/events.c, ``old_next != next``); measured: one update in a hundred took a second instead of 10 ms.

The format is that of libknot's ``knot_ctl`` (src/libknot/control/control.c), the same in Knot DNS 2.3 to 3.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

Item = Literal["cmd", "flags", "error", "section", "item", "id", "zone", "owner", "ttl", "type", "data", "filter"]
Unit = dict[Item, str]

_ITEMS: tuple[Item, ...] = get_args(Item)  # in the order of knot_ctl_idx_t
_END, _DATA, _EXTRA, _BLOCK = range(4)
_FIRST_ITEM = 16
_CODES: dict[Item, bytes] = {name: bytes((_FIRST_ITEM + index,)) for index, name in enumerate(_ITEMS)}
_NAMES: dict[int, Item] = {_FIRST_ITEM + index: name for index, name in enumerate(_ITEMS)}

END_OF_BLOCK = bytes((_BLOCK,))
END = bytes((_END,))


class ControlError(ValueError):
    """Bytes that are not in this language."""


def encode_unit(unit: Mapping[Item, str]) -> bytes:
    """One unit of a block."""
    parts = [b"\x01"]
    for name, text in unit.items():
        data = text.encode()
        parts += (_CODES[name], len(data).to_bytes(2, "big"), data)
    return b"".join(parts)


class Decoder:
    """Makes units out of bytes as they come. After ``feed``, ask for ``units()`` and ``block_ended``."""

    def __init__(self) -> None:
        self._buffer = b""
        self._unit: Unit | None = None
        self.block_ended = False

    def feed(self, data: bytes) -> None:
        """Take in what has come."""
        self._buffer += data

    def units(self) -> Iterator[Unit]:
        """The units that are complete. Stops at the end of the block. Raises ControlError."""
        buffer, offset, length = self._buffer, 0, len(self._buffer)
        while offset < length and not self.block_ended:
            code = buffer[offset]
            if code in _NAMES and self._unit is not None:
                start = offset + 3
                end = start + int.from_bytes(buffer[offset + 1 : start], "big")
                if start > length or end > length:
                    break
                self._unit[_NAMES[code]] = buffer[start:end].decode()
                offset = end
            elif code in (_END, _DATA, _EXTRA, _BLOCK):
                if self._unit is not None:
                    yield self._unit
                self._unit = {} if code in (_DATA, _EXTRA) else None
                self.block_ended = code in (_END, _BLOCK)
                offset += 1
            else:
                raise ControlError(f"code {code} is not expected")
        self._buffer = buffer[offset:]
