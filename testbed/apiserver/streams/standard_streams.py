"""Both ends of a program's standard input, output and error: pipes, or a pseudoterminal."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import struct
import sys
import termios
from collections.abc import Iterable

from testbed.apiserver.streams.client_socket import READ_BYTES


class StandardStreams:
    """Open files for a program that is to be started, and our ends of them. A context manager that closes all.

    ``names`` are the streams that somebody listens to; the others are ``/dev/null``. With ``terminal`` all of them are
    one pseudoterminal, whose output is ``stdout``.
    """

    def __init__(self, names: Iterable[str], terminal: bool) -> None:
        self.input: int | None = None
        """Our end of standard input, None when there is none (any more)."""
        self.outputs: dict[int, str] = {}
        """Our ends of the outputs, with their names, as long as the program may write."""
        self._terminal: int | None = None
        self._theirs: dict[str, int] = {}
        if terminal:
            self._open_terminal("stdin" in names)
        else:
            for name in ("stdin", "stdout", "stderr"):
                self._open_pipe(name, name in names)
        for fd in self._ours():
            os.set_blocking(fd, False)

    def __enter__(self) -> StandardStreams:
        return self

    def __exit__(self, *_: object) -> None:
        self.started()
        for fd in self._ours():
            os.close(fd)
        self.input, self.outputs, self._terminal = None, {}, None

    @property
    def theirs(self) -> dict[str, int]:
        """The program's ends: ``stdin``, ``stdout``, ``stderr``."""
        return self._theirs

    def started(self) -> None:
        """Close the program's ends, which it has now."""
        for fd in set(self._theirs.values()):
            os.close(fd)
        self._theirs = {}

    def write(self, data: bytes) -> int:
        """Pass bytes to standard input; how many it takes now. All of them when the program reads no more."""
        assert self.input is not None
        try:
            return os.write(self.input, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.end_input()
            return len(data)

    def end_input(self) -> None:
        """End standard input. A terminal stays as it is: it has no end."""
        if self.input is not None and self.input != self._terminal:
            os.close(self.input)
        self.input = None

    def read(self, fd: int) -> bytes:
        """What the program has written; nothing when that is nothing yet, or when it ended (and the output is gone)."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that nobody has it open any more
                raise
            data = b""
        if not data:
            del self.outputs[fd]
            if fd != self._terminal:
                os.close(fd)
        return data

    def unread(self, fd: int) -> float:
        """How many bytes can be read of an output whose program has ended; a terminal's are read to its end."""
        if fd == self._terminal:
            return math.inf
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size in characters; its programs get SIGWINCH."""
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _open_terminal(self, has_input: bool) -> None:
        self._terminal, slave = os.openpty()
        self._theirs = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        self.outputs = {self._terminal: "stdout"}
        self.input = self._terminal if has_input else None

    def _open_pipe(self, name: str, wanted: bool) -> None:
        if not wanted:
            self._theirs[name] = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        elif name == "stdin":
            self._theirs[name], self.input = os.pipe()
        else:
            fd, self._theirs[name] = os.pipe()
            self.outputs[fd] = name

    def _ours(self) -> set[int]:
        return {fd for fd in (self.input, self._terminal, *self.outputs) if fd is not None}
