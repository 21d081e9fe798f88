"""Messages between the testbed and the parent of all pods' processes: JSON, each after its length in four bytes."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")


def send(connection: socket.socket, message: Message) -> None:
    """Send one message whole. Raises OSError."""
    body = json.dumps(message, separators=(",", ":")).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


class Incoming:
    """Takes in bytes as they come, and gives out the messages that are complete."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def take(self, received: bytes) -> list[Message]:
        """The messages that are complete with these bytes. Raises ValueError for what is no message."""
        self._bytes += received
        messages = []
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                break
            messages.append(json.loads(self._bytes[_LENGTH.size : end]))
            del self._bytes[:end]
        return messages
