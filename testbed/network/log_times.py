"""When the containers' logs were written: logs are plain files that programs write themselves, so somebody looks on.

The kernel tells of every change to a file in the logs' folder (inotify(7)); one thread, which looks ten times a second
at the most, writes down how long each changed log is. It costs nothing while nothing is written.

Where a kubelet rotates a log of 10 MiB, what is older than the last 10 MiB becomes a hole in the file here: nobody who
has it open needs to know, and offsets stay what they are.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from testbed.network import linux

_PAUSE_S = 0.1
_MOST_ENTRIES = 10_000
_KEPT_BYTES = 10 << 20  # containerLogMaxSize of a kubelet
_SPARED_BYTES = 1 << 20  # of a log that is longer, so much at once is let go
_BLOCK_BYTES = 512  # the unit of st_blocks, stat(2)
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name


@dataclass
class _Log:
    size: int = 0
    times: list[tuple[int, float]] = field(default_factory=list)


class LogTimes:
    """Follows the logs in a folder. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._logs: dict[int, _Log] = {}  # by inode: a log keeps what is known of it when it is renamed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-times", daemon=True)

    def __enter__(self) -> LogTimes:
        self._changes = linux.inotify(self._folder, linux.IN_CREATE | linux.IN_MODIFY | linux.IN_DELETE)
        self._wake_read, self._wake_write = os.pipe()
        self._look_at_all()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        os.write(self._wake_write, b".")
        self._thread.join()
        for fd in (self._changes, self._wake_read, self._wake_write):
            os.close(fd)

    def of(self, log: Path) -> Sequence[tuple[int, float]]:
        """Offsets with the time (in seconds since 1970) when what stands from there on was written."""
        inode = self._look_at(log)
        with self._lock:
            known = self._logs.get(inode)
            return () if known is None else tuple(known.times)

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._changes, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            poll.poll()
            if self._stopping.is_set():
                return
            changed = set(_changes(os.read(self._changes, 1 << 16)))
            if any(mask & (linux.IN_DELETE | linux.IN_Q_OVERFLOW) for mask, _ in changed):
                self._look_at_all()
            else:
                for name in {name for _, name in changed}:
                    self._look_at(self._folder / name)
            self._stopping.wait(_PAUSE_S)  # changes gather meanwhile

    def _look_at_all(self) -> None:
        inodes = {self._look_at(path) for path in self._folder.iterdir()}
        with self._lock:
            for inode in self._logs.keys() - inodes:
                del self._logs[inode]

    def _look_at(self, path: Path) -> int:
        """Write down how long a log is; its inode, 0 when there is none any more."""
        with suppress(FileNotFoundError), self._lock:
            found = path.stat()
            if found.st_blocks * _BLOCK_BYTES > _KEPT_BYTES + _SPARED_BYTES:
                _let_go_of_old(path)
            log = self._logs.setdefault(found.st_ino, _Log())
            if found.st_size > log.size:
                log.times.append((log.size, time.time()))
                log.size = found.st_size
                if len(log.times) > _MOST_ENTRIES:
                    del log.times[1::2]  # coarser, rather than without end
            return found.st_ino
        return 0


def _let_go_of_old(path: Path) -> None:
    with path.open("r+b", buffering=0) as log:
        linux.punch_hole(log.fileno(), log.seek(0, os.SEEK_END) - _KEPT_BYTES)


def _changes(events: bytes) -> Iterator[tuple[int, str]]:
    """What has happened to which files, as inotify(7) writes it."""
    position = 0
    while position < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, position)
        position += _EVENT.size + length
        yield mask, events[position - length : position].rstrip(b"\0").decode(errors="surrogateescape")
