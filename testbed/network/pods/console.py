"""Standard input, and the terminal, of a container that asks for them (``stdin: true``, ``tty: true``).

They are kept here, so that clients may come and go (``kubectl attach``, ``kubectl run -it``). What a program writes to
its terminal goes to its log, as the output of others does.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
from pathlib import Path

_READ_BYTES = 64 * 1024
_LAST_WORDS_S = 1.0  # the kernel hangs a terminal up when its first program has ended, but not in the same moment


class Console:
    """One run's. ``once``: its input ends with the first client that is attached to it (``stdinOnce``).

    Raises OSError when the machine has no more terminals or files.
    """

    def __init__(self, log: Path, *, has_input: bool, terminal: bool, once: bool) -> None:
        self.is_terminal = terminal
        """Whether output goes this way, too."""
        self._once, self._takes_input = once, has_input
        self._lock = threading.Lock()
        self._ours: int | None
        if terminal:
            self._ours, self._theirs = os.openpty()
        else:
            self._theirs, self._ours = os.pipe()
        os.set_blocking(self._ours, False)  # a program that does not read must not hold up whoever writes
        self._copier = threading.Thread(target=self._copy, args=(self._ours, log), name="console", daemon=True)
        if terminal:
            self._copier.start()

    @property
    def path(self) -> str:
        """What the program's parent opens for it, until :meth:`started`."""
        return f"/proc/{os.getpid()}/fd/{self._theirs}"

    def started(self) -> None:
        """The program has its end now, or was not started."""
        os.close(self._theirs)

    def write(self, data: bytes) -> int:
        """Pass bytes to standard input; how many it takes now. All of them when nobody will ever read them."""
        with self._lock:
            if self._ours is None or not self._takes_input:
                return len(data)
            try:
                return os.write(self._ours, data)
            except BlockingIOError:
                return 0
            except OSError:
                self._takes_input = False
                return len(data)

    def client_ended(self) -> None:
        """The client has sent its last byte, or left: input for one client ends. (A terminal's has no end.)"""
        with self._lock:
            if self._once:
                self._takes_input = False
                if not self.is_terminal:
                    self._close()

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size in characters; its programs get SIGWINCH."""
        with self._lock:
            if self._ours is not None and self.is_terminal:
                fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """The program has ended; returns when all that it wrote to its terminal is in the log."""
        if self.is_terminal:
            self._copier.join(_LAST_WORDS_S)
        else:
            with self._lock:
                self._close()

    def _close(self) -> None:
        if self._ours is not None:
            os.close(self._ours)
            self._ours = None

    def _copy(self, terminal: int, log: Path) -> None:
        poll = select.poll()
        poll.register(terminal, select.POLLIN)
        with log.open("ab", buffering=0) as file:
            while poll.poll():
                try:
                    data = os.read(terminal, _READ_BYTES)
                except BlockingIOError:
                    continue
                except OSError:  # EIO: nobody has the terminal open any more
                    break
                file.write(data)
        with self._lock:
            self._close()
