"""The controller as a process of its own: started, watched, restarted."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

from testbed.errors import RunError
from testbed.network.wiring import CONTROLLER_ADDRESS

OPENFLOW_PORT = 6653
LOG = Path("/run/controller.log")
_START_S, _END_S = 30.0, 5.0


class ControllerProcess:
    """``python -m controllers.ryu_app``, a plain client of the cluster's API."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RunError("the controller is not running")
        return self._process

    def start(self) -> None:
        listen = f"{CONTROLLER_ADDRESS}:{OPENFLOW_PORT}"
        argv = [sys.executable, "-m", "controllers.ryu_app", "--api", self._api_url, "--listen", listen]
        with LOG.open("ab") as log:
            self._process = subprocess.Popen(
                argv, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )

    def wait_listening(self) -> None:
        """Return when switches can connect: one that is refused waits a whole second before it tries again.

        Raises RunError when the controller ends before, or takes too long.
        """
        process = self._running()
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        # The launcher prints one line, when it listens; without one it has ended.
        if not poll.poll(_START_S * 1000):
            raise RunError(f"the controller does not listen after {_START_S:g} s")
        if not process.stdout.readline():
            process.wait()
            self.check()

    def check(self) -> None:
        """Raise RunError with the end of its log if the controller has died."""
        if self._process is not None and self._process.poll() is not None:
            lines = LOG.read_text(errors="replace").splitlines()[-15:]
            raise RunError(f"the controller ended with status {self._process.returncode}:\n" + "\n".join(lines))

    def stop(self) -> None:
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
