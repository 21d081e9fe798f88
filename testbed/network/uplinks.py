"""Tells which of a node's links to the fabric are up, whenever that changes.

The kernel tells of links by a socket in each node's network namespace (rtnetlink(7)), so nothing is polled.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from testbed.network import netns

LOG = logging.getLogger(__name__)

_RTMGRP_LINK = 1
_SIOCGIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8913, 0x1, 0x40
_ENOUGH_BYTES = 65536


class Uplinks:
    """Watches the interfaces of nodes in a thread of its own.

    ``changed`` is told a node and those of its interfaces that are up, both ends of their wires included.
    """

    def __init__(
        self, interfaces: Mapping[str, frozenset[str]], changed: Callable[[str, frozenset[str]], None]
    ) -> None:
        self._interfaces, self._changed = interfaces, changed
        self._up = dict(interfaces)
        self._sockets: dict[int, tuple[str, socket.socket]] = {}
        self._ending = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="uplinks", daemon=True)

    def start(self) -> None:
        """Watch from here on. Nodes are taken to have all their links."""
        with netns.home():
            for node in self._interfaces:
                netns.enter(node)
                kernel = socket.socket(
                    socket.AF_NETLINK,
                    socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                    socket.NETLINK_ROUTE,
                )
                self._sockets[kernel.fileno()] = node, kernel
                kernel.bind((0, _RTMGRP_LINK))
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        os.eventfd_write(self._ending, 1)
        if self._thread.ident is not None:
            self._thread.join()
        for _, kernel in self._sockets.values():
            kernel.close()
        os.close(self._ending)

    def _run(self) -> None:
        poll = select.poll()
        for descriptor in (self._ending, *self._sockets):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._ending:
                    return
                self._look(*self._sockets[descriptor])

    def _look(self, node: str, kernel: socket.socket) -> None:
        # What is said may be too much for the socket (ENOBUFS), and later than what is so: the kernel is asked.
        with suppress(OSError):
            kernel.recv(_ENOUGH_BYTES)
        up = frozenset(name for name in self._interfaces[node] if _is_up(kernel, name))
        if up == self._up[node]:
            return
        self._up[node] = up
        try:
            self._changed(node, up)
        except Exception:
            LOG.exception("links of node %s that are up: %s", node, ", ".join(sorted(up)) or "none")


def _is_up(kernel: socket.socket, interface: str) -> bool:
    """Whether an interface, and the other end of its wire, is up; not so when it is not there."""
    try:
        said = fcntl.ioctl(kernel, _SIOCGIFFLAGS, struct.pack("16s16x8x", interface.encode()))
    except OSError:
        return False
    (flags,) = struct.unpack_from("16xH", said)
    return bool(flags & _IFF_UP and flags & _IFF_RUNNING)
