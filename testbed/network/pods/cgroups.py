"""What a container may use of processors and memory, kept to by control groups of the kernel (cgroups(7)).

Each container that asks for it has a group for each run, below one group of the box. They are made where this user may
make them: in version 1 below the testbed's own group of the hierarchies ``cpu`` and ``memory``; in version 2 below the
nearest group above it that has these controllers for its children and is not limited itself.
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.objects import JsonObject
from testbed.cluster.quantities import quantity
from testbed.network.pods.environment import NotConfigured

_CONTROLLERS = ("cpu", "memory")
_PREFIX = "testbed-"
_PERIOD_US = 100_000  # of the limit of processor time, as a kubelet sets it
_LEAST_QUOTA_US, _LEAST_SHARES = 1_000, 2
_SHARES = 1_024  # of one processor
# More than any machine has, and not too much for the kernel.
_MOST_PROCESSORS, _MOST_BYTES = 10_000, 1 << 60
_TRIES = 10


@dataclass(frozen=True)
class Limits:
    """A container's ``resources`` in processors and bytes; None: not said."""

    cpu: float | None = None
    cpu_request: float | None = None
    memory_bytes: int | None = None


def limits_of(container: JsonObject) -> Limits:
    """What a container's spec says. Raises NotConfigured for what is no quantity."""
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = {**limits, **(resources.get("requests") or {})}
    try:
        cpu, memory = (quantity(str(limits.get(name) or 0)) for name in _CONTROLLERS)
        request = quantity(str(requests["cpu"])) if "cpu" in requests else None
    except ValueError as error:
        raise NotConfigured(str(error)) from None
    return Limits(
        float(min(cpu, _MOST_PROCESSORS)) or None,  # no limit, as runtimes take a 0
        None if request is None else float(min(request, _MOST_PROCESSORS)),
        int(min(memory, _MOST_BYTES)) or None,
    )


@dataclass(frozen=True)
class Tree:
    """Where groups may be made: below ``folder``, of which ``controllers`` come to its children."""

    version: int
    folder: Path
    controllers: tuple[str, ...]

    def settings(self, limits: Limits) -> dict[str, str]:
        """The files of a group that limits so much, and what is to be in them, in the order of writing."""
        wanted: dict[str, str] = {}
        if "cpu" in self.controllers:
            if limits.cpu_request is not None:
                shares = max(_LEAST_SHARES, int(limits.cpu_request * _SHARES))
                # As kubelets convert it (KEP-2254): 2 to 262144 shares become 1 to 10000.
                weight = 1 + (min(shares, 262_144) - 2) * 9_999 // 262_142
                wanted |= {"cpu.shares": str(shares)} if self.version == 1 else {"cpu.weight": str(weight)}
            if limits.cpu is not None:
                quota_us = max(_LEAST_QUOTA_US, int(limits.cpu * _PERIOD_US))
                wanted |= (
                    {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
                    if self.version == 1
                    else {"cpu.max": f"{quota_us} {_PERIOD_US}"}
                )
        if "memory" in self.controllers and limits.memory_bytes is not None:
            size = str(limits.memory_bytes)
            wanted |= (
                {"memory.limit_in_bytes": size, "memory.memsw.limit_in_bytes": size}
                if self.version == 1
                else {"memory.max": size, "memory.swap.max": "0", "memory.oom.group": "1"}
            )
        return wanted


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


def join(entrances: Sequence[int]) -> None:
    """Move the calling process into a group, whose entrances are open."""
    for descriptor in entrances:
        os.write(descriptor, b"0")


def joining(entrances: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` in a group."""
    enter = 'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done; shift; exec "$@"'
    return ["sh", "-c", enter, "sh", *entrances, "--", *argv] if entrances else list(argv)


class Cgroups:
    """The groups of this box. All methods are called in one thread."""

    def __init__(self) -> None:
        self._name = box_name(Path("/proc/self"))
        self._locks: dict[Path, int] = {}
        self._left: list[Path] = []

    def make(self, name: str, container: JsonObject) -> Group:
        """The group of one run of a container; ``name`` is like no other's. Raises NotConfigured."""
        limits = limits_of(container)
        lacking = dict.fromkeys((container.get("resources") or {}).get("limits") or {}, "no cgroup may be made for it")
        folders = []
        for tree in trees():
            if not tree.settings(limits):
                continue
            try:
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
            for file, value in tree.settings(limits).items():
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
        for file, value in tree.settings(everything).items():
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


# -- where groups may be made -------------------------------------------------------------------------------------


@functools.cache
def trees() -> tuple[Tree, ...]:
    """Where this process, and what it starts, may make groups."""
    proc = Path("/proc/self")
    return tuple(find_trees((proc / "cgroup").read_text(), (proc / "mountinfo").read_text()))


def find_trees(membership: str, mountinfo: str) -> Iterator[Tree]:
    """The same for a process whose /proc/PID/cgroup and mountinfo (proc(5)) have these texts."""
    own = {name: path for _, names, path in _lines(membership) for name in names.split(",")}
    unified: list[Tree] = []
    found: set[str] = set()
    for kind, mounted, root, options in _mounts(mountinfo):
        if kind == "cgroup":
            controllers = tuple(name for name in _CONTROLLERS if name in options and name in own)
            group = _below(mounted, root, own[controllers[0]]) if controllers else None
            if group is not None and not found & set(controllers) and os.access(group, os.W_OK):
                found |= set(controllers)
                yield Tree(1, group, controllers)
        elif kind == "cgroup2" and "" in own and (group := _below(mounted, root, own[""])) is not None:
            unified = unified or _candidates(mounted, group)
    left = [Tree(2, tree.folder, tuple(name for name in tree.controllers if name not in found)) for tree in unified]
    best = max(left, key=lambda tree: (len(tree.controllers), _passes_on(tree)), default=None)
    if best is not None and best.controllers:
        yield best


def _candidates(mounted: Path, own: Path) -> list[Tree]:
    """Groups of version 2 that could have ours as children, from the own group upwards."""
    candidates = []
    for folder in (own, *own.parents):
        controllers = set(_words(folder / "cgroup.controllers")) & set(_CONTROLLERS)
        may_pass_on = set(_words(folder / "cgroup.subtree_control"))
        # A group with processes of its own gives controllers to no children, but for the topmost of all.
        if not (folder / "cgroup.type").exists() or not _words(folder / "cgroup.procs"):
            may_pass_on |= controllers
        both = tuple(name for name in _CONTROLLERS if name in controllers & may_pass_on)
        if both and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
            candidates.append(Tree(2, folder, both))
        limited = [_words(folder / name)[:1] not in ([], ["max"]) for name in ("memory.max", "cpu.max")]
        if folder == mounted or any(limited):
            break  # what limits the testbed limits its pods, too
    return candidates


def _passes_on(tree: Tree) -> bool:
    return set(tree.controllers) <= set(_words(tree.folder / "cgroup.subtree_control"))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _lines(membership: str) -> Iterator[tuple[str, str, str]]:
    for line in membership.splitlines():
        number, names, path = line.split(":", 2)
        yield number, names, path


def _mounts(mountinfo: str) -> Iterator[tuple[str, Path, str, set[str]]]:
    """Type, mount point, the part that is mounted, and options of every hierarchy."""
    for line in mountinfo.splitlines():
        place, _, source = line.partition(" - ")
        root, mounted = (part.encode().decode("unicode_escape") for part in place.split()[3:5])
        kind, *_, options = source.split()
        if kind in ("cgroup", "cgroup2"):
            yield kind, Path(mounted), root, set(options.split(","))


def _below(mounted: Path, root: str, path: str) -> Path | None:
    """The folder of a group, or None when another part of its hierarchy is mounted."""
    try:
        return mounted / Path(path).relative_to(root)
    except ValueError:
        return None
