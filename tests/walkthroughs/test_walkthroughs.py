"""Every page of docs/walkthroughs in a real cluster: the commands as they stand, and what they print."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.box.harness import PROJECT, USERS, as_user
from tests.walkthroughs.outputs import Names
from tests.walkthroughs.pages import FOLDER, INDEX, Step, steps_of
from tests.walkthroughs.shell import Shell, TooLong, bash

pytestmark = pytest.mark.box

_LIMIT_S = 60.0
PAGES = sorted(page for page in FOLDER.glob("*.md") if page != INDEX)
# An ordinary user can do less than root, so what works there works.
_USER = USERS[-1]
_STATE = "kubectl get all,ingress,endpoints -A -o wide; kubectl get events -A --sort-by=.lastTimestamp; testbed ps"


@contextmanager
def _shell(folder: Path, **variables: str) -> Iterator[Shell]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        "XDG_RUNTIME_DIR": str(folder),
        "HOME": str(folder),  # kubectl's cache
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    with Shell(as_user(_USER, bash()), PROJECT, environment) as shell:
        yield shell


class Reader:
    """Someone who follows a page and compares."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._names = Names()
        self._transcript: list[str] = []

    def follow(self, steps: list[Step]) -> None:
        """Fail at the first step that does not print what it should, with everything until then and what is there."""
        for step in steps:
            try:
                printed = self._shell.run(step.commands, _LIMIT_S)
            except TooLong as error:
                pytest.fail(f"{self._told(step, str(error))}\n-- it did not end within {_LIMIT_S:g} s")
            if not self._names.match(step.printed, printed):
                state = self._shell.run(_STATE, _LIMIT_S)
                pytest.fail(f"{self._told(step, printed)}\n-- the page shows\n{step.printed}\n-- the cluster\n{state}")
            self._transcript.append(f"{step.commands}{printed}")

    def _told(self, step: Step, printed: str) -> str:
        return "\n".join([str(step), *self._transcript, f"-- {step}", f"{step.commands}{printed}"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Path, str]]:
    """The cluster of the index page, from its first command to its last: where it is registered, and its kubeconfig."""
    folder = Path(tempfile.mkdtemp(prefix="testbed-walk-"))
    folder.chmod(0o777)
    *start, end = steps_of(INDEX)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        shell = stack.enter_context(_shell(folder))
        stack.callback(lambda: shell.run("testbed down --all", _LIMIT_S))
        reader = Reader(shell)
        reader.follow(start)
        yield folder, shell.run('printf %s "$KUBECONFIG"', _LIMIT_S)
        reader.follow([end])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_true(page: Path, cluster: tuple[Path, str]) -> None:
    folder, kubeconfig = cluster
    *steps, clean_up = steps_of(page)
    with _shell(folder, KUBECONFIG=kubeconfig) as shell:
        reader = Reader(shell)
        try:
            reader.follow(steps)
        except BaseException:
            shell.run(clean_up.commands, _LIMIT_S)  # the next page starts from nothing
            raise
        reader.follow([clean_up])
