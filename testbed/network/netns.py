"""Network namespaces with names, as ``ip netns`` keeps them: bind mounts under /run/netns (the box's own /run)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.network import linux

DIRECTORY = Path("/run/netns")
_OWN = "/proc/thread-self/ns/net"


def path(name: str) -> str:
    """The file that stands for a namespace."""
    return f"{DIRECTORY}/{name}"


@contextmanager
def home() -> Iterator[int]:
    """Remember the calling thread's network namespace and return to it at the end."""
    fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        linux.setns(fd, linux.CLONE_NEWNET)
        os.close(fd)


def create_and_stay(name: str) -> None:
    """Make a namespace with a name and leave the calling thread in it (use inside :func:`home`)."""
    linux.unshare(linux.CLONE_NEWNET)
    target = path(name)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    linux.mount(_OWN, target, flags=linux.MS_BIND)


def enter(name: str) -> None:
    """Move the calling thread into a named namespace."""
    fd = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(fd, linux.CLONE_NEWNET)
    finally:
        os.close(fd)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """The calling thread is inside the named namespace; sockets opened there stay there."""
    with home():
        enter(name)
        yield
