"""A process that is a client of the cluster's API: started, watched, restarted."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import RunError

_START_S, _END_S = 30.0, 5.0


class ApiProcess:
    """``python -m MODULE --api URL ...``. ``name`` stands in errors; what it logs goes to ``log``.

    ``inherits`` are the file descriptors that it gets under the same numbers. ``on_start`` is called after each start.
    """

    def __init__(
        self,
        name: str,
        module: str,
        api_url: str,
        log: Path,
        arguments: Sequence[str] = (),
        inherits: Sequence[int] = (),
    ) -> None:
        self.name, self.log = name, log
        self.on_start: Callable[[], None] = lambda: None
        # Whoever supervises it starts it again, beside whoever starts and stops it on purpose.
        self._lock = threading.Lock()
        self._wanted = False
        self._inherits = tuple(inherits)
        self._argv = [sys.executable, "-m", module, "--api", api_url, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since; it may have died meanwhile (see :meth:`check`)."""
        return self._process is not None

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RunError(f"{self.name} is not running")
        return self._process

    def start(self) -> None:
        with self._lock:
            self._wanted = True
            self._start()
        self.on_start()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=self._inherits,
            )

    @property
    def has_died(self) -> bool:
        """Whether it has ended without having been stopped."""
        with self._lock:
            return self._wanted and not self.is_alive

    def revive(self) -> None:
        """Start it again if it has died. Raises OSError."""
        with self._lock:
            if not self._wanted or self.is_alive:
                return
            if self._process is not None and self._process.stdout is not None:
                self._process.stdout.close()
            self._start()
        self.on_start()

    def wait_listening(self) -> None:
        """Return when it says that it is ready, which it does by printing one line.

        Raises RunError when it ends before, or takes too long.
        """
        process = self._running()
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        if not poll.poll(_START_S * 1000):
            raise RunError(f"{self.name} is not ready after {_START_S:g} s")
        if not process.stdout.readline():
            process.wait()
            self.check()

    def check(self) -> None:
        """Raise RunError with the end of its log if it has died."""
        if self._process is not None and self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            raise RunError(f"{self.name} ended with status {self._process.returncode}:\n" + "\n".join(lines))

    def stop(self) -> None:
        with self._lock:
            self._wanted = False
            if self._process is None:
                return
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
