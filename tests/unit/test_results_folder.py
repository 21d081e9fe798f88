"""Where a run writes, what it refuses to write over, and whose the files are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from testbed.errors import InputError
from testbed.experiment_run import mark_partial
from testbed.results_folder import choose_folder, discard_empty, give_to_invoking_user


def test_by_default_a_folder_per_run_with_latest_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = choose_folder("demo", None), choose_folder("demo", None)
    assert first != second
    assert first.parent == second.parent == Path("results/demo")
    assert (tmp_path / "results/demo/latest").resolve() == second.resolve()


def test_the_folder_that_was_named_is_used_when_it_is_new_or_empty(tmp_path: Path) -> None:
    assert choose_folder("demo", tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert choose_folder("demo", tmp_path / "new" / "deep").is_dir()


def test_results_are_never_written_over_others(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not empty"):
        choose_folder("demo", tmp_path)


def test_a_folder_that_the_box_cannot_see_is_refused() -> None:
    with pytest.raises(InputError, match="/run of its own"):
        choose_folder("demo", Path("/run/testbed-results"))
    assert not Path("/run/testbed-results").exists()


def test_a_folder_that_cannot_be_made_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        choose_folder("demo", tmp_path / "file" / "results")


def test_an_empty_folder_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = choose_folder("demo", None)
    (first / "run.json").write_text("{}")
    second = choose_folder("demo", None)
    assert not discard_empty(first)
    assert discard_empty(second)
    assert not second.exists()
    assert (tmp_path / "results/demo/latest").resolve() == first.resolve()
    only = choose_folder("other", None)
    assert discard_empty(only)
    assert not (tmp_path / "results/other").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_after_sudo_everything_belongs_to_the_user_who_called_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = choose_folder("demo", None)
    (folder / "evidence").mkdir()
    (folder / "evidence" / "a.pcap").write_text("")
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "1235")
    give_to_invoking_user(folder)
    made = [tmp_path / "results", *(tmp_path / "results").rglob("*")]
    assert len(made) == 6
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in made} == {(1234, 1235)}


def test_a_killed_run_is_marked_partial_and_an_ended_one_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"format": "testbed-results/v1", "status": "running"}))
    mark_partial(tmp_path)
    assert json.loads(file.read_text()) == {"format": "testbed-results/v1", "status": "partial", "ended_by": "killed"}
    file.write_text(json.dumps({"status": "complete"}))
    mark_partial(tmp_path)
    assert json.loads(file.read_text()) == {"status": "complete"}
