"""The few system calls that Python 3.11's standard library does not offer, with errors as OSError."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_RDONLY, MS_REMOUNT = 0x1, 0x20

IN_MODIFY, IN_CREATE, IN_DELETE, IN_Q_OVERFLOW = 0x2, 0x100, 0x200, 0x4000

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 0x1, 0x2
_PR_SET_PDEATHSIG = 1
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2))."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, flags: int = 0) -> None:
    """Move the calling thread into the namespace(s) ``fd`` refers to (setns(2)); a pidfd takes several flags."""
    _check(_libc.setns(fd, flags), f"setns(fd {fd}, {flags:#x})")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(), target.encode(), fstype.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {source} on {target}")


def unmount_lazily(target: str) -> None:
    """Detach a mount and what is mounted below it (umount2(2), MNT_DETACH)."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), f"unmount {target}")


def inotify(folder: Path, events: int) -> int:
    """A file descriptor that tells of events in a folder (inotify(7)); the caller closes it."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC)
    _check(fd, "inotify_init1")
    try:
        _check(_libc.inotify_add_watch(fd, os.fsencode(folder), events), f"inotify_add_watch {folder}")
    except OSError:
        os.close(fd)
        raise
    return fd


def punch_hole(fd: int, length: int) -> None:
    """Give back what the first bytes of a file take, and keep its length: they read as zeros (fallocate(2))."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    _check(_libc.fallocate(fd, mode, ctypes.c_int64(0), ctypes.c_int64(length)), f"punch a hole of {length} bytes")


def sethostname(name: str) -> None:
    """Set the host name of the calling thread's UTS namespace."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), f"sethostname {name}")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that forked it ends (prctl(2), PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
