"""The results folder: readable at every moment, whatever ends the run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.analysis.load import load
from testbed.measure.plan import Arm, Attempt, Cell, plan_arms
from testbed.measure.recorder import Recorder, new_directory
from testbed.spec.models import Probe
from testbed.stored import FORMAT
from tests.unit.test_measure_plan import experiment

ATTEMPT = Attempt("main", 3, 2, plan_arms(experiment()))
OVERLAY = Arm("overlay", "overlay")
CELL = Cell(Probe(kind="udp_rr"), "far", 64)


def checked(folder: Path, *files: str) -> Any:
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    (folder / "e.yaml").write_text("format: testbed/v1 # with a comment\n")
    return SimpleNamespace(
        experiment=experiment(),
        text=(folder / "e.yaml").read_text(),
        file=folder / "e.yaml",
        manifests=[SimpleNamespace(file=str(folder / name)) for name in (*files, *files)],
        overrides=("rounds=2",),
    )


def begun(tmp_path: Path, *files: str) -> Recorder:
    recorder = Recorder(tmp_path / "results")
    recorder.begin(checked(tmp_path / "experiments", *files), command=["testbed", "run", "e.yaml"], seed=5)
    return recorder


def test_what_is_written_is_what_the_analysis_reads(tmp_path: Path) -> None:
    with begun(tmp_path) as recorder:
        recorder.environment({"kernel": "6.1"})
        recorder.cell(ATTEMPT, 4, OVERLAY, CELL, [("rtt_us", [54.321, 60.0]), ("lost", [0.0])])
        recorder.cell(ATTEMPT, 5, OVERLAY, Cell(Probe(kind="flow_count"), "", None), [("flows", [31.0])])
        recorder.round({"build": "main", "round": 3, "attempt": 2, "order": ["overlay"], "valid": True, "causes": []})
        recorder.evidence({"build": "main", "round": 3, "arm": "overlay", "path": "far", "ok": True}, "x.pcap", b"pcap")
    results = load(tmp_path / "results")
    assert results.environment["kernel"] == "6.1"
    rows = results.samples.astype(object).where(results.samples.notna(), None).to_dict("records")
    key = {"build": "main", "round": 3, "attempt": 2, "arm": "overlay", "mode": "overlay", "proxy": "openflow"}
    udp = {**key, "position": 4, "path": "far", "probe": "udp_rr", "payload_bytes": 64}
    assert rows == [
        {**udp, "metric": "rtt_us", "value": 54.321},
        {**udp, "metric": "rtt_us", "value": 60.0},
        {**udp, "metric": "lost", "value": 0.0},
        {
            **key,
            "position": 5,
            "path": "",
            "probe": "flow_count",
            "payload_bytes": None,
            "metric": "flows",
            "value": 31.0,
        },
    ]
    assert results.rounds.loc[0, "order"] == ["overlay"]
    assert (tmp_path / "results" / results.evidence.loc[0, "pcap"]).read_bytes() == b"pcap"


def test_every_document_names_the_format_and_the_plan_stands_in_run_json(tmp_path: Path) -> None:
    with begun(tmp_path) as recorder:
        recorder.environment({})
        recorder.build_facts("main", {"warnings": ["w"]})
        assert json.loads((recorder.directory / "run.json").read_text())["status"] == "running"
    run = json.loads((recorder.directory / "run.json").read_text())
    environment = json.loads((recorder.directory / "environment.json").read_text())
    assert run["format"] == run["samples"]["format"] == environment["format"] == FORMAT
    assert run["status"] == "complete" and run["finished"] >= run["started"]
    assert run["plan"]["arms"] == ["overlay", "routed", "routed_aa", "routed_overlay_mtu"]
    assert run["experiment"]["paths"]["near"] == {"from": "a", "to": "b", "baseline": None}
    (contrast, *_) = run["plan"]["contrasts"]
    assert (contrast["numerator"], contrast["denominator"], contrast["noise"]) == (
        "overlay",
        "routed",
        ["routed_aa", "routed"],
    )
    assert environment["builds"] == {"main": {"warnings": ["w"]}}


def test_facts_of_earlier_builds_are_kept(tmp_path: Path) -> None:
    with begun(tmp_path) as recorder:
        for build in ("small", "large"):
            recorder.environment({"kernel": "6.1"})
            recorder.build_facts(build, {"ports_per_vswitchd": {}})
    assert list(load(recorder.directory).environment["builds"]) == ["small", "large"]


@pytest.mark.parametrize("error", [KeyboardInterrupt("SIGINT"), ValueError("broken")])
def test_a_run_that_ends_early_is_marked_partial_and_keeps_its_samples(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), begun(tmp_path) as recorder:
        recorder.cell(ATTEMPT, 0, OVERLAY, CELL, [("rtt_us", [1.0])])
        raise error
    results = load(recorder.directory)
    assert results.run["status"] == "partial"
    assert str(error) in results.run["ended_by"]
    assert list(results.samples["value"]) == [1.0]


def test_each_cell_is_on_disk_at_once_and_a_cut_off_tail_loses_only_itself(tmp_path: Path) -> None:
    recorder = begun(tmp_path)
    file = recorder.directory / "samples.csv.gz"
    sizes = []
    for position in range(3):
        recorder.cell(ATTEMPT, position, OVERLAY, CELL, [("rtt_us", [float(position)] * 100)])
        sizes.append(file.stat().st_size)
    with file.open("r+b") as stream:
        stream.truncate(sizes[1] + 20)
    kept = load(recorder.directory).samples
    assert set(kept["position"]) >= {0, 1}
    assert (kept["position"] <= 1).sum() == 200
    assert gzip.decompress(file.read_bytes()[: sizes[1]]).count(b"\n") == 201


def test_the_experiment_and_its_manifests_are_copied_and_found_again(tmp_path: Path) -> None:
    recorder = begun(tmp_path, "manifests/pods.yaml", "beside.yaml", "../outside.yaml")
    folder = recorder.directory
    assert (folder / "experiment.yaml").read_text() == "format: testbed/v1 # with a comment\n"
    assert sorted(file.name for file in (folder / "manifests").iterdir()) == [
        "beside.yaml",
        "outside.yaml",
        "pods.yaml",
    ]


def test_two_runs_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = [new_directory(tmp_path, "x") for _ in range(5)]
    assert len(set(folders)) == 5
    assert (tmp_path / "x" / "latest").resolve() == folders[-1].resolve()


def test_small_figures_keep_their_digits(tmp_path: Path) -> None:
    with begun(tmp_path) as recorder:
        recorder.cell(ATTEMPT, 0, OVERLAY, CELL, [("share", [0.00012345, 0.0, 1234567.8912])])
    assert list(load(recorder.directory).samples["value"]) == [0.00012345, 0.0, 1234567.891]
