"""What the programs of a pod see as their files: the machine's, with a writable layer of their own above them.

The layer is an overlay (https://docs.kernel.org/filesystems/overlayfs.html) whose upper part is a folder in the box's
/run: a pod may write anywhere, and neither the machine nor another pod ever sees it. /run and /root are empty folders
of the layer, /dev/shm is one of the pod's; /dev, /proc and other mounts are those of the box.

An ordinary user's box may not lay an overlay over the whole root, because other mounts in it are locked there
(mount_namespaces(7)). It makes a new root, with an overlay over each folder in which something is to appear or such a
user might write, and the machine's other folders as they are.

All functions act on the mount namespace that the calling process has just been given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.network import linux

_SYSFS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_BIND = linux.MS_BIND | linux.MS_REC
_KEPT_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC  # a user namespace may not take them from a mount
_WRITABLE = frozenset(("home", "tmp", "var"))  # where an ordinary user may write
_LAYER, _WORK, _ROOT = "upper", "work", "root"
_OWN = {"run": "run", "root": "home"}  # what a container has for itself, and its folder in the layer
_DEV_SHM = "dev/shm"
TOOLS = Path("/run/testbed")
"""Where a container sees what the testbed has put beside the machine's programs."""


@dataclass(frozen=True)
class Mount:
    """A file or folder that stands at ``target`` (an absolute path)."""

    source: str
    target: str
    read_only: bool = False


class RootFilesystem:
    """Makes the root of a mount namespace; knows what the box has mounted, which is the same for every pod.

    ``images`` is the folder of what images bring, ``tools`` the one that stands at TOOLS.
    """

    def __init__(self, images: Path, tools: Path) -> None:
        self._images, self._tools = images, tools
        self._submounts = [path for path in _submounts() if path[1:] not in _OWN]
        self._hidden = [path for path in (*_OWN, _DEV_SHM) if Path("/", path).is_dir()]
        self._own_programs = sorted(_own_programs())
        self._options = ""
        self._whole = False

    def find_out(self, folder: Path) -> None:
        """See, in a mount namespace that is thrown away, which overlays this kernel lets this user have."""
        with suppress(OSError):
            linux.mount("sysfs", "/sys", "sysfs", _SYSFS)
            self._submounts = [path for path in self._submounts if path != "/sys"]
        for lower, options in (("/", ""), ("/", ",userxattr"), ("/etc", ""), ("/etc", ",userxattr")):
            self._whole, self._options = lower == "/", options
            with suppress(OSError):
                self._overlay(lower, folder, "trial")
                return
        self._whole = False

    def enter(self, layer: Path, shared: Path, files: Sequence[tuple[str, str]], mounts: Sequence[Mount]) -> None:
        """Make it the root; ``files`` are (path, text), ``layer`` is the folder of what is written, ``shared`` the
        pod's /dev/shm.

        Raises OSError, also for a mount that has no place where there is no overlay.
        """
        upper = layer / _LAYER
        layer.mkdir(parents=True, exist_ok=True)
        for part in (_LAYER, _WORK, _ROOT, *_OWN.values()):
            (layer / part).mkdir(exist_ok=True)
        for folder in {Path(path).parent for path, _ in files}:
            Path(f"{upper}{folder}").mkdir(parents=True, exist_ok=True)
        for path, text in files:
            Path(f"{upper}{path}").write_text(text)
        with ExitStack() as open_files:
            # By their descriptors, because the new root does not show the folders that they are in.
            sources = []
            for mount in mounts:
                _make_room(upper, mount.target, Path(mount.source).is_dir())
                descriptor = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
                open_files.callback(os.close, descriptor)
                sources.append(f"/proc/self/fd/{descriptor}")
            if self._whole:
                root = self._overlay("/", layer, "")
                for path in self._submounts:
                    linux.mount(path, f"{root}{path}", flags=_BIND)
            else:
                root = self._assemble(layer, files)
            self._cover(Path(root), layer, shared)
            # The root that was there stays below the new one, where nothing leads to. pivot_root would look at every
            # process of the machine, and to unmount the old one would wait for all processors.
            os.chdir(root)
            linux.mount(".", "/", flags=linux.MS_MOVE)
            os.chroot(".")
            # /sys/class/net shows the namespace it was mounted from. A user namespace may forbid the mount where the
            # machine masks parts of /sys; then programs see the box's own, as under `nsenter --net`.
            with suppress(OSError):
                linux.mount("sysfs", "/sys", "sysfs", _SYSFS)
            for mount, source in zip(mounts, sources, strict=True):
                if not Path(mount.target).exists():
                    _make_room(Path("/"), mount.target, Path(source).is_dir())  # below another mount, such as /run
                linux.mount(source, mount.target, flags=_BIND)
                if mount.read_only:
                    _read_only(mount.target)

    def _cover(self, root: Path, layer: Path, shared: Path) -> None:
        """Hide what is the box's, the machine's or other pods' behind folders of this container's or this pod's."""
        own = {hidden: layer / name for hidden, name in _OWN.items()}
        for hidden, folder in {**own, _DEV_SHM: shared}.items():
            if hidden in self._hidden:
                linux.mount(str(folder), str(root / hidden), flags=linux.MS_BIND)
        for source, target in ((self._tools, TOOLS), *((path, path) for path in self._own_programs)):
            place = root / target.relative_to("/")
            place.mkdir(parents=True, exist_ok=True)
            linux.mount(str(source), str(place), flags=_BIND)
            if source == target:
                _read_only(str(place))

    def _overlay(self, lower: str, layer: Path, name: str) -> str:
        """Mount a folder of the machine with the layer's part of it above, below the layer's root; with no name, all of
        the layer."""
        upper, work, root = parts = [layer / part / name for part in (_LAYER, _WORK, _ROOT)]
        if name:
            for part in parts:
                part.mkdir(parents=True, exist_ok=True)
        images = f"{self._images}{lower}"
        lowest = f"{images}:{lower}" if Path(images).is_dir() else lower
        options = f"lowerdir={lowest},upperdir={upper},workdir={work}{self._options}"
        linux.mount("overlay", str(root), "overlay", 0, options)
        return str(root)

    def _assemble(self, layer: Path, files: Sequence[tuple[str, str]]) -> str:
        """A root made of the machine's folders, with overlays over those that the layer has something in."""
        root, upper = layer / _ROOT, layer / _LAYER
        linux.mount(str(root), str(root), flags=linux.MS_BIND)
        changed = {entry.name for entry in upper.iterdir()} | _WRITABLE
        for entry in os.scandir("/"):
            if entry.is_symlink():
                (root / entry.name).symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                if entry.name not in changed or not self._overlaid(entry.name, layer):
                    (root / entry.name).mkdir(exist_ok=True)
                    linux.mount(entry.path, str(root / entry.name), flags=_BIND)
                    for path, _ in files:
                        target = root / path.lstrip("/")
                        if path.split("/")[1] == entry.name and target.exists():
                            linux.mount(str(upper / path.lstrip("/")), str(target), flags=linux.MS_BIND)
                changed.discard(entry.name)
        for name in changed:  # the machine does not have it
            if (upper / name).is_dir():
                (root / name).mkdir()
                linux.mount(str(upper / name), str(root / name), flags=linux.MS_BIND)
        return str(root)

    def _overlaid(self, name: str, layer: Path) -> bool:
        try:
            self._overlay(f"/{name}", layer, name)
        except OSError:
            return False
        return True


def _read_only(target: str) -> None:
    kept = os.statvfs(target).f_flag & _KEPT_FLAGS
    linux.mount("none", target, flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | kept)


def _make_room(upper: Path, target: str, is_folder: bool) -> None:
    """Something to mount over, in the layer: root of a user namespace may not make it in the machine's folders."""
    room = upper / str(Path(target).resolve()).lstrip("/")
    if is_folder:
        room.mkdir(parents=True, exist_ok=True)
    else:
        room.parent.mkdir(parents=True, exist_ok=True)
        room.touch()


def _own_programs() -> Iterator[Path]:
    """The folders of the testbed and of its Python that are in a hidden one: a catalogue's program may be there."""
    for path in {Path(__file__).parents[3], *(Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix))}:
        if path.parts[1] in _OWN:
            yield path


def _submounts() -> list[str]:
    """The mounts directly below the root, each with all below it, as mountinfo(5) lists them."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = line.split()[4].encode().decode("unicode_escape")
        if path != "/" and not any(path == other or path.startswith(f"{other}/") for other in found):
            found.append(path)
    return found
