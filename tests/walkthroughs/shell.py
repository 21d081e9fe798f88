"""A bash that is given one block of commands after the other, as a person pastes them into a terminal."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

# Commands get no input: what the shell is told comes by a descriptor of its own.
_READER = 'while IFS= read -r block <&3; do . "$block" </dev/null; printf "%s\\n" "$1"; done 3<&0'
_MARK = "\x06done\x06"


class TooLong(Exception):
    """Commands did not end in time; the text is what they printed."""


class Shell:
    """``start`` is the command line before bash, which may choose the user."""

    def __init__(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="testbed-shell-")
        Path(self._folder.name).chmod(0o755)
        self._process = subprocess.Popen(
            [*argv],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._blocks = 0

    def run(self, commands: str, limit_s: float) -> str:
        """What the commands print, errors too. Raises TooLong."""
        self._blocks += 1
        block = Path(self._folder.name) / f"{self._blocks}.sh"
        block.write_text(commands)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{block}\n".encode())
        stdin.flush()
        end = f"{_MARK}\n".encode()
        printed = b""
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not printed.endswith(end):
                if not selector.select(deadline - time.monotonic()):
                    raise TooLong(printed.decode(errors="replace"))
                chunk = os.read(stdout.fileno(), 65536)
                if not chunk:
                    break
                printed += chunk
        return printed.removesuffix(end).decode(errors="replace")

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()


def bash() -> list[str]:
    """The command line of a bash that a Shell can drive."""
    return ["bash", "--norc", "-c", _READER, "bash", _MARK]
