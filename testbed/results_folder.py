"""The folder of one run: which one it is, and whose it is."""

from __future__ import annotations

import os
from pathlib import Path

from testbed.errors import InputError, Problem
from testbed.measure.recorder import new_directory

RESULTS = Path("results")
# The box has a /run of its own, so what is written there inside never reaches the machine's.
_HIDDEN_IN_BOX = Path("/run")


def choose_folder(experiment: str, chosen: Path | None) -> Path:
    """Make the folder: ``chosen``, or ``results/<experiment>/<UTC time>`` with the link ``latest`` beside it.

    Raises InputError when it cannot be used.
    """
    wanted = chosen if chosen is not None else RESULTS
    if wanted.resolve().is_relative_to(_HIDDEN_IN_BOX):
        raise _refusal(wanted, f"the sealed box has a {_HIDDEN_IN_BOX} of its own; choose a folder elsewhere")
    try:
        return new_directory(RESULTS, experiment) if chosen is None else _use(chosen)
    except OSError as error:
        raise _refusal(wanted, error.strerror or str(error)) from None


def discard_empty(folder: Path) -> bool:
    """Remove the folder if nothing was written into it, as when the box could not be made; whether it was.

    ``latest`` then points to the newest folder that is left.
    """
    if any(folder.iterdir()):
        return False
    folder.rmdir()
    link = folder.parent / "latest"
    if link.is_symlink() and link.readlink().name == folder.name:
        link.unlink()
        left = sorted(other for other in folder.parent.iterdir() if other.is_dir())
        if left:
            link.symlink_to(left[-1].name)
        else:
            folder.parent.rmdir()
    return True


def give_to_invoking_user(folder: Path) -> None:
    """After ``sudo``, let the folder and those made for it belong to the user who called it."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdigit() and gid.isdigit()):
        return
    paths = [folder, *folder.rglob("*")]
    if folder.parent.parent == RESULTS:
        paths += [folder.parent / "latest", folder.parent, RESULTS]
    for path in paths:
        if path.lstat().st_uid == 0:
            os.chown(path, int(uid), int(gid), follow_symlinks=False)


def _use(chosen: Path) -> Path:
    chosen.mkdir(parents=True, exist_ok=True)
    if any(chosen.iterdir()):
        raise _refusal(chosen, "is not empty; results are never written over others")
    return chosen


def _refusal(folder: Path, message: str) -> InputError:
    return InputError([Problem(str(folder), 0, "", message)])
