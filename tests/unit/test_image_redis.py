"""The image redis takes arguments as the official one does, and other pods may ask it."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.spec.images import container_argv

_LIMIT_S = 10


@pytest.mark.parametrize(
    ("container", "kept_on_disk"),
    [
        ({}, "no"),
        ({"args": ["--appendonly", "yes"]}, "yes"),
        ({"args": ["redis-server", "--appendonly", "yes"]}, "yes"),
        ({"command": ["redis-server"], "args": ["--appendonly", "yes"]}, "yes"),
        ({"args": ["{folder}/redis.conf"]}, "yes"),
        ({"args": ["redis-server", "{folder}/redis.conf"]}, "yes"),
    ],
)
def test_no_argument_keeps_other_pods_out(tmp_path: Path, container: dict[str, Any], kept_on_disk: str) -> None:
    (tmp_path / "redis.conf").write_text("appendonly yes\nprotected-mode yes\n")
    filled = {name: [word.format(folder=tmp_path) for word in words] for name, words in container.items()}
    argv = container_argv({"image": "redis:7", **filled}) or []
    path = tmp_path / "socket"
    # Options that follow count as well; the machine's ports are not ours to take.
    with subprocess.Popen(
        [*argv, "--port", "0", "--unixsocket", str(path)], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        try:
            with _connected(path) as connection:
                assert _setting(connection, b"protected-mode") == "no"
                assert _setting(connection, b"appendonly") == kept_on_disk
        finally:
            process.terminate()


def test_another_command_than_the_server_is_run_as_it_is() -> None:
    argv = container_argv({"image": "redis", "args": ["echo", "a b", "--protected-mode"]}) or []
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "a b --protected-mode\n"


def _connected(path: Path) -> socket.socket:
    deadline = time.monotonic() + _LIMIT_S
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_LIMIT_S)
    while True:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        else:
            return connection


def _setting(connection: socket.socket, name: bytes) -> str:
    connection.sendall(b"CONFIG GET " + name + b"\r\n")
    received = b""
    while received.count(b"\r\n") < 5:  # an array of two texts, each with its length
        received += connection.recv(4096)
    return received.split(b"\r\n")[4].decode()
