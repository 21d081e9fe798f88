"""What the programs of a pod see as their files: the machine's, with a writable layer of their own above them.

The layer is an overlay (https://docs.kernel.org/filesystems/overlayfs.html) whose upper part is a folder in the box's
/run: a pod may write anywhere, and neither the machine nor another pod ever sees it. /run, /dev, /proc and other mounts
are those of the box.

An ordinary user's box may not lay an overlay over the whole root, because other mounts in it are locked there
(mount_namespaces(7)). It makes a new root, with an overlay over each folder in which something is to appear or such a
user might write, and the machine's other folders as they are.

All functions act on the mount namespace that the calling process has just been given.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.network import linux

_SYSFS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_BIND = linux.MS_BIND | linux.MS_REC
_WRITABLE = frozenset(("home", "tmp", "var"))  # where an ordinary user may write
_LAYER, _WORK, _ROOT = "upper", "work", "root"


@dataclass(frozen=True)
class Mount:
    """A file or folder that stands at ``target`` (an absolute path)."""

    source: str
    target: str
    read_only: bool = False


class RootFilesystem:
    """Makes the root of a mount namespace; knows what the box has mounted, which is the same for every pod."""

    def __init__(self, images: Path) -> None:
        """``images`` is a folder that lies above the machine's files in every pod, and below what the pod writes."""
        self._images = images
        self._submounts = _submounts()
        self._options = ""
        self._whole = False

    def find_out(self, folder: Path) -> None:
        """See, in a mount namespace that is thrown away, which overlays this kernel lets this user have."""
        for lower, options in (("/", ""), ("/", ",userxattr"), ("/etc", ""), ("/etc", ",userxattr")):
            self._whole, self._options = lower == "/", options
            with suppress(OSError):
                self._overlay(lower, folder, "trial")
                return
        self._whole = False

    def enter(self, layer: Path, files: Sequence[tuple[str, str]], mounts: Sequence[Mount]) -> None:
        """Make it the root; ``files`` are (path, text), ``layer`` is the folder of what is written.

        Raises OSError, also for a mount that has no place where there is no overlay.
        """
        upper = layer / _LAYER
        for folder in {Path(path).parent for path, _ in files}:
            Path(f"{upper}{folder}").mkdir(parents=True, exist_ok=True)
        for path, text in files:
            Path(f"{upper}{path}").write_text(text)
        for mount in mounts:
            _make_room(upper, mount)
        if self._whole:
            root = self._overlay("/", layer, "")
            for path in self._submounts:
                linux.mount(path, f"{root}{path}", flags=_BIND)
        else:
            root = self._assemble(layer, files)
        os.chdir(root)
        linux.pivot_root(".", ".")
        linux.unmount_lazily(".")
        os.chdir("/")
        # /sys/class/net shows the namespace it was mounted from. A user namespace may forbid the mount where the
        # machine masks parts of /sys; then programs see the box's own, as under `nsenter --net`.
        with suppress(OSError):
            linux.mount("sysfs", "/sys", "sysfs", _SYSFS)
        for mount in mounts:
            if not Path(mount.target).exists():
                _make_room(Path("/"), mount)  # below another mount, such as /run
            linux.mount(mount.source, mount.target, flags=_BIND)
            if mount.read_only:
                linux.mount("none", mount.target, flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)

    def _overlay(self, lower: str, layer: Path, name: str) -> str:
        """Mount a folder of the machine with the layer's part of it above, below the layer's root."""
        upper, work, root = parts = [layer / part / name for part in (_LAYER, _WORK, _ROOT)]
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
        root.mkdir(exist_ok=True)
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


def _make_room(upper: Path, mount: Mount) -> None:
    """Something to mount over, in the layer: root of a user namespace may not make it in the machine's folders."""
    room = upper / str(Path(mount.target).resolve()).lstrip("/")
    if Path(mount.source).is_dir():
        room.mkdir(parents=True, exist_ok=True)
    else:
        room.parent.mkdir(parents=True, exist_ok=True)
        room.touch()


def _submounts() -> list[str]:
    """The mounts directly below the root, each with all below it, as mountinfo(5) lists them."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = line.split()[4].encode().decode("unicode_escape")
        if path != "/" and not any(path == other or path.startswith(f"{other}/") for other in found):
            found.append(path)
    return found
