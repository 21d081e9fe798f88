"""The testbed's side of the parent of all pods' processes (:mod:`testbed.network.pods.parent`)."""

from __future__ import annotations

import itertools
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from testbed.network.pods.frames import Incoming, Message, send

LOG = logging.getLogger(__name__)

# A process id, or why there is none.
Answered = Callable[[int | None, str], None]
# Process ids, and their exit statuses: negative for a signal.
Ended = Callable[[Sequence[tuple[int, int]]], None]

_END_S = 5.0


class Spawner:
    """Asks the parent. Answers, and ends of processes, come from a thread of their own, in the parent's order.

    ``lost`` is called from there when the parent has died; then its children are nobody's, and it can be started again.
    """

    def __init__(self, ended: Ended, lost: Callable[[], None]) -> None:
        self._ended, self._lost = ended, lost
        self._lock = threading.Lock()
        # Another one: the parent reads only while somebody takes its answers, which must not wait for who writes.
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Answered] = {}
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """The parent's process id."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the parent. It must be called by a thread that lives as long as the parent shall. Raises OSError."""
        ours, its = socket.socketpair()
        with its:
            argv = [sys.executable, "-m", "testbed.network.pods.parent"]
            self._process = subprocess.Popen(argv, cwd="/", stdin=its.fileno(), start_new_session=True)
        self._connection = ours
        self._reader = threading.Thread(target=self._read, args=(ours,), name="pods-parent", daemon=True)
        self._reader.start()

    def sandbox(self, request: Message, answered: Answered) -> None:
        """Make a pod's namespaces beside its network namespace, kept by a process whose id is the answer.

        The request's parts are those of ``Parent._make_sandbox``.
        """
        self._ask({**request, "do": "sandbox"}, answered)

    def run(self, request: Message, answered: Answered) -> None:
        """Start a program; the request's parts are those of ``Parent._run``."""
        self._ask({**request, "do": "run"}, answered)

    def signal(self, pids: Sequence[int], number: int, *, group: bool = False) -> None:
        """Send a signal to processes that have not ended, or to all in their groups."""
        with suppress(OSError):  # the parent has died
            self._send({"do": "signal", "pids": list(pids), "number": number, "group": group})

    def stop(self) -> None:
        """End the parent."""
        self._stopped = True
        if self._connection is None or self._process is None:
            return
        self._connection.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._reader is not None
        self._reader.join()
        self._connection.close()
        self._connection = None

    def _ask(self, message: Message, answered: Answered) -> None:
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = answered
        try:
            self._send({**message, "id": number})
        except OSError as error:
            with self._lock:
                known = self._waiting.pop(number, None)
            if known is not None:
                known(None, f"the parent of the pods' processes has died: {error}")

    def _send(self, message: Message) -> None:
        with self._sending:
            if self._connection is None:
                raise BrokenPipeError("it does not run")
            send(self._connection, message)

    def _read(self, connection: socket.socket) -> None:
        for message in _messages(connection):
            try:
                self._take(message)
            except Exception:
                # Whoever asked has failed, not the parent.
                LOG.exception("what the parent of the pods' processes said: %s", message)
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for answered in waiting.values():
            answered(None, "the parent of the pods' processes has died")
        if not self._stopped:
            self._lost()

    def _take(self, message: Message) -> None:
        if "ended" in message:
            self._ended([(pid, status) for pid, status in message["ended"]])
            return
        with self._lock:
            answered = self._waiting.pop(message["id"])
        answered(message.get("pid"), message.get("error", ""))

    def kill(self) -> None:
        """Kill the parent, as a fault would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)


def _messages(connection: socket.socket) -> Iterator[Message]:
    """What the parent says, until it has died."""
    incoming = Incoming()
    with suppress(OSError):
        while received := connection.recv(1 << 20):
            yield from incoming.take(received)
