"""What the programs of a pod see as their files: the machine's, with a writable layer of their own above them.

The layer is an overlay (https://docs.kernel.org/filesystems/overlayfs.html) whose upper part is a folder in the box's
/run: a pod may write anywhere, and neither the machine nor another pod ever sees it. /run, /dev, /proc and other mounts
are those of the box. Where the kernel refuses the overlay, files are bound over those of the machine instead, and what
is to be mounted must have a place there already.

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


@dataclass(frozen=True)
class Mount:
    """A file or folder that stands at ``target`` (an absolute path)."""

    source: str
    target: str
    read_only: bool = False


class RootFilesystem:
    """Makes the root of a mount namespace; knows what the box has mounted, which is the same for every pod."""

    def __init__(self) -> None:
        self._submounts = _submounts()
        self._overlay_options = ""
        self.has_overlay = True

    def enter(self, layer: Path, files: Sequence[tuple[str, str]], mounts: Sequence[Mount]) -> None:
        """Make it the root; ``files`` are (path, text), ``layer`` is the folder of what is written.

        Raises OSError, also for a mount that has no place where there is no overlay.
        """
        upper = layer / "upper"
        for path, text in files:
            file = upper / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if self.has_overlay:
            for mount in mounts:
                _make_room(upper, mount)
            self._pivot(layer)
        else:
            for path, _ in files:
                real = Path(path).resolve()
                if real.exists():
                    linux.mount(str(upper / path.lstrip("/")), str(real), flags=linux.MS_BIND)
        # /sys/class/net shows the namespace it was mounted from. A user namespace may forbid the mount where the
        # machine masks parts of /sys; then programs see the box's own, as under `nsenter --net`.
        with suppress(OSError):
            linux.mount("sysfs", "/sys", "sysfs", _SYSFS)
        for mount in mounts:
            if self.has_overlay and not Path(mount.target).exists():
                _make_room(Path("/"), mount)  # below another mount, such as /run
            linux.mount(mount.source, mount.target, flags=linux.MS_BIND | linux.MS_REC)
            if mount.read_only:
                linux.mount("none", mount.target, flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)

    def try_overlay(self, folder: Path) -> None:
        """Find out, in a mount namespace that is thrown away, whether this kernel lets this user have the overlay."""
        for options in ("", ",userxattr"):
            self._overlay_options = options
            try:
                self._mount_overlay(folder)
                return
            except OSError:
                continue
        self.has_overlay = False

    def _mount_overlay(self, layer: Path) -> str:
        for name in ("upper", "work", "root"):
            (layer / name).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work{self._overlay_options}"
        linux.mount("overlay", f"{layer}/root", "overlay", 0, options)
        return f"{layer}/root"

    def _pivot(self, layer: Path) -> None:
        root = self._mount_overlay(layer)
        for path in self._submounts:
            linux.mount(path, f"{root}{path}", flags=linux.MS_BIND | linux.MS_REC)
        os.chdir(root)
        linux.pivot_root(".", ".")
        linux.unmount_lazily(".")
        os.chdir("/")


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
