"""The parent of all pods' processes: started once, it makes pods' namespaces and starts every program in them.

It is one small process with one thread, so that it can move into a pod's namespaces itself, start the program there,
and move back: 0.3 ms by vfork, and 1 ms more where a fork has to mount /proc first, for the first program of a PID
namespace. A chain of nsenter and a fork of the testbed's own process would take several. The testbed's Python programs
are imported here beforehand: a pod that runs one is a fork, not an interpreter.

It is asked over its standard input, a socket (:mod:`testbed.network.pods.frames`), and says there which of its children
have ended. When the testbed ends, so does it.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from testbed.network import linux
from testbed.network.pods.extra_tools import link_tools
from testbed.network.pods.frames import Incoming, Message, send
from testbed.network.pods.image_files import write_image_files
from testbed.network.pods.joining import join
from testbed.network.pods.pause import pause_commands
from testbed.network.pods.rootfs import TOOLS, Mount, RootFilesystem

_NAMESPACES = {
    "mnt": linux.CLONE_NEWNS,
    "uts": linux.CLONE_NEWUTS,
    "ipc": linux.CLONE_NEWIPC,
    "net": linux.CLONE_NEWNET,
    "pid": linux.CLONE_NEWPID,
}
_FOLDER = Path("/run/pods")
_TOOLS = _FOLDER / "tools"
_SHARED = "dev-shm"  # in a pod's folder
_PROGRAMS = Path(__file__).parents[1] / "programs"
# Programs that are started by a fork.
_FORKED = ("whoami", "welcome", "echo_server", "three_tiers")


class Parent:
    """Answers requests until the other end of the socket is closed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._box = f"/proc/{os.getppid()}/root"  # with all that is mounted there
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        self._home = {
            os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC): flag for name, flag in _NAMESPACES.items()
        }
        _TOOLS.mkdir(parents=True, exist_ok=True)
        self._pause, self._pause_first = pause_commands(_TOOLS / "pause", TOOLS / "pause")
        write_image_files(_FOLDER / "images")
        self._root = RootFilesystem(_FOLDER / "images", _TOOLS)
        link_tools(_TOOLS / "bin")
        linux.mount(str(_TOOLS), str(_TOOLS), flags=linux.MS_BIND)
        linux.mount("none", str(_TOOLS), flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)
        self._mains = {str(_PROGRAMS / f"{name}.py"): _main(name) for name in _FORKED}
        self._sandboxes: dict[str, int] = {}  # the pause processes, by the name of the sandbox
        self._names: dict[int, str] = {}  # the other way round
        self._untouched: set[str] = set()  # sandboxes whose layer of files no container has yet
        self._children: set[int] = set()
        self._groups: list[int] = []  # the cgroups that the program to be started joins
        self._layers = itertools.count(1)
        self._first = False  # whether the program to be started is the first of its PID namespace
        self._do: dict[str, Callable[[Message], int]] = {"sandbox": self._make_sandbox, "run": self._run}

    def serve(self) -> None:
        """Until the testbed has no more to ask."""
        self._find_out_overlays()
        ended_read, ended_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(ended_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        incoming = Incoming()
        gc.collect()
        gc.freeze()  # forks share what is there now
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(ended_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == ended_read:
                        os.read(ended_read, 4096)
                        self._report_ended()
                    else:
                        received = self._connection.recv(1 << 20)
                        if not received:
                            return
                        for message in incoming.take(received):
                            self._answer(message)

    def _find_out_overlays(self) -> None:
        self._away(lambda: self._root.find_out(_FOLDER / "trial"), linux.CLONE_NEWNS)
        # Every pod's mount namespace is a copy of this one, so it had better be small: the files of all network
        # namespaces, and control groups, are looked up by way of the testbed's own process instead.
        linux.unmount_lazily("/run/netns")
        with suppress(OSError):  # a user namespace may not part what it was given
            linux.unmount_lazily("/sys")

    def _away(self, work: Callable[[], Any], new: int) -> Any:
        """Do something in new namespaces, or in those that ``work`` enters, and come back."""
        try:
            if new:
                linux.unshare(new)
            return work()
        finally:
            for fd, flag in self._home.items():
                linux.setns(fd, flag)
            os.chdir("/")

    def _answer(self, message: Message) -> None:
        if message["do"] == "signal":
            self._signal(message)
            return
        try:
            answer = {"id": message["id"], "pid": self._do[message["do"]](message)}
        except OSError as error:
            answer = {
                "id": message["id"],
                "error": f"{error.strerror}: {error.filename}" if error.filename else str(error),
            }
        except Exception as error:
            # One request must not end the parent of all: a NUL in a command, for example, is a ValueError.
            answer = {"id": message["id"], "error": str(error)}
        send(self._connection, answer)

    # -- starting -----------------------------------------------------------------------------------------------

    def _make_sandbox(self, message: Message) -> int:
        """A pod's namespaces, with the process that keeps them: PID 1 of those whose containers share processes."""

        def make() -> int:
            self._enter_network(message["network"])
            linux.sethostname(message["hostname"])
            folder = _FOLDER / message["name"]
            shared = folder / _SHARED
            shared.mkdir(parents=True, exist_ok=True)
            shared.chmod(0o1777)
            self._root.enter(folder / f"pod-{next(self._layers)}", shared, message["files"], ())
            return self._spawn(self._pause, {}, "/", subprocess.DEVNULL)

        shared = linux.CLONE_NEWPID if message["processes"] == "pod" else 0
        pid: int = self._away(make, linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | shared)
        self._sandboxes[message["name"]] = pid
        self._names[pid] = message["name"]
        self._untouched.add(message["name"])
        return pid

    def _run(self, message: Message) -> int:
        """A container's first program, with files and (but for pods that share them) processes of its own; or, with
        ``like``, a program beside another one, with what that one sees.

        The layer of files that the pod was made with goes to the first container that has no mounts: that costs less
        than another one, and whoever looks at the pod's files from outside sees that container's.
        """
        like = message.get("like") or self._sandboxes.get(message["sandbox"])
        processes = message.get("processes", "")
        if like not in self._children:
            raise ProcessLookupError(3, "the pod's namespaces are gone")
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        # A terminal that is opened must not become this process's own.
        flags = os.O_NOCTTY | os.O_CLOEXEC | (os.O_RDWR if message.get("terminal") else os.O_RDONLY)
        try:
            console = os.open(message["console"], flags) if message.get("console") else None
        except OSError:
            os.close(log)
            raise

        def start() -> int:
            mounts = [Mount(*entry) for entry in message.get("mounts", ())]
            in_first_layer = bool(processes) and not mounts and message["sandbox"] in self._untouched
            flags = linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
            if not processes or in_first_layer:
                flags |= linux.CLONE_NEWNS
            if not processes or processes == "pod":
                flags |= linux.CLONE_NEWPID
            pod = os.pidfd_open(like)
            try:
                linux.setns(pod, flags)
            finally:
                os.close(pod)
            if processes:
                linux.unshare(linux.CLONE_NEWNS)
                self._enter_processes(processes, message.get("target"))
            if in_first_layer:
                self._untouched.discard(message["sandbox"])
            elif processes:
                folder = _FOLDER / message["sandbox"]
                self._root.enter(folder / message["layer"], folder / _SHARED, message["files"], mounts)
            argv, directory = message["argv"] or self._pause, message.get("directory") or "/"
            if not message["argv"] and self._first and self._pause_first:
                argv, self._first = self._pause_first, False
            Path(directory).mkdir(parents=True, exist_ok=True)
            if console is not None:
                return self._spawn_on(console, message, argv, directory, log)
            if len(argv) > 1 and argv[0] == sys.executable and argv[1] in self._mains:
                return self._fork(self._mains[argv[1]], argv[1:], message["environment"], directory, log)
            return self._spawn(argv, message["environment"], directory, log)

        try:
            for entrance in message.get("groups", ()):
                self._groups.append(os.open(f"{self._box}{entrance}", os.O_WRONLY | os.O_CLOEXEC))
            pid: int = self._away(start, 0)
            return pid
        finally:
            self._first = False
            while self._groups:
                os.close(self._groups.pop())
            os.close(log)
            if console is not None:
                os.close(console)

    def _enter_processes(self, processes: str, target: int | None) -> None:
        """What is started next sees these processes: its own, or those of a container that runs (``target``)."""
        if processes == "container" and target in self._children:
            container = os.pidfd_open(target)
            try:
                linux.setns(container, linux.CLONE_NEWPID)
            finally:
                os.close(container)
        elif processes == "container":
            linux.unshare(linux.CLONE_NEWPID)
        self._first = processes != "node"

    def _enter_network(self, name: str) -> None:
        fd = os.open(f"{self._box}/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(fd, linux.CLONE_NEWNET)
        finally:
            os.close(fd)

    def _spawn_on(self, console: int, message: Message, argv: list[str], directory: str, log: int) -> int:
        """A program with standard input, or with a terminal, which becomes its controlling terminal."""
        environment: dict[str, str] = message["environment"]
        if message["terminal"]:
            command = ["setsid", "--ctty", *argv]
            return self._spawn(command, environment, directory, console, stdin=console, own_session=False)
        return self._spawn(argv, environment, directory, log, stdin=console)

    def _spawn(
        self,
        argv: list[str],
        environment: dict[str, str],
        directory: str,
        log: int,
        *,
        stdin: int = subprocess.DEVNULL,
        own_session: bool = True,
    ) -> int:
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=directory,
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=own_session,
            preexec_fn=self._settle if self._first or self._groups else None,
        )
        process.returncode = 0  # it must not be waited for by subprocess: _report_ended does
        self._children.add(process.pid)
        return process.pid

    def _fork(
        self, main: Callable[[], None], argv: list[str], environment: dict[str, str], directory: str, log: int
    ) -> int:
        # PID 1 never hears of a signal that comes before it has a handler, unless it is blocked until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pid = os.fork()
            if pid == 0:
                self._become(main, argv, environment, directory, log)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._children.add(pid)
        return pid

    def _settle(self) -> None:
        """What a new process does first: /proc shows the PID namespace of whoever mounts it."""
        join(self._groups)
        if self._first:
            linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)

    def _become(
        self, main: Callable[[], None], argv: list[str], environment: dict[str, str], directory: str, log: int
    ) -> NoReturn:
        """The rest of a forked process's life."""
        status = 1
        try:
            self._settle()
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.closerange(3, 256)
            os.chdir(directory)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv[:] = argv
            for stream in (sys.stdout, sys.stderr):
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    # -- ending -------------------------------------------------------------------------------------------------

    def _signal(self, message: Message) -> None:
        """To a child, or to all in its session's group; to one that has ended already, to nobody."""
        for pid in message["pids"]:
            if pid in self._children:
                # A fork that has just been made has no group yet.
                for send_to in (os.killpg, os.kill) if message["group"] else (os.kill,):
                    with suppress(ProcessLookupError):
                        send_to(pid, message["number"])

    def _report_ended(self) -> None:
        ended = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            # What a program has left behind in its group goes with it, as with a container's first process.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            self._children.discard(pid)
            if (name := self._names.pop(pid, None)) is not None and self._sandboxes.get(name) == pid:
                del self._sandboxes[name]
                self._untouched.discard(name)
            ended.append([pid, os.waitstatus_to_exitcode(status)])
        if ended:
            send(self._connection, {"ended": ended})


def _main(name: str) -> Callable[[], None]:
    main: Callable[[], None] = importlib.import_module(f"testbed.network.programs.{name}").main
    return main


def main() -> None:
    """Serve on standard input."""
    linux.die_with_parent()
    connection = socket.socket(fileno=os.dup(0))
    connection.set_inheritable(False)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    with suppress(ConnectionError, BrokenPipeError):
        Parent(connection).serve()


if __name__ == "__main__":
    main()
