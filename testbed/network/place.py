"""Where the programs of a node, a pod or an outside host run: namespaces that are made when the first one starts.

The network namespace exists from the build on. The mount and UTS namespaces (own /etc/hosts, /etc/resolv.conf, /sys
and host name) cost memory and time that an idle pod does not need, so they are made on first use and then kept by
bind mounts, without a process.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.network import linux, netns

_STATE = Path("/run/places")


@dataclass
class Place:
    """A named place. ``files`` maps absolute paths (such as /etc/hosts) to the text that programs there see."""

    namespace: str
    hostname: str
    files: Mapping[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _ready: bool = False

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` in this place (its namespaces are made first where they are not yet)."""
        self.prepare()
        directory = _STATE / self.namespace
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

    def prepare(self) -> None:
        """Make the mount and UTS namespaces, once."""
        with self._lock:
            if not self._ready:
                self._make()
                self._ready = True

    def _make(self) -> None:
        directory = _STATE / self.namespace
        directory.mkdir()
        for name in ("mnt", "uts"):
            (directory / name).touch()
        contents = {}
        for number, (target, text) in enumerate(self.files.items()):
            source = directory / f"file{number}"
            source.write_text(text)
            contents[str(source)] = target
        thread = _NamespaceThread(self.namespace, self.hostname, contents)
        thread.start()
        try:
            thread.made.wait()
            if thread.error is None:
                for name in ("mnt", "uts"):
                    linux.mount(
                        f"/proc/self/task/{thread.native_id}/ns/{name}", f"{directory}/{name}", flags=linux.MS_BIND
                    )
        finally:
            thread.pinned.set()
            thread.join()
        if thread.error is not None:
            raise thread.error


class _NamespaceThread(threading.Thread):
    """Enters new namespaces and stays until they are pinned; a thread can do so without leaving a process behind."""

    def __init__(self, namespace: str, hostname: str, files: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self.namespace, self.hostname, self.files = namespace, hostname, files
        self.made, self.pinned = threading.Event(), threading.Event()
        self.error: OSError | None = None

    def run(self) -> None:
        try:
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
