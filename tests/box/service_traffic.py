"""Servers that say who they are and whom they see, and clients that ask them: for the tests of Services."""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from testbed.network.netns import entered

_KINDS = {
    "TCP": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "UDP": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "SCTP": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
# An SCTP client has no TIME_WAIT: Linux may choose a port again whose last association is still tracked, and that is
# given to the same server, or by IPVS dropped at first. So every client has a port of its own, outside the range that
# Linux chooses from.
_SCTP_PORTS = itertools.count(20000)


class Answer(NamedTuple):
    """Which server answered, and the client's address as it saw it."""

    server: str
    seen: str


class Servers:
    """Any number of listening sockets in any namespaces, all served by one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._names: dict[socket.socket, str] = {}
        self._lock = threading.Lock()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def listen(self, name: str, namespace: str, address: str, number: int, protocol: str = "TCP") -> None:
        """Answer ``name`` and the client's address at a port in a namespace."""
        with entered(namespace):
            sock = socket.socket(socket.AF_INET, *_KINDS[protocol])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, number))
        sock.setblocking(False)
        if sock.type == socket.SOCK_STREAM:
            sock.listen(512)
        with self._lock:
            self._names[sock] = name
        self._selector.register(sock, selectors.EVENT_READ)
        self._waker.send(b"x")

    def close(self) -> None:
        self._waker.close()
        self._thread.join(5)
        for sock in list(self._names):
            sock.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._wake:
                    if not sock.recv(100):
                        return
                    continue
                self._handle(sock)

    def _handle(self, sock: socket.socket) -> None:
        with self._lock:
            name = self._names[sock]
        if sock.type == socket.SOCK_DGRAM:
            _, source = sock.recvfrom(100)
            sock.sendto(f"{name} {source[0]}".encode(), source)
        elif sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            connection, _ = sock.accept()
            connection.setblocking(False)
            self._names[connection] = name
            self._selector.register(connection, selectors.EVENT_READ)
        else:
            try:
                if sock.recv(100):
                    sock.send(f"{name} {sock.getpeername()[0]}".encode())
                    return
            except OSError:
                pass
            self._selector.unregister(sock)
            del self._names[sock]
            sock.close()


class Client:
    """One socket, connected to an address, that may ask several times."""

    def __init__(self, namespace: str, address: str, number: int, protocol: str = "TCP", timeout_s: float = 2) -> None:
        with entered(namespace):
            self.socket = socket.socket(socket.AF_INET, *_KINDS[protocol])
        self.socket.settimeout(timeout_s)
        try:
            if protocol == "SCTP":
                self.socket.bind(("", next(_SCTP_PORTS)))
            self.socket.connect((address, number))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def ask(self) -> Answer:
        """Raises ConnectionRefusedError, or TimeoutError."""
        try:
            self.socket.send(b"?")
        except PermissionError as error:
            # How a datagram that this very machine sends is refused by its own packet filter.
            raise ConnectionRefusedError("refused by the machine itself") from error
        received = self.socket.recv(100).decode().split()
        if not received:
            raise ConnectionResetError("the server closed the connection")
        return Answer(*received)


def ask(namespace: str, address: str, number: int, protocol: str = "TCP", timeout_s: float = 2) -> Answer:
    """Ask once on a new connection. Raises ConnectionRefusedError, or TimeoutError."""
    with Client(namespace, address, number, protocol, timeout_s) as client:
        return client.ask()


def spread(namespace: str, address: str, number: int, count: int, protocol: str = "TCP") -> Counter[str]:
    """How often each server answered, in so many connections."""
    return Counter(ask(namespace, address, number, protocol).server for _ in range(count))


@contextmanager
def servers() -> Iterator[Servers]:
    running = Servers()
    try:
        yield running
    finally:
        running.close()
