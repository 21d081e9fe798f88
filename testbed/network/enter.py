"""Runs a program inside a running box, from a process outside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from testbed.errors import MachineError
from testbed.network import linux
from testbed.network.place import Place
from testbed.network.registry import Running
from testbed.spec.endpoints import EndpointRef


def exec_in(running: Running, endpoint: EndpointRef, argv: Sequence[str]) -> int:
    """Run ``argv`` at an endpoint of a running cluster; returns its exit status.

    The program has the caller's terminal and standard input, unchanged. Raises KeyError when there is no such endpoint.
    Status 3 (with a line on standard error) means that the box could not be entered.
    """
    place = running.places[str(endpoint)]
    child = os.fork()
    if child == 0:
        _become(running, place, argv)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if os.isatty(0):
        _take_terminal()
    return status if status >= 0 else 128 - status


def _take_terminal() -> None:
    """Make the calling process's group the terminal's foreground group (Ctrl-C then goes to it alone).

    An interactive shell looks for its own group there; the group of a process outside its PID namespace has no number
    that it could see.
    """
    previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, previous)


def _become(running: Running, place: Place, argv: Sequence[str]) -> None:
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
            if os.isatty(0):
                os.setpgid(0, 0)
                _take_terminal()
            command = place.command(argv)
            os.execvp(command[0], command)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = code if code >= 0 else 128 - code
    except OSError as error:
        os.write(2, f"cannot enter {running.name}: {error}\n".encode())
    finally:
        os._exit(status)
