"""The server's side of a WebSocket connection (RFC 6455): whole messages, pings and the closing handshake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NoReturn

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from testbed.cluster.status import BadRequest

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""How long a message of the client may be."""

_NORMAL_CLOSURE, _TOO_BIG = 1000, 1009


class WebSocket:
    """Bytes from the client to messages and back; no input or output of its own.

    Made of the headers of the client's request. Raises BadRequest when they ask for no WebSocket.
    """

    def __init__(self, headers: Iterable[tuple[str, str]], path: str) -> None:
        self.has_left = False
        """The client has closed the connection, or broken its protocol."""
        self._connection = WSConnection(ConnectionType.SERVER)
        try:
            self._connection.initiate_upgrade_connection(
                [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], path.encode("latin-1")
            )
        except RemoteProtocolError as error:
            _refuse(error)
        [request] = self._connection.events()
        if not isinstance(request, Request):
            raise BadRequest("unable to upgrade: the request asks for no WebSocket")
        self.offered = list(request.subprotocols)
        """The subprotocols that the client speaks, the best first."""
        self._outgoing = bytearray()
        self._message = bytearray()

    def accept(self, subprotocol: str | None) -> None:
        """Answer the client's request."""
        self._outgoing += self._connection.send(AcceptConnection(subprotocol=subprotocol))

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with these bytes; those of text in UTF-8."""
        if self._connection.state is not ConnectionState.CLOSED:
            self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case BytesMessage() | TextMessage():
                    self._message += event.data.encode() if isinstance(event, TextMessage) else event.data
                    if len(self._message) > MAX_MESSAGE_BYTES:
                        self.close(_TOO_BIG)
                        self.has_left = True
                        return
                    if event.message_finished:
                        message = bytes(self._message)
                        self._message.clear()
                        yield message
                case Ping():
                    self._outgoing += self._connection.send(event.response())
                case CloseConnection():
                    self.has_left = True
                    if self._connection.state is ConnectionState.REMOTE_CLOSING:
                        self._outgoing += self._connection.send(event.response())
                    return

    def send(self, payload: bytes) -> None:
        """Send a binary message; nothing happens when the connection has been closed."""
        if self._connection.state is ConnectionState.OPEN:
            self._outgoing += self._connection.send(BytesMessage(payload))

    def send_text(self, text: str) -> None:
        """Send a text message; nothing happens when the connection has been closed."""
        if self._connection.state is ConnectionState.OPEN:
            self._outgoing += self._connection.send(TextMessage(text))

    def close(self, code: int = _NORMAL_CLOSURE) -> None:
        """Begin the closing handshake."""
        if self._connection.state is ConnectionState.OPEN:
            self._outgoing += self._connection.send(CloseConnection(code))

    def take(self) -> bytes:
        """The bytes that are to be sent, once."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken


def _refuse(error: RemoteProtocolError) -> NoReturn:
    raise BadRequest(f"unable to upgrade: {error}")
