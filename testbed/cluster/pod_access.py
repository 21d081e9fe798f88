"""What the API needs of whoever runs the pods, for ``kubectl logs``, ``exec``, ``attach`` and ``port-forward``.

The network room implements it; the API only knows this.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Started(Protocol):
    """A program that was started in a container, in a session of its own; what of :class:`subprocess.Popen` is needed
    of it."""

    @property
    def pid(self) -> int:
        """Its process id in the box."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises subprocess.TimeoutExpired."""

    def poll(self) -> int | None:
        """The exit status, None while it runs."""

    def kill(self) -> None:
        """End it and what it has started (but for daemons) at once."""


class Console(Protocol):
    """Standard input and the terminal of a container's own program; clients that are attached share it."""

    def write(self, data: bytes) -> int:
        """Pass bytes to standard input; how many it takes now. All of them when nobody will ever read them."""

    def client_ended(self) -> None:
        """The client has sent its last byte, or left."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal, if there is one, its size in characters."""


class PodAccess(Protocol):
    """Ways into the containers of running pods. All methods raise NotFound when there is no such pod or container, and
    BadRequest when it does not run (:mod:`testbed.cluster.status`)."""

    def start(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal: bool,
    ) -> Started:
        """Start a program in a container, on file descriptors that the caller keeps its own ends of.

        With ``terminal`` they are the slave of a pseudoterminal, which becomes the program's controlling terminal.
        Raises FileNotFoundError or PermissionError when the program cannot be started.
        """

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path:
        """The file that holds a container's output (of its run before this one: ``previous``); it may still grow."""

    def log_times(self, namespace: str, pod: str, container: str, *, previous: bool) -> Sequence[tuple[int, float]]:
        """Offsets in that log with the time (in seconds since 1970) when what stands from there on was written, up to
        the next offset; both rise. Empty when nothing was written."""

    def console(self, namespace: str, pod: str, container: str) -> Console | None:
        """Where a client that is attached writes to; None for a container that has no standard input."""

    def is_running(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container's process runs: its log may grow while it does."""

    def connect(self, namespace: str, pod: str, number: int) -> socket.socket:
        """A TCP connection to a port of the pod's localhost, made inside its network namespace. Raises OSError."""
