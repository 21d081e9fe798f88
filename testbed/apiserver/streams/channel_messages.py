"""Numbered channels in WebSocket messages: ``channel.k8s.io`` and its later versions, plain or in base64.

A message's first byte is the channel's number, in base64 its digit. From v5 on, 255 and a number end that channel.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import NamedTuple

from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.apiserver.streams.websocket import WebSocket

_CLOSE = 255


class Message(NamedTuple):
    """What the client has sent on a channel, and whether it is its last."""

    channel: int
    payload: bytes = b""
    ended: bool = False


class ChannelMessages:
    """Messages with numbers on a WebSocket that speaks one of the protocols; without a name, it is the first."""

    def __init__(self, websocket: WebSocket, protocol: str) -> None:
        self.version = channel_version(protocol)
        self._websocket, self._base64 = websocket, "base64" in protocol

    @property
    def has_left(self) -> bool:
        """Whether the client has closed the WebSocket."""
        return self._websocket.has_left

    def receive(self, data: bytes) -> Iterator[Message]:
        """What the client's bytes say. Raises ProtocolError."""
        for message in self._websocket.receive(data):
            if self._base64 and message:
                yield Message(message[0] - ord("0"), _decoded(message[1:]))
            elif self.version >= 5 and message[:1] == bytes([_CLOSE]):
                yield from (Message(channel, ended=True) for channel in message[1:2])
            elif message:
                yield Message(message[0], message[1:])

    def send(self, channel: int, payload: bytes) -> None:
        """Send bytes on a channel."""
        if self._base64:
            self._websocket.send_text(f"{channel}{base64.b64encode(payload).decode()}")
        else:
            self._websocket.send(bytes([channel]) + payload)

    def close(self) -> None:
        """End all channels."""
        self._websocket.close()

    def take(self) -> bytes:
        """The bytes that are to be sent, once."""
        return self._websocket.take()


def channel_version(protocol: str) -> int:
    """The version of a channel protocol, ``channel.k8s.io`` and no name at all being the first."""
    return int(protocol[1]) if protocol.startswith("v") else 1


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ProtocolError(f"a message is not base64: {error}") from None
