"""The socket of a client that streams: reads and writes that never block, and what is still to be sent."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

READ_BYTES = 64 * 1024
"""How much is read of a file or socket at once."""

FULL_BYTES = 1024 * 1024
"""How many bytes may wait for a slow reader before no more are read for it."""

_LINGER_S = 5.0


class ClientSocket:
    """A client's connection, with a buffer for what it has not read yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.has_left = False
        """The client has closed its end."""
        self._socket = sock
        self._outgoing = bytearray()
        sock.setblocking(False)

    def fileno(self) -> int:
        """The file descriptor, for :func:`ready`."""
        return self._socket.fileno()

    @property
    def is_full(self) -> bool:
        """Whether the client should read some before it is sent more."""
        return len(self._outgoing) >= FULL_BYTES

    def wanted(self, reads: bool) -> int:
        """What :func:`ready` has to look for; ``reads``: whether more bytes of the client can be dealt with."""
        return select.POLLRDHUP | (select.POLLIN if reads else 0) | (select.POLLOUT if self._outgoing else 0)

    def receive(self, events: int) -> bytes:
        """What has come, by what :func:`ready` has found; what waits to be sent is sent on the way."""
        if events & select.POLLOUT:
            self.send(b"")
        if events & select.POLLIN:
            return self._read()
        if events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
            self.has_left = True
        return b""

    def send(self, data: bytes) -> None:
        """Send bytes, now or when the client has read enough."""
        self._outgoing += data
        try:
            while self._outgoing and not self.has_left:
                del self._outgoing[: self._socket.send(self._outgoing[:FULL_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self.has_left = True

    def finish(self) -> None:
        """Send what is left and let the client close first, so that it reads everything; or give up after some seconds.

        (Closing a socket that holds unread bytes resets the connection, and what was sent on it is lost.)
        """
        while self._outgoing and not self.has_left:
            found = ready({self.fileno(): self.wanted(reads=True)}, _LINGER_S)
            if not found:
                return
            self.receive(found[self.fileno()])
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER_S
        while not self.has_left and (left := deadline - time.monotonic()) > 0:
            self.receive(ready({self.fileno(): self.wanted(reads=True)}, left).get(self.fileno(), 0))

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.has_left = not data
        return data


def ready(wanted: Mapping[int, int], timeout_s: float | None = None) -> dict[int, int]:
    """Wait until something that is wanted is ready: file descriptors with their events of poll(2), in and out."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return dict(poll.poll(None if timeout_s is None else timeout_s * 1000))
