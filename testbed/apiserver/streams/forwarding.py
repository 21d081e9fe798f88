"""Moves bytes between a client and the ports of a pod: one loop for all connections of the client."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from testbed.apiserver.streams.client_socket import FULL_BYTES, READ_BYTES, ClientSocket, ready
from testbed.apiserver.streams.forwards import Bytes, Connect, Dropped, Finished, Forwards
from testbed.cluster.status import ApiError


class _PodConnection:
    """A connection to a port of the pod, and what the pod has not read yet."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number, self.socket = number, sock
        self.incoming = bytearray()
        self.client_finished = False
        self._finish_passed_on = False
        sock.setblocking(False)

    def pass_on(self) -> None:
        """Give the pod what it takes now, and the end when it comes to that. Raises OSError."""
        while self.incoming:
            try:
                del self.incoming[: self.socket.send(self.incoming[:FULL_BYTES])]
            except BlockingIOError:
                return
        if self.client_finished and not self._finish_passed_on:
            self._finish_passed_on = True
            self.socket.shutdown(socket.SHUT_WR)

    def wanted(self, client_is_full: bool) -> int:
        return (0 if client_is_full else select.POLLIN) | (select.POLLOUT if self.incoming else 0)


class Forwarding:
    """The connections of one client. ``connect`` makes one to a port of the pod, or raises OSError or ApiError."""

    def __init__(
        self, client: ClientSocket, forwards: Forwards, connect: Callable[[int], socket.socket], pod: str
    ) -> None:
        self._client, self._forwards, self._connect, self._pod = client, forwards, connect, pod
        self._connections: dict[int, _PodConnection] = {}

    def run(self, early: bytes) -> None:
        """Serve the client until it leaves; ``early`` is what it has sent already. Raises ProtocolError."""
        try:
            self._take_in(early)
            while not self._client.has_left and not self._forwards.has_left:
                found = ready(self._wanted())
                self._take_in(self._client.receive(found.get(self._client.fileno(), 0)))
                for connection in list(self._connections.values()):
                    if events := found.get(connection.socket.fileno(), 0):
                        self._serve(connection, events)
                self._client.send(self._forwards.take())
            self._forwards.finish()
            self._client.send(self._forwards.take())
            self._client.finish()
        finally:
            for connection in self._connections.values():
                connection.socket.close()

    def _wanted(self) -> dict[int, int]:
        # One connection whose pod does not read stops the client for all: none of the protocols can stop one alone.
        reads = all(len(connection.incoming) < FULL_BYTES for connection in self._connections.values())
        wanted = {self._client.fileno(): self._client.wanted(reads)}
        for connection in self._connections.values():
            if events := connection.wanted(self._client.is_full):
                wanted[connection.socket.fileno()] = events
        return wanted

    def _take_in(self, data: bytes) -> None:
        for request in self._forwards.receive(data):
            if isinstance(request, Connect):
                self._open(request)
            elif (connection := self._connections.get(request.number)) is not None:
                match request:
                    case Bytes(_, payload):
                        connection.incoming += payload
                    case Finished():
                        connection.client_finished = True
                    case Dropped():
                        self._close(connection)
                        continue
                self._pass_on(connection)
        self._client.send(self._forwards.take())

    def _open(self, request: Connect) -> None:
        try:
            sock = self._connect(request.port)
        except (OSError, ApiError) as error:
            why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
            self._forwards.end(request.number, self._error(request.port, f"connect: {why}"))
            return
        self._connections[request.number] = _PodConnection(request.number, sock)

    def _error(self, port: int, why: str) -> str:
        return f"error forwarding port {port} to pod {self._pod}: dial tcp4 127.0.0.1:{port}: {why}"

    def _serve(self, connection: _PodConnection, events: int) -> None:
        if events & select.POLLOUT and not self._pass_on(connection):
            return
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            try:
                data = connection.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._forwards.send(connection.number, data)
            else:
                self._close(connection)

    def _pass_on(self, connection: _PodConnection) -> bool:
        try:
            connection.pass_on()
        except OSError:
            self._close(connection)
            return False
        return True

    def _close(self, connection: _PodConnection) -> None:
        del self._connections[connection.number]
        connection.socket.close()
        self._forwards.end(connection.number, "")
