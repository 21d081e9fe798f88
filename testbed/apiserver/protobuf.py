"""The few parts of the protocol buffers' encoding that a document of texts and messages needs.

https://protobuf.dev/programming-guides/encoding/: every field here is of wire type 2, length and bytes.
"""

from __future__ import annotations


def field(number: int, payload: bytes) -> bytes:
    """A message or bytes as a field of a message."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def text(number: int, value: str) -> bytes:
    """A string as a field of a message."""
    return field(number, value.encode())


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
