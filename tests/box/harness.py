"""Runs a module-level function inside a real sealed box, as root or as an ordinary user, in a process of its own.

An ordinary user needs a readable /dev/net/tun. Where the machine keeps it closed (0600), a node of mode 0666 is bound
over it in a mount namespace that only the test has, so that the rootless box is tested without changing the machine.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.network.box import run_sealed

PROJECT = Path(__file__).resolve().parents[2]
ORDINARY_UID = 1000
_LAST_WORDS_S = 5

# Root tests both; an ordinary user can only test what an ordinary user does.
USERS = ("root", "ordinary") if os.geteuid() == 0 else ("ordinary",)

# A clone below a closed folder (such as /root) is shown to the ordinary user at its own path, in that namespace:
# over the outermost closed folder goes an empty one that holds nothing but the clone.
_PREPARE = """\
project=$1; shift
mount --make-rprivate / && mount -t tmpfs none /mnt && mknod -m 666 /mnt/tun c 10 200 &&
mount --bind /mnt/tun /dev/net/tun || exit 125
closed= folder=$project
while [ "$folder" != / ]; do
    folder=$(dirname "$folder")
    case $(stat -c %A "$folder") in *[xt]) ;; *) closed=$folder ;; esac
done
if [ -n "$closed" ]; then
    mkdir /mnt/project && mount --bind "$project" /mnt/project && mount -t tmpfs -o mode=755 none "$closed" &&
    mkdir -p "$project" && mount --move /mnt/project "$project" || exit 125
    case $PWD/ in "$project"/*) cd "$PWD" ;; esac
fi
umount -l /mnt && exec "$@"
"""


def as_user(user: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` as root or as an ordinary user."""
    if user == "root" or os.geteuid() != 0:
        return list(argv)
    drop = ["setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups"]
    return ["unshare", "--mount", "sh", "-c", _PREPARE, "sh", str(PROJECT), *drop, "env", "HOME=/tmp", *argv]


def run_in_box(function: Callable[[], None], user: str, timeout_s: float = 120) -> str:
    """Call ``function`` inside a box; fail with everything it printed if it raised. Returns what it printed."""
    # Should it hang, it says where before it is given up.
    target = f"{function.__module__}:{function.__name__}"
    argv = [sys.executable, "-m", "tests.box.harness", target, str(timeout_s - _LAST_WORDS_S)]
    try:
        done = subprocess.run(
            as_user(user, argv),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.output.decode(errors="replace") if isinstance(expired.output, bytes) else expired.output
        raise AssertionError(f"{function.__name__} as {user} did not end within {timeout_s:g} s:\n{output}") from None
    assert done.returncode == 0, f"{function.__name__} as {user} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def _main(target: str, limit_s: str) -> int:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)

    def body() -> int:
        faulthandler.dump_traceback_later(float(limit_s))
        function()
        return 0

    return run_sealed(body)


if __name__ == "__main__":
    raise SystemExit(_main(*sys.argv[1:]))
