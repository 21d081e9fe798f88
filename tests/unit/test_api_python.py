"""The testbed from Python: imported lazily, the same input checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import testbed
from testbed.errors import InputError


def test_importing_it_costs_nothing_until_it_is_used() -> None:
    script = "import sys, testbed; print('pandas' in sys.modules); testbed.load; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'frob'"):
        _ = testbed.frob


def test_loading_what_is_no_results_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        testbed.load(tmp_path)


def test_running_a_wrong_file_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no-such-file"):
        testbed.run("no-such-file.yaml")
    file = tmp_path / "experiment.yaml"
    file.write_text("format: testbed/v1\nname: x\ntopology: {name: single_switch}\nprobes: [{kind: flow_count}]\n")
    with pytest.raises(InputError, match="rounds"):
        testbed.run(file, overrides={"rounds": -1})
    assert not (tmp_path / "results").exists()
