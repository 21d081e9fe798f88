"""Standard input and terminals that are kept for a container while clients come and go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from testbed.network.pods.console import Console
from tests.unit.stream_server import resources, wait_until


def run(console: Console, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program as the parent of the pods' processes does."""
    mode = os.O_NOCTTY | (os.O_RDWR if console.is_terminal else os.O_RDONLY)
    fd = os.open(console.path, mode)
    with log.open("ab") as file:
        out = fd if console.is_terminal else file.fileno()
        command = ["setsid", "--ctty", *argv] if console.is_terminal else argv
        program = subprocess.Popen(command, stdin=fd, stdout=out, stderr=out)
    os.close(fd)
    console.started()
    return program


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def test_input_stays_when_a_client_leaves(log):
    before = resources()
    console = Console(log, has_input=True, terminal=False, once=False)
    program = run(console, ["head", "-n2"], log)
    console.write(b"one\n")
    console.client_ended()
    assert program.poll() is None
    console.write(b"two\n")
    assert program.wait(10) == 0
    wait_until(lambda: console.write(b"nobody reads this\n"))
    console.close()
    assert log.read_bytes() == b"one\ntwo\n"
    assert resources() <= before


def test_input_for_one_client_ends_with_it(log):
    console = Console(log, has_input=True, terminal=False, once=True)
    program = run(console, ["cat"], log)
    console.write(b"hello")
    console.client_ended()
    assert program.wait(10) == 0
    assert console.write(b"too late") == 8
    console.close()
    assert log.read_bytes() == b"hello"


def test_a_program_that_does_not_read_holds_nobody_up(log):
    console = Console(log, has_input=True, terminal=False, once=False)
    program = run(console, ["sleep", "1000"], log)
    taken = console.write(bytes(1_000_000))
    assert 0 < taken < 1_000_000
    assert console.write(b"more") == 0
    program.kill()
    program.wait()
    assert console.write(b"more") == 4
    console.close()


def test_a_terminal(log):
    before = resources()
    console = Console(log, has_input=True, terminal=True, once=False)
    console.resize(132, 24)
    program = run(
        console, ["sh", "-c", "tty <&1 >/dev/null && stty size && stty -echo && read line && echo $line"], log
    )
    wait_until(lambda: b"24 132" in log.read_bytes())
    console.write(b"typed\n")
    assert program.wait(10) == 0
    console.close()
    console.resize(1, 1)
    assert log.read_bytes().replace(b"typed\r\n", b"", 1) in (b"24 132\r\n", b"24 132\r\ntyped\r\n")
    assert resources() <= before


def test_all_that_was_written_to_a_terminal_is_in_the_log_when_it_is_closed(log):
    console = Console(log, has_input=False, terminal=True, once=False)
    program = run(console, ["seq", "20000"], log)
    assert console.write(b"not read") == 8
    program.wait(10)
    console.close()
    assert log.read_bytes().split() == [b"%d" % number for number in range(1, 20001)]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_program_that_could_not_be_started(log, terminal):
    before = resources()
    console = Console(log, has_input=True, terminal=terminal, once=False)
    console.started()
    console.close()
    wait_until(lambda: resources() <= before)
