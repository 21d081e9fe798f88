"""Reading a results folder, also one that a killed run left behind, and one that is none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.analysis.load import load
from testbed.analysis.summary import summarise
from testbed.errors import InputError
from testbed.stored import SAMPLE_COLUMNS
from tests.unit.synthetic_results import Synthetic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Synthetic(rounds=2, samples=5, paths=("cross_leaf",), throughput=False).write(tmp_path / "run")


def test_every_sample_is_a_row_with_its_keys(folder: Path) -> None:
    samples = load(folder).samples
    assert tuple(samples.columns) == SAMPLE_COLUMNS
    # 2 rounds of 3 arms: 5 round trips, one first packet and one first connection each.
    assert samples["metric"].value_counts().to_dict() == {
        "rtt_us": 30,
        "first_packet_us": 6,
        "first_connection_us": 6,
    }
    assert samples["payload_bytes"].isna().sum() == 12
    assert set(samples["arm"]) == {"overlay", "routed", "routed_aa"}


def test_values_are_read_as_they_were_written(folder: Path) -> None:
    rows = [
        ",".join(SAMPLE_COLUMNS),
        "main,1,1,0,overlay_iptables,overlay,iptables,cross_leaf,udp_rr,64,rtt_us,171.125",
        "main,1,1,1,routed_openflow,routed,openflow,,flow_count,,flows,40",
    ]
    (folder / "samples.csv.gz").write_bytes(gzip.compress(("\n".join(rows) + "\n").encode()))
    samples = load(folder).samples
    assert list(samples["value"]) == [171.125, 40.0]
    assert list(samples["path"]) == ["cross_leaf", ""]
    assert list(samples["proxy"]) == ["iptables", "openflow"]
    assert samples["payload_bytes"].isna().tolist() == [False, True]


def test_runs_from_before_there_were_proxies_ran_openflow(folder: Path) -> None:
    assert b"proxy" not in gzip.decompress((folder / "samples.csv.gz").read_bytes())
    assert set(load(folder).samples["proxy"]) == {"openflow"}
    assert load(folder).plan.question == "overlay against routed"


def test_the_published_result_can_still_be_read() -> None:
    document = load(Path(__file__).parents[2] / "results" / "reference").document
    assert document["question"] == "overlay against routed"
    assert {entry["control"] for entry in document["arms"]} == {"", "aa", "mtu"}
    assert {(entry["numerator_arm"], entry["denominator_arm"]) for entry in document["comparisons"]} >= {
        ("overlay", "routed"),
        ("routed_overlay_mtu", "routed"),
    }


def test_rounds_and_evidence_are_frames(folder: Path) -> None:
    results = load(folder)
    assert list(results.rounds["round"]) == [1, 2]
    assert results.rounds["valid"].all()
    assert len(results.evidence) == 2 * 3
    assert results.evidence.iloc[0]["inner"]["protocol"] == "udp"


def test_a_link_to_the_folder_will_do(folder: Path) -> None:
    latest = folder.parent / "latest"
    latest.symlink_to(folder.name)
    assert len(load(latest).samples) == len(load(folder).samples)


def test_the_summary_is_a_frame_of_comparisons(folder: Path) -> None:
    summarise(folder)
    results = load(folder)
    assert set(results.summary["metric"]) == {"rtt_us", "first_packet_us", "first_connection_us"}
    assert set(results.arms["arm"]) == {"overlay", "routed", "routed_aa"}


@given(cut=st.floats(min_value=0, max_value=1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_samples_cut_off_anywhere_give_whole_rows_or_a_clear_error(folder: Path, cut: float) -> None:
    whole = (folder / "samples.csv.gz").read_bytes()
    complete = load(folder).samples
    try:
        (folder / "samples.csv.gz").write_bytes(whole[: int(cut * len(whole))])
        rows = load(folder).samples
        assert rows["value"].tolist() == complete["value"].tolist()[: len(rows)]
    except InputError as error:
        assert "the run ended before its first sample" in str(error)
    finally:
        (folder / "samples.csv.gz").write_bytes(whole)


def test_a_cut_off_block_keeps_the_rows_before_it(folder: Path) -> None:
    file = folder / "samples.csv.gz"
    before = len(load(folder).samples)
    extra = gzip.compress(b"main,3,1,0,overlay,overlay,cross_leaf,udp_rr,64,rtt_us,170.001\n" * 2000)
    file.write_bytes(file.read_bytes() + extra[: len(extra) // 2])
    assert len(load(folder).samples) > before


def test_a_last_line_that_was_cut_off_is_dropped(folder: Path) -> None:
    file = folder / "rounds.jsonl"
    file.write_text(file.read_text()[:-25])
    assert list(load(folder).rounds["round"]) == [1]


def test_a_broken_line_in_the_middle_is_named(folder: Path) -> None:
    file = folder / "rounds.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["{", *lines]) + "\n")
    with pytest.raises(InputError, match=r"rounds\.jsonl:1: not JSON"):
        load(folder).rounds  # noqa: B018 - reading is what is tested


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such results folder"):
        load(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"it has no run\.json"):
        load(tmp_path)


def test_another_format_version_is_refused_with_both_versions(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "format": "testbed-results/v9"}))
    with pytest.raises(InputError) as caught:
        load(folder)
    (problem,) = caught.value.problems
    assert (problem.field, problem.value, problem.allowed) == ("format", "'testbed-results/v9'", "testbed-results/v1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,b\n1,2\n", "other columns than expected"),
        (b"", "the run ended before its first sample"),
        (",".join(SAMPLE_COLUMNS).encode() + b"\nmain,one,1,0,a,b,c,d,64,rtt_us,1.0\n", "a row cannot be read"),
    ],
)
def test_samples_of_another_kind_are_refused(folder: Path, text: bytes, message: str) -> None:
    (folder / "samples.csv.gz").write_bytes(gzip.compress(text))
    with pytest.raises(InputError, match=message):
        load(folder).samples  # noqa: B018


def test_samples_that_are_no_gzip_are_refused(folder: Path) -> None:
    (folder / "samples.csv.gz").write_bytes(b"build,round\n")
    with pytest.raises(InputError, match="not readable as gzip"):
        load(folder).samples  # noqa: B018


def test_a_run_without_summary_says_how_to_get_one(folder: Path) -> None:
    with pytest.raises(InputError, match="testbed report DIR"):
        load(folder).document  # noqa: B018
