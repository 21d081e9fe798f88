"""Where the programs of a node, a pod or an outside host run: namespaces that are made when the first one starts.

The network namespace exists from the build on. The mount and UTS namespaces (own /etc/hosts, /etc/resolv.conf, /sys
and host name) cost memory and time that an idle pod does not need, so they are made on first use and then kept by
bind mounts, without a process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from testbed.network import linux, netns

_STATE = Path("/run/places")
_KINDS = {"net": "net", "mount": "mnt", "uts": "uts", "ipc": "ipc"}  # nsenter's words for the files in /proc/PID/ns
_KEPT = "kept"  # in a pod's folder: a link to the namespaces of the process that keeps them


Processes = Literal["container", "pod", "node"]
"""Whose processes a container sees: its own, those of its pod (shareProcessNamespace), or all (hostPID)."""


def namespace_command(namespaces: str, argv: Sequence[str], *, processes: bool = False) -> list[str]:
    """The command line that runs ``argv`` in a process's namespaces, all but those of users.

    ``processes`` says whether it enters that of processes: then ``argv`` is a child of what this starts, in the same
    process group, and its status is passed on.
    """
    options = [f"--{kind}={namespaces}/{name}" for kind, name in _KINDS.items()]
    if processes:
        options.append(f"--pid={namespaces}/pid")
    return ["nsenter", *options, "--wdns=/", "--", *argv]


@dataclass
class Place:
    """A network namespace with a host name; ``files`` maps absolute paths (/etc/hosts) to the text programs there see.

    Places that share a network namespace (hostNetwork pods) differ in ``state_name``. ``directories`` maps paths to the
    directories that stand there instead. The namespaces of a pod are made by whoever runs pods, and kept by a process
    of its own (``of_pod``).
    """

    namespace: str
    hostname: str
    files: Mapping[str, str] = field(default_factory=dict)
    state_name: str = ""
    directories: Mapping[str, str] = field(default_factory=dict)
    of_pod: bool = False
    processes: Processes = "container"
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _ready: bool = field(default=False, init=False, repr=False, compare=False)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` in this place (its namespaces are made first where they are not yet).

        Raises OSError for a pod whose namespaces are not there.
        """
        if self.of_pod:
            return namespace_command(str((self._directory / _KEPT).readlink()), argv)
        self.prepare()
        directory = self._directory
        return [
            "nsenter",
            f"--net={netns.path(self.namespace)}",
            f"--mount={directory}/mnt",
            f"--uts={directory}/uts",
            "--wd=/",
            "--",
            *argv,
        ]

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in this place; options as of :class:`subprocess.Popen`."""
        return subprocess.Popen(self.command(argv), **options)

    def keep(self, namespaces: str) -> None:
        """The namespaces of a pod are those in this folder (a process's, in /proc) from here on."""
        directory = self._directory
        directory.mkdir(exist_ok=True)
        link = directory / f"{_KEPT}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(namespaces)
        link.replace(directory / _KEPT)

    @property
    def _directory(self) -> Path:
        return _STATE / (self.state_name or self.namespace)

    def prepare(self) -> None:
        """Make the mount and UTS namespaces, once."""
        with self._lock:
            if not self._ready:
                # Another process of the box (one that `testbed exec` started) may be making the same namespaces.
                directory = self._directory
                directory.mkdir(exist_ok=True)
                with (directory / "lock").open("w") as guard:
                    fcntl.flock(guard, fcntl.LOCK_EX)
                    if not (directory / "ready").exists():
                        self._make(directory)
                        (directory / "ready").touch()
                self._ready = True

    def remove(self) -> None:
        """Let go of the namespaces; they end with their last process."""
        directory = self._directory
        if directory.exists():
            for name in ("mnt", "uts"):
                with suppress(OSError):
                    linux.unmount_lazily(f"{directory}/{name}")
            shutil.rmtree(directory)

    def _make(self, directory: Path) -> None:
        for name in ("mnt", "uts"):
            (directory / name).touch()
        contents = {source: target for target, source in self.directories.items()}
        for number, (target, text) in enumerate(self.files.items()):
            source = directory / f"file{number}"
            source.write_text(text)
            contents[str(source)] = target
        for processor in sorted(os.sched_getaffinity(0)):
            if self._pin(_NamespaceThread(self.namespace, self.hostname, contents, processor), directory):
                return
        raise OSError(errno.EINVAL, f"the namespaces of {self.hostname} cannot be kept")

    @staticmethod
    def _pin(thread: _NamespaceThread, directory: Path) -> bool:
        """Keep the namespaces that a thread has entered. False when the kernel takes the new one for an older one.

        A mount namespace may only be bound in one that is older than itself. Linux 6.18 goes by identifiers that each
        processor draws from a batch of its own, so a new namespace can look older; made on the processor that made the
        box's, it never does.
        """
        thread.start()
        try:
            thread.made.wait()
            if thread.error is not None:
                raise thread.error
            namespaces = f"/proc/self/task/{thread.native_id}/ns"
            linux.mount(f"{namespaces}/uts", f"{directory}/uts", flags=linux.MS_BIND)
            try:
                linux.mount(f"{namespaces}/mnt", f"{directory}/mnt", flags=linux.MS_BIND)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                linux.unmount_lazily(f"{directory}/uts")
                return False
            return True
        finally:
            thread.pinned.set()
            thread.join()


class _NamespaceThread(threading.Thread):
    """Enters new namespaces and stays until they are pinned; a thread can do so without leaving a process behind."""

    def __init__(self, namespace: str, hostname: str, files: Mapping[str, str], processor: int) -> None:
        super().__init__(daemon=True)
        self.namespace, self.hostname, self.files, self.processor = namespace, hostname, files, processor
        self.made, self.pinned = threading.Event(), threading.Event()
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            os.sched_setaffinity(0, {self.processor})  # of this thread only
            netns.enter(self.namespace)
            linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWUTS)
            linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
            linux.sethostname(self.hostname)
            for source, target in self.files.items():
                real = Path(target).resolve()
                if not real.exists():
                    # /etc/resolv.conf is often a link into /run, which is empty in the box.
                    real.parent.mkdir(parents=True, exist_ok=True)
                    real.touch()
                linux.mount(source, str(real), flags=linux.MS_BIND)
            linux.unmount_lazily(str(netns.DIRECTORY))
            with suppress(OSError):
                # /sys/class/net shows the namespace it was mounted from. A user namespace may forbid the mount where
                # the machine masks parts of /sys; then programs see the box's own, as under `nsenter --net`.
                linux.mount("sysfs", "/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        except OSError as error:
            self.error = error
        finally:
            self.made.set()
            self.pinned.wait()
