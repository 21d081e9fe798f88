"""Runs a program, or a function, inside a running box, from a process outside it."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from testbed.errors import MachineError
from testbed.network import linux
from testbed.network.registry import Running

# In the box: the URL of the cluster's API, for what comes in from outside.
API_URL_FILE = Path("/run/api-url")


def exec_in(running: Running, entrance: Sequence[str], argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``argv`` in a running cluster and return its exit status; ``entrance`` is the command line that leads to the
    place in the box where it is to run.

    The program has the caller's terminal and standard input, unchanged, and hears the signals that ask the caller to
    end. Status 3 (with a line on standard error) means that the box could not be entered.
    """

    def program() -> int:
        os.setpgid(0, 0)  # it may be a child of what leads to it: all that hear a signal are a group
        if os.isatty(0):
            _take_terminal()
        os.execvpe(entrance[0], [*entrance, *argv], environment)

    status = _run_inside(running, program)
    if os.isatty(0):
        _take_terminal()
    return status


def call_in(running: Running, function: Callable[[str], int]) -> int:
    """Call a function in a process inside the box, with the URL of the cluster's API; returns what it returns.

    Status 3 (with a line on standard error) means that the box could not be entered.
    """

    def called() -> int:
        status = function(API_URL_FILE.read_text())
        sys.stdout.flush()
        return status

    return _run_inside(running, called)


def _run_inside(running: Running, work: Callable[[], int]) -> int:
    """The exit status of a process that does its work inside the box."""
    child = os.fork()
    if child == 0:
        _become(running, work)
    _pass_on(child, (signal.SIGTERM, signal.SIGHUP))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def _pass_on(child: int, signals: Iterable[signal.Signals]) -> None:
    """From here on these signals go to a child, and to its process group if it has one of its own."""

    def passed(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            try:
                os.killpg(child, number)
            except ProcessLookupError:
                os.kill(child, number)

    for each in signals:
        signal.signal(each, passed)


def _take_terminal() -> None:
    """Make the calling process's group the terminal's foreground group (Ctrl-C then goes to it alone).

    An interactive shell looks for its own group there; the group of a process outside its PID namespace has no number
    that it could see.
    """
    previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, previous)


def _become(running: Running, work: Callable[[], int]) -> None:
    status = MachineError.exit_status
    try:
        box = os.pidfd_open(running.init_pid)
        flags = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWPID
        if os.geteuid() != 0:
            flags |= linux.CLONE_NEWUSER
        linux.setns(box, flags)
        # A PID namespace holds for children only.
        child = os.fork()
        if child == 0:
            status = work()
            os._exit(status)
        # Ctrl-C reaches the terminal's foreground group, to which the program belongs if the terminal is its own.
        _pass_on(child, (signal.SIGTERM, signal.SIGHUP, *(() if os.isatty(0) else (signal.SIGINT,))))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = code if code >= 0 else 128 - code
    except OSError as error:
        os.write(2, f"cannot enter {running.name}: {error}\n".encode())
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        os._exit(status)
