"""Our bytes are read by Ryu, by os-ken and by Open vSwitch as what they are meant to be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controllers.ryu_app.library import ENVIRONMENT_VARIABLE, PACKAGES, library_name
from testbed.errors import MachineError

PROJECT = Path(__file__).resolve().parents[2]


def read_back(library: str, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.read_back", *arguments],
        cwd=PROJECT,
        env={**os.environ, ENVIRONMENT_VARIABLE: library},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("library", PACKAGES)
def test_messages_are_those_of_the_framework(library: str) -> None:
    assert read_back(library) > 200


def test_open_vswitch_reads_in_the_messages_what_the_plan_says(tmp_path: Path) -> None:
    """Every kind of flow and group, and the flushing of connections, by the parser of ovs-ofctl."""
    read_back(library_name(), str(tmp_path / "stream"))
    argv = ["ovs-ofctl", "-O", "OpenFlow13", "ofp-parse", str(tmp_path / "stream.messages")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    # The kind of message and its number stand before the first colon; a group follows on a line of its own.
    found = [line.partition(": ")[2] or line.strip() for line in done.stdout.splitlines() if not line.endswith("):")]
    expected = (tmp_path / "stream.expected").read_text().splitlines()
    assert found == expected
    assert len(expected) > 150


def test_the_library_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in PACKAGES:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, library)
        assert library_name() == library
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    assert library_name() == "ryu"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "faucet")
    with pytest.raises(MachineError, match="must be one of ryu, os-ken"):
        library_name()
