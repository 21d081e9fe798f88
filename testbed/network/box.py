"""The sealed box: a run in its own user, network, PID, mount, UTS and IPC namespaces.

Four processes, each the parent of the next::

    supervisor   the command the user started; stays outside
    entrance     enters the new namespaces and waits
    init         PID 1 of the box: prepares its mounts, reaps orphans
    worker       runs the testbed

When any of the first three dies the kernel kills the next (PR_SET_PDEATHSIG), and when PID 1 of a PID namespace dies
the kernel kills every process in it (pid_namespaces(7)). Namespaces, interfaces and mounts go with their last process,
so nothing has to be cleaned up even after ``kill -9``, but for control groups (:mod:`testbed.network.janitor`).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from testbed.errors import MachineError, TestbedError
from testbed.network import linux, netns
from testbed.network.janitor import Janitor
from testbed.network.netlink import Netlink, link_up
from testbed.network.pods.cgroup_trees import trees

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Exit status of a process that a signal ended, as shells report it.
_SIGNALLED = 128


def run_sealed(worker: Callable[[], int], on_start: Callable[[int], None] | None = None) -> int:
    """Run ``worker`` in a new sealed box and return its exit status.

    ``worker`` is called in a forked process, so it sees the caller's memory and open files (a socket opened before
    stays in the caller's network namespace). ``on_start`` is called outside with the box's PID 1 as the caller sees it.
    SIGINT, SIGTERM and SIGHUP are passed on to the worker, once each.

    Raises :class:`MachineError` when the machine does not let this user make the namespaces.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    has_groups = bool(trees())  # looked for before the fork: the box and its janitor are to know the same
    report_read, report_write = os.pipe()
    supervisor = os.getpid()
    entrance = os.fork()
    if entrance == 0:
        os.close(report_read)
        exit_with(lambda: _entrance(worker, supervisor, report_write))
    os.close(report_write)
    previous = _forward_signals_to(entrance)
    try:
        with os.fdopen(report_read) as report:
            init_pid, _, error = report.readline().rstrip("\n").partition(" ")
        janitor = None
        if init_pid.isdigit() and has_groups:
            with suppress(OSError):  # the box has ended already
                janitor = Janitor(int(init_pid))
        if init_pid.isdigit() and on_start is not None:
            on_start(int(init_pid))
        status = _wait(entrance)
        if janitor is not None:
            janitor.finish()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if error:
        raise MachineError(error)
    return status


def _entrance(worker: Callable[[], int], supervisor: int, report: int) -> int:
    linux.die_with_parent()
    if os.getppid() != supervisor:
        return _SIGNALLED + signal.SIGKILL
    # The terminal's Ctrl-C must reach the box once, through the supervisor, and none of the daemons in it.
    os.setsid()
    user, group = os.geteuid(), os.getegid()
    flags = linux.CLONE_NEWNET | linux.CLONE_NEWPID | linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
    try:
        if user != 0:
            linux.unshare(linux.CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        linux.unshare(flags)
    except OSError as error:
        os.write(report, f"- {_refused(error)}\n".encode())
        return MachineError.exit_status
    alive_read, alive_write = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(report)
        os.close(alive_write)
        exit_with(lambda: _init(worker, alive_read))
    os.close(alive_read)
    os.write(report, f"{init}\n".encode())
    os.close(report)
    _forward_signals_to(init)
    return _wait(init)


def _refused(error: OSError) -> str:
    return (
        f"this machine does not let user {os.geteuid()} make namespaces ({error.strerror}); "
        "run as root, or allow it: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
        "(Ubuntu 24.04: kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def _init(worker: Callable[[], int], alive: int) -> int:
    linux.die_with_parent()
    waited = {*_FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    # The entrance may have died between fork and the line above; then its end of the pipe is closed.
    if select.select([alive], [], [], 0)[0]:
        return _SIGNALLED + signal.SIGKILL
    _prepare_mounts()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    with Netlink() as netlink:
        netlink.request([link_up(netlink.index("lo"))])
    process = os.fork()
    if process == 0:
        os.close(alive)
        for number in _FORWARDED:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)
        exit_with(worker)
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo == signal.SIGCHLD:
            status = _reap(process)
            if status is not None:
                return status
        # A sender outside the box has no number in here. One inside (`kill 1` in a pod) is not the one who may end it.
        elif received.si_pid == 0:
            os.kill(process, received.si_signo)


def _reap(process: int) -> int | None:
    """Take note of every process that has ended; the exit status of ``process`` if it is among them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == process:
                status = _status(wait_status)
    return status


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End the worker as Ctrl-C does, so that it keeps what it has measured."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _prepare_mounts() -> None:
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("tmpfs", "/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    for directory in ("/run/netns", "/run/places", "/run/openvswitch", "/run/lock"):
        Path(directory).mkdir()
    # A mount of its own, so that a pod's mount namespace can drop all other namespaces' files at once.
    linux.mount("tmpfs", str(netns.DIRECTORY), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")


def _forward_signals_to(child: int) -> dict[signal.Signals, signal.Handlers | Callable[..., object] | int | None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return

    return {number: signal.signal(number, forward) for number in _FORWARDED}


def _wait(child: int) -> int:
    return _status(os.waitpid(child, 0)[1])


def _status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else _SIGNALLED - code


def exit_with(body: Callable[[], int]) -> None:
    """Run the rest of a forked process; it must never return into the caller's code."""
    status = 1
    try:
        status = body()
    except KeyboardInterrupt:
        status = _SIGNALLED + signal.SIGINT
    except TestbedError as error:
        sys.stderr.write(f"{error}\n")
        status = error.exit_status
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
