"""Programs at the endpoints: started in their namespaces, waited for by condition, ended by their own process id."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from testbed.measure.interface import Places
from testbed.measure.placement import on_measuring_processor
from testbed.network.netns import entered
from testbed.spec.endpoints import EndpointRef

_CLIENTS = Path(__file__).parent / "clients"
_START_LIMIT_S = 10.0
_STOP_LIMIT_S = 2.0
_POLL_S = 0.002
_TASKSET = on_measuring_processor([])[0]
# Socket states in /proc/net (linux/tcp_states.h): TCP_LISTEN, and TCP_CLOSE for a UDP socket that is not connected.
_LISTEN, _UNCONNECTED = "0A", "07"


class ProbeFailure(Exception):
    """A probe gave no figures. The text is the cause that is written down with the void round."""


def client_argv(program: str, *arguments: object) -> list[str]:
    """The command line of one of our own clients. ``-I -S``: nothing of the user's environment, and a quick start."""
    return [sys.executable, "-I", "-S", str(_CLIENTS / program), *map(str, arguments)]


def run_program(places: Places, endpoint: EndpointRef, argv: Sequence[str], limit_s: float) -> bytes:
    """Run a program to its end and return its standard output.

    Raises :class:`ProbeFailure` when it fails or takes longer than the limit.
    """
    process = start(places, endpoint, argv)
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise ProbeFailure(f"{_name(argv)} gave no result within {limit_s:g} s") from None
    finally:
        stop(process)
    if process.returncode != 0:
        raise ProbeFailure(f"{_name(argv)} ended with status {process.returncode}: {last_line(errors or output)}")
    return output


def start(places: Places, endpoint: EndpointRef, argv: Sequence[str], **keywords: int) -> subprocess.Popen[bytes]:
    """Start a program with pipes for its output. Raises :class:`ProbeFailure` when it cannot be started."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | keywords
    try:
        return places.popen(endpoint, argv, **pipes)
    except OSError as error:
        raise ProbeFailure(f"{_name(argv)} cannot be started at {endpoint}: {error.strerror}") from error


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, by its own process id, and collect it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def read_line(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """The program's next line of output. Raises :class:`ProbeFailure` when it ends or the limit passes before.

    The pipe must be unbuffered on our side (``bufsize=0``).
    """
    assert process.stdout is not None
    deadline = time.monotonic() + limit_s
    line = b""
    while not line.endswith(b"\n"):
        if not _readable(process.stdout, deadline):
            raise ProbeFailure(f"{_name(process.args)} did not answer within {limit_s:g} s")
        character = process.stdout.read(1)
        if not character:
            errors = process.stderr.read() if process.stderr is not None else b""
            raise ProbeFailure(f"{_name(process.args)} ended: {last_line(errors or line)}")
        line += character
    return line.decode(errors="replace").rstrip("\n")


def _readable(stream: IO[bytes], deadline: float) -> bool:
    return bool(select.select([stream], [], [], max(deadline - time.monotonic(), 0))[0])


def last_line(output: bytes) -> str:
    """The last line of a program's output that says something: usually its error message."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _name(argv: object) -> str:
    words = [str(word) for word in argv] if isinstance(argv, Sequence) and not isinstance(argv, str) else [str(argv)]
    if words[0] == _TASKSET:
        words = words[3:]
    script = next((word for word in words if word.endswith(".py")), words[0])
    return Path(script).name


class Servers:
    """The servers at the paths' targets. Each is started when first asked for and then kept until all is measured."""

    def __init__(self, places: Places) -> None:
        self._places = places
        # By network namespace: a node and its hostNetwork pods have their ports in common.
        self._running: dict[tuple[str, tuple[str, ...]], subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The servers that were started."""
        return list(self._running.values())

    def stop(self) -> None:
        """End all servers."""
        for process in self._running.values():
            stop(process)
        self._running.clear()

    def echo(self, endpoint: EndpointRef, protocol: str, server_port: int) -> None:
        """Our echo server at the endpoint's address, ready when this returns."""
        argv = client_argv("echo.py", protocol, self._places.address(endpoint), server_port)
        self.ensure(endpoint, on_measuring_processor(argv))

    def ensure(self, endpoint: EndpointRef, argv: Sequence[str]) -> None:
        """A server that runs and has opened its socket; started anew if it has ended meanwhile.

        Raises :class:`ProbeFailure` when it ends or opens no socket.
        """
        key = (self._places.namespace(endpoint), tuple(argv))
        running = self._running.get(key)
        if running is not None and running.poll() is None:
            return
        if running is not None:
            stop(running)
        self._running[key] = self._started(endpoint, argv)

    def _started(self, endpoint: EndpointRef, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        namespace = self._places.namespace(endpoint)
        before = server_sockets(namespace)
        # A file, not a pipe: a server may print for hours and must never block on it.
        with tempfile.TemporaryFile() as output:
            process = start(self._places, endpoint, argv, stdout=output.fileno(), stderr=output.fileno())
            deadline = time.monotonic() + _START_LIMIT_S
            try:
                while not server_sockets(namespace) - before:
                    if process.poll() is not None:
                        output.seek(0)
                        raise ProbeFailure(f"server {_name(argv)} ended at {endpoint}: {last_line(output.read())}")
                    if time.monotonic() > deadline:
                        raise ProbeFailure(
                            f"server {_name(argv)} opened no socket at {endpoint} in {_START_LIMIT_S:g} s"
                        )
                    time.sleep(_POLL_S)
            except BaseException:
                stop(process)
                raise
        return process


def server_sockets(namespace: str) -> frozenset[tuple[str, str]]:
    """The sockets in a network namespace that wait for clients, as (local address, inode)."""
    found: frozenset[tuple[str, str]] = frozenset()
    with entered(namespace):
        for table, state in (("tcp", _LISTEN), ("tcp6", _LISTEN), ("udp", _UNCONNECTED), ("udp6", _UNCONNECTED)):
            file = Path("/proc/thread-self/net", table)
            if file.exists():  # no tcp6 and udp6 on a kernel without IPv6
                found |= parse_socket_table(file.read_text(), state)
    return found


def parse_socket_table(text: str, state: str) -> frozenset[tuple[str, str]]:
    """Rows of /proc/net/tcp or udp (proc(5)) in the given state: (local address, inode)."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return frozenset((row[1], row[9]) for row in rows if row[3] == state)
