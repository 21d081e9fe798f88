"""Removes what a box leaves on the machine when it has ended, however it ended.

Namespaces and mounts go with its last process; control groups stay. So a process waits, outside the box, for the end
of its PID 1: by then every process in the box has ended (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from testbed.network.pods.cgroups import box_name, remove_all

_RETRY_S, _TRIES = 0.02, 100


class Janitor:
    """One box's; ``init_pid`` is its PID 1, as the caller sees it. Raises OSError when that has ended already."""

    def __init__(self, init_pid: int) -> None:
        init = os.pidfd_open(init_pid)
        try:
            self._name = box_name(Path(f"/proc/{init_pid}"))
            self._pid = os.fork()
            if self._pid == 0:
                try:
                    _wait_and_remove(init, self._name)
                finally:
                    os._exit(0)
        finally:
            os.close(init)

    def finish(self) -> None:
        """The box has ended: returns when nothing of it is left."""
        os.waitpid(self._pid, 0)
        remove_all(self._name)  # had the janitor been killed


def _wait_and_remove(init: int, name: str) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its end is the box's
    os.chdir("/")
    os.closerange(0, init)
    os.closerange(init + 1, os.sysconf("SC_OPEN_MAX"))
    poll = select.poll()
    poll.register(init, select.POLLIN)
    poll.poll()
    # A group may count a process for a moment after its end, and version 1 has nothing that tells when it does no more.
    for _ in range(_TRIES):
        if remove_all(name):
            return
        time.sleep(_RETRY_S)
