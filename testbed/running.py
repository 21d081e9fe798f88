"""A cluster that is kept running for people: its name is claimed, its box started, in the foreground or behind it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from testbed.doctor.experiment_needs import experiment_needs
from testbed.doctor.facts import DatapathWish
from testbed.doctor.needs import require
from testbed.doctor.trials import use_system_directories
from testbed.network import control
from testbed.network.box import exit_with, run_sealed
from testbed.network.kubeconfig import open_door, write_kubeconfig
from testbed.network.plan import Plan, make_plan
from testbed.network.registry import Claim, claim, claim_free
from testbed.progress import PlainProgress, Progress, open_progress
from testbed.serving import Box, serve

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment

_DONE = b"\n"
# On the way from a cluster in the background to the command that waits for it: no more progress, the cluster is there.
_READY = "\x06\n"
_SIGNALLED = 128  # exit status of what a signal has ended, as shells report it: this much and the signal's number


@dataclass(frozen=True)
class Wish:
    """How a cluster is kept: its name (None: any that is free), datapath, with a prompt, in the background."""

    name: str | None
    datapath: DatapathWish
    prompt: bool
    detach: bool


def keep_running(checked: CheckedExperiment, wish: Wish) -> int:
    """Build the experiment's first cluster and keep it until Ctrl-C, SIGTERM or the end of the prompt; exit status.

    With ``detach`` it returns when the cluster is there. Raises NameTaken, and MachineError when this machine cannot
    do it; both before anything is built.
    """
    with ExitStack() as stack:
        claimed = claim(wish.name) if wish.name else claim_free(checked.experiment.name)
        stack.callback(claimed.release)
        use_system_directories()
        require(experiment_needs(checked, wish.datapath, probes=False))
        plan = make_plan(checked, checked.experiment.builds[0])
        if not wish.detach:
            return _supervise(plan, wish, claimed, open_progress(), None)
        stack.pop_all()  # the name belongs to the process in the background now
        return _detach(plan, wish, claimed)


# -- in the foreground, or as the process in the background ---------------------------------------------------------


def _supervise(plan: Plan, wish: Wish, claimed: Claim, progress: Progress, report: TextIO | None) -> int:
    """Outside the box: open what reaches into it, start it, make it known once it is built, and wait for its end."""
    name, init_pids = claimed.running.name, list[int]()
    door = open_door()
    questions = control.listen(claimed.running.control)
    write_kubeconfig(claimed.running.kubeconfig, name, door)
    outside, inside = socket.socketpair()

    def known() -> None:
        """Inside the box: have the supervisor make the cluster known."""
        inside.sendall(_DONE)
        inside.recv(1)

    def make_known() -> None:
        if outside.recv(1):  # else the box has ended before the cluster was built
            claimed.ready(init_pids[0])
            outside.sendall(_DONE)
            if report is not None:
                report.write(_READY)
                report.close()

    with outside, inside, questions, door, ExitStack() as stack:

        def started(init_pid: int) -> None:
            init_pids.append(init_pid)
            for own_copy in (inside, questions, door):
                own_copy.close()  # the box has the only ones then, so what is outside notices its end
            thread = threading.Thread(target=make_known)
            thread.start()
            stack.callback(thread.join)

        box = Box(name, claimed.running.kubeconfig, wish.datapath, wish.prompt, door, questions, known)
        status = run_sealed(lambda: serve(plan, box, progress), started)
    if status > _SIGNALLED and status != _SIGNALLED + signal.SIGINT:
        ended_by = signal.Signals(status - _SIGNALLED).name
        memory = (
            " (nobody did? then the machine may have run out of memory; dmesg tells)" if ended_by == "SIGKILL" else ""
        )
        sys.stderr.write(
            f"{name} has ended: the process that holds it (API, kubelets, loops) was ended by {ended_by}{memory}\n"
        )
    return status


# -- the background ---------------------------------------------------------------------------------------------


def _detach(plan: Plan, wish: Wish, claimed: Claim) -> int:
    """Leave the cluster to a process of its own; returns when it is built, or has failed."""
    log = claimed.running.log
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        exit_with(lambda: _background(plan, wish, claimed, write))
    os.close(write)
    previous = signal.signal(signal.SIGINT, lambda *_: os.kill(child, signal.SIGINT))
    with os.fdopen(read) as report:
        for line in report:
            if line == _READY:
                break
            sys.stderr.write(line)
        else:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            sys.stderr.write(log.read_text(errors="replace") if log.exists() else "")
            log.unlink(missing_ok=True)
            return status if status >= 0 else _SIGNALLED - status
    signal.signal(signal.SIGINT, previous)
    sys.stdout.write(f"KUBECONFIG={claimed.running.kubeconfig}\n")
    return 0


def _background(plan: Plan, wish: Wish, claimed: Claim, report: int) -> int:
    os.setsid()
    _redirect(claimed.running.log)
    logging.Formatter.converter = time.gmtime  # as the cluster's Events
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    try:
        claimed.supervised_here(detached=True)
        with os.fdopen(report, "w", buffering=1) as waiting:
            status = _supervise(plan, wish, claimed, PlainProgress(waiting), waiting)
        if status == 0:
            claimed.running.log.unlink()  # it has ended as it was told to
    finally:
        claimed.release()
    return status


def _redirect(log: Path) -> None:
    """Read nothing, and write everything to a file, from here on and in all processes that are started."""
    log.unlink(missing_ok=True)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    for opened, numbers in ((nothing, (0,)), (output, (1, 2))):
        for number in numbers:
            os.dup2(opened, number)
        os.close(opened)
