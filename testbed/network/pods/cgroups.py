"""The control groups that keep containers to their limits (cgroups(7)).

Each container that asks for it has a group for each run, below one group of the box in each tree of groups.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.objects import JsonObject
from testbed.network.pods.cgroup_trees import CONTROLLERS, Tree, trees
from testbed.network.pods.limits import Limits, limits_of, settings

_PREFIX = "testbed-"
_TRIES = 10
# Not every kernel counts what is swapped.
_OPTIONAL = frozenset(("memory.memsw.limit_in_bytes", "memory.swap.max"))


@dataclass(frozen=True)
class Group:
    """The groups of one container's run; none where nothing is limited, or nothing can be."""

    folders: tuple[Path, ...] = ()
    lacking: str = ""
    """What of the container's limits is not enforced, and why."""

    @property
    def entrances(self) -> list[str]:
        """The files by which a process enters: it writes 0."""
        return [str(folder / "cgroup.procs") for folder in self.folders]

    @property
    def has_run_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process in it because of its limit."""
        return any(_killed(folder) for folder in self.folders)


class Cgroups:
    """The groups of this box. All methods are called in one thread."""

    def __init__(self) -> None:
        self._name = box_name(Path("/proc/self"))
        self._locks: dict[Path, int] = {}
        self._left: list[Path] = []

    def make(self, name: str, container: JsonObject) -> Group:
        """The group of one run of a container; ``name`` is like no other's. Raises NotConfigured."""
        limits = limits_of(container)
        asked = (container.get("resources") or {}).get("limits") or {}
        lacking = {
            resource: "no cgroup may be made" if resource in CONTROLLERS else "not supported" for resource in asked
        }
        folders = []
        for tree in trees():
            try:
                if settings(tree, limits):
                    folders.append(self._make(tree, name, limits))
            except OSError as error:
                lacking |= {controller: str(error.strerror) for controller in tree.controllers if controller in lacking}
            else:
                lacking = {resource: why for resource, why in lacking.items() if resource not in tree.controllers}
        return Group(tuple(folders), ", ".join(f"{resource} ({why})" for resource, why in sorted(lacking.items())))

    def remove(self, group: Group) -> None:
        """Remove a group whose processes have ended; one that is still ending is tried again with the next."""
        left = [*self._left, *group.folders]
        self._left = [folder for folder in left if not _removed(folder)]

    def close(self) -> None:
        """Remove what is left when all containers have ended."""
        for folder, descriptor in self._locks.items():
            _removed(folder)
            os.close(descriptor)
        self._locks.clear()

    def _make(self, tree: Tree, name: str, limits: Limits) -> Path:
        folder = self._of_box(tree) / name
        folder.mkdir(exist_ok=True)  # there was a try to start this run before
        try:
            for file, value in settings(tree, limits).items():
                if file not in _OPTIONAL or (folder / file).exists():
                    (folder / file).write_text(value)
        except OSError:
            folder.rmdir()
            raise
        return folder

    def _of_box(self, tree: Tree) -> Path:
        """The group of the box, which a lock tells from one that is nobody's."""
        folder = tree.folder / self._name
        if folder in self._locks:
            return folder
        _remove_abandoned(tree.folder)
        if tree.version == 2:
            _pass_on(tree.folder, tree.controllers)
        for _ in range(_TRIES):
            folder.mkdir(exist_ok=True)
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # another box has taken it for an abandoned one
                continue
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if folder.exists():
                break
            os.close(descriptor)
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        self._locks[folder] = descriptor
        if tree.version == 2:
            _pass_on(folder, tree.controllers)
        # All that is limited competes, together, with what is not: not as one process but as a node's pods do.
        everything = Limits(cpu_request=float(os.cpu_count() or 1))
        for file, value in settings(tree, everything).items():
            (folder / file).write_text(value)
        return folder


def box_name(process: Path) -> str:
    """The name of a box's groups, after its PID namespace, by a folder of /proc of a process in it. Raises OSError."""
    return f"{_PREFIX}{(process / 'ns' / 'pid').stat().st_ino}"


def remove_all(name: str) -> bool:
    """Remove all groups of a box whose processes have ended. False when some are still ending."""
    removed = [_removed(tree.folder / name) for tree in trees()]
    return all(removed)


def _remove_abandoned(folder: Path) -> None:
    """Remove the groups of boxes that have ended without anybody to remove them."""
    for group in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _removed(group)
            finally:
                os.close(descriptor)


def _removed(folder: Path) -> bool:
    try:
        for group in [entry for entry in folder.iterdir() if entry.is_dir()]:
            group.rmdir()
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _pass_on(folder: Path, controllers: Sequence[str]) -> None:
    """Have a group of version 2 give controllers to its children."""
    file = folder / "cgroup.subtree_control"
    missing = set(controllers) - set(file.read_text().split())
    if missing:
        file.write_text(" ".join(f"+{controller}" for controller in sorted(missing)))


def _killed(folder: Path) -> bool:
    for name in ("memory.oom_control", "memory.events"):
        with suppress(FileNotFoundError):
            lines = dict(line.split() for line in (folder / name).read_text().splitlines())
            return int(lines.get("oom_kill", 0)) > 0
    return False
