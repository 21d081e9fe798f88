"""Commands that people expect in a container, where the machine has none of that name: BusyBox' tools, and dig.

They come last in a container's PATH, so the machine's own are found first.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

# What else is called by another name: what people type, and what Debian's knot-dnsutils brings.
_OTHERS = {"dig": "kdig", "host": "khost"}


def link_tools(folder: Path) -> None:
    """Fill a folder with links by these names."""
    folder.mkdir(exist_ok=True)
    targets = {name: found for name, program in _OTHERS.items() if (found := shutil.which(program))}
    if busybox := shutil.which("busybox"):
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
        targets |= dict.fromkeys(listed.stdout.split(), busybox)
    for name, target in targets.items():
        with suppress(FileExistsError):
            (folder / name).symlink_to(target)
