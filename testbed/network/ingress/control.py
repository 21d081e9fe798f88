"""What is said to a controller's nginx while it runs: by its control socket, and by signals."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path("/run/ingress-nginx")
LUA = Path(__file__).with_name("lua")
_TIMEOUT_S = 5.0
_CREDENTIALS = struct.Struct("3i")  # of a socket's other end: process, user, group (unix(7))


@dataclass(frozen=True)
class NginxState:
    """What an nginx goes by: the version of its endpoints, and those of the configurations of all workers that take
    connections (two while it reloads)."""

    endpoints: str
    configurations: frozenset[str]


class NginxUnreachable(Exception):
    """It does not run, or not yet."""


def controller_directory(namespace: str, pod: str) -> Path:
    """Where a controller pod's nginx finds its files. (A socket's path may not be as long as a pod's name.)"""
    return DIRECTORY / hashlib.sha256(f"{namespace}/{pod}".encode()).hexdigest()[:16]


def read_state(directory: Path) -> NginxState:
    """Ask an nginx what it goes by. Raises NginxUnreachable."""
    endpoints, *configurations = _request(directory, "GET", "/state").split()
    return NginxState(endpoints, frozenset(configurations))


def send_endpoints(directory: Path, table: str) -> None:
    """Give an nginx another table of endpoints, which holds from the next request on. Raises NginxUnreachable."""
    _request(directory, "PUT", "/endpoints", table)


def leave(directory: Path) -> None:
    """Let an nginx that is about to end take its leave of kept connections. Raises NginxUnreachable."""
    _request(directory, "PUT", "/leave")


def reload(directory: Path) -> None:
    """Let an nginx read its configuration anew; requests that it has are ended by the old one. Raises
    NginxUnreachable."""
    connection = _Connection(directory / "control")
    try:
        connection.connect()
        # Its own number, in its file of it, is another one: pods have PID namespaces.
        credentials = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid = _CREDENTIALS.unpack(credentials)[0]
        if b"nginx: master" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            raise NginxUnreachable(f"process {pid} is not nginx")
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise NginxUnreachable(str(error)) from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _request(directory: Path, method: str, path: str, body: str | None = None) -> str:
    connection = _Connection(directory / "control")
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = response.read().decode()
        if response.status != http.client.OK:
            raise NginxUnreachable(f"{method} {path}: {response.status}: {answer}")
        return answer
    except (OSError, http.client.HTTPException) as error:
        raise NginxUnreachable(str(error)) from error
    finally:
        connection.close()
