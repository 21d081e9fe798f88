"""When everything of a network is really gone: the same criterion for every builder.

The kernel takes a network namespace down in the background, some time after its last reference was dropped, and all
namespaces in the order in which that happened. So a sentinel is made: a namespace with one end of a wire, whose other
end is in the box. It is let go of after everything else, and once its wire has vanished from the box, so have the
interfaces of every namespace before it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from testbed.network import linux, netns
from testbed.network.netlink import Netlink, veth

_WIRE = "sentinel0"
_GROUP_OF_LINKS = 1  # RTMGRP_LINK (linux/rtnetlink.h)
_LIMIT_S = 120.0


class Sentinel:
    """Made before a network is taken down; ``spared`` are processes that are no part of it."""

    def __init__(self, spared: Iterable[int] = ()) -> None:
        with netns.home() as box:
            netns.create_and_stay("sentinel")
            with Netlink() as kernel:
                kernel.request([veth("wire", _WIRE, peer_namespace_fd=box)])
        others = {1, os.getpid(), *spared}
        pids = {int(entry.name) for entry in Path("/proc").glob("[0-9]*")} - others
        self._processes = [os.pidfd_open(pid) for pid in pids]

    def wait(self) -> None:
        """Return when the processes have ended and their namespaces are gone. Raises TimeoutError."""
        deadline = time.monotonic() + _LIMIT_S
        for process in self._processes:
            if not _readable(process, deadline):
                raise TimeoutError("a process of the network has not ended")
            os.close(process)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as news:
            news.bind((0, _GROUP_OF_LINKS))
            linux.unmount_lazily(netns.path("sentinel"))
            Path(netns.path("sentinel")).unlink()
            while _exists():
                if not _readable(news.fileno(), deadline):
                    raise TimeoutError("the namespaces of the network are still there")
                try:
                    news.recv(65536)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # news were lost: look again, as after any other
                        raise


def _exists() -> bool:
    try:
        socket.if_nametoindex(_WIRE)
    except OSError:
        return False
    return True


def _readable(fd: int, deadline: float) -> bool:
    # poll, because select() takes no descriptor above 1023, and a large network has more processes than that.
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(deadline - time.monotonic(), 0) * 1e3))
