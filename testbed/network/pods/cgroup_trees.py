"""Where this user may make control groups (cgroups(7)), and for which controllers.

In version 1 below the testbed's own group of the hierarchies ``cpu`` and ``memory``; in version 2 below the nearest
group above it that has these controllers for its children, but never above one that is limited itself.
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONTROLLERS = ("cpu", "memory")


@dataclass(frozen=True)
class Tree:
    """Groups may be made below ``folder``; ``controllers`` come to its children."""

    version: Literal[1, 2]
    folder: Path
    controllers: tuple[str, ...]


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
            controllers = tuple(name for name in CONTROLLERS if name in options and name in own)
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
        controllers = set(_words(folder / "cgroup.controllers")) & set(CONTROLLERS)
        may_pass_on = set(_words(folder / "cgroup.subtree_control"))
        # A group with processes of its own gives controllers to no children, but for the topmost of all.
        if not (folder / "cgroup.type").exists() or not _words(folder / "cgroup.procs"):
            may_pass_on |= controllers
        both = tuple(name for name in CONTROLLERS if name in controllers & may_pass_on)
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
