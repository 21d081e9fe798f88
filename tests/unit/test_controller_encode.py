"""Our bytes are the bytes that Ryu and os-ken make for the same messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controllers.ryu_app.library import ENVIRONMENT_VARIABLE, PACKAGES, library_name
from testbed.errors import MachineError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("library", PACKAGES)
def test_messages_are_those_of_the_framework(library: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.read_back"],
        cwd=PROJECT,
        env={**os.environ, ENVIRONMENT_VARIABLE: library},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_the_library_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in PACKAGES:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, library)
        assert library_name() == library
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    assert library_name() == "ryu"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "faucet")
    with pytest.raises(MachineError, match="must be one of ryu, os-ken"):
        library_name()
