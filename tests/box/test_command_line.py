"""The commands as their user meets them: what they print, leave behind, and end with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.box.harness import ORDINARY_UID, PROJECT, USERS, as_user

pytestmark = pytest.mark.box

SMOKE = str(PROJECT / "experiments" / "smoke.yaml")
SMOKE_PODS = str(PROJECT / "experiments" / "manifests" / "smoke_pods.yaml")
COMMAND = [sys.executable, "-m", "testbed"]
_LIMIT_S = 120

# One pod on each of two nodes, measured so briefly that it can say nothing: two rounds are never conclusive.
_TINY = """\
format: testbed/v1
name: tiny
topology: {name: single_switch, parameters: {nodes: 2}}
manifests: [pods.yaml]
paths: {across: {from: a, to: b}}
probes: [{kind: udp_rr, duration_s: 0.05, warmup_s: 0.02}]
rounds: 2
expect: [{probe: udp_rr, statistic: median, at_most: 0.001}]
"""
_TINY_PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {nodeName: n1, containers: [{name: c, image: pause}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec: {nodeName: n2, containers: [{name: c, image: pause}]}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may write to; pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="testbed-cli-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def environment(folder: Path) -> dict[str, str]:
    """Running clusters are registered in the test's own folder, so that tests do not see each other's."""
    runtime = folder / "runtime"
    runtime.mkdir(exist_ok=True)
    runtime.chmod(0o777)
    inherited = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return {**inherited, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def command(user: str, folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        as_user(user, [*COMMAND, *arguments]),
        cwd=folder,
        env=environment(folder),
        input=typed,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    return f"status {done.returncode}\n{done.stdout}\n{done.stderr}"


@contextmanager
def running(user: str, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``testbed up``, once it has said what is there; ended by SIGTERM."""
    process = subprocess.Popen(
        as_user(user, [*COMMAND, "up", *arguments]),
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            if "Ctrl-C ends it" in line:
                break
        else:
            pytest.fail(f"it ended with {process.wait()}:\n{said}")
        yield process, said
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_LIMIT_S)


@pytest.mark.parametrize("user", USERS)
def test_a_run_prints_its_result_and_leaves_one_complete_folder(user: str, folder: Path) -> None:
    done = command(user, folder, "run", SMOKE, "--smoke", "--junit", "outcome.xml")
    assert done.returncode == 0, told(done)
    (results,) = (path for path in (folder / "results" / "smoke").iterdir() if not path.is_symlink())
    assert (folder / "results" / "smoke" / "latest").resolve() == results
    assert f"report: {results.relative_to(folder)}/report.html" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    phases = [
        line.partition(":")[0] for line in done.stderr.splitlines() if line.endswith("started") or "started," in line
    ]
    assert phases == ["build", "the machine and its floors", "measuring main", "analysis"]
    for name in ("samples.csv.gz", "rounds.jsonl", "evidence.jsonl", "experiment.yaml", "report.html"):
        assert (results / name).stat().st_size > 0
    for name in ("run.json", "environment.json", "summary.json"):
        assert json.loads((results / name).read_text())["format"] == "testbed-results/v1"
    assert json.loads((results / "run.json").read_text())["status"] == "complete"
    assert {path.suffix for path in (results / "plots").iterdir()} == {".png", ".svg"}
    assert ElementTree.parse(folder / "outcome.xml").getroot().get("failures") == "0"
    owner = ORDINARY_UID if user == "ordinary" and os.geteuid() == 0 else os.geteuid()
    assert {path.lstat().st_uid for path in (folder / "results").rglob("*")} == {owner}


def test_an_expectation_that_is_not_met_ends_with_1_and_the_results_can_be_shown_again(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(_TINY)
    (folder / "pods.yaml").write_text(_TINY_PODS)
    done = command(USERS[-1], folder, "run", "tiny.yaml", "-o", "here")
    assert done.returncode == 1, told(done)
    warning, *_ = done.stderr.splitlines()
    assert warning.startswith("warning: tiny.yaml:7: rounds: fewer than 8 rounds"), told(done)
    assert "expectation NOT met: udp_rr: median on every path at most 0.001" in done.stdout
    assert "inconclusive: 2 valid rounds, at least 8 are needed" in done.stdout
    assert "report: here/report.html" in done.stdout
    assert not (folder / "results").exists()
    drawn = sorted((folder / "here" / "plots").iterdir())
    shutil.rmtree(folder / "here" / "plots")
    (folder / "here" / "report.html").unlink()
    for again in (("plot", "here"), ("report", "here"), ("compare", "here", "here")):
        repeated = command(USERS[-1], folder, *again)
        assert repeated.returncode == 0, told(repeated)
    assert sorted((folder / "here" / "plots").iterdir()) == drawn
    assert (folder / "here" / "report.html").stat().st_size > 0


def test_a_program_that_is_not_installed_ends_with_3_before_anything_is_built(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(_TINY)
    (folder / "pods.yaml").write_text(_TINY_PODS.replace("image: pause}", "image: x, command: [no-such-program]}", 1))
    done = command(USERS[-1], folder, "run", "tiny.yaml")
    assert done.returncode == 3, told(done)
    assert "no-such-program: not installed; needed for container c of pod a" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "results").exists()


def test_the_same_from_python_gives_data_frames(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(_TINY)
    (folder / "pods.yaml").write_text(_TINY_PODS)
    script = """
import testbed
results = testbed.run("tiny.yaml", overrides={"rounds": 1, "seed": 5})
assert results.run["status"] == "complete" and results.run["seed"] == 5
samples = results.samples
assert set(samples["mode"]) == {"overlay", "routed"}, samples
assert (samples[samples["metric"] == "rtt_us"]["value"] > 0).all()
again = testbed.load("results/tiny/latest")
assert len(again.samples) == len(samples) and list(again.summary["probe"]) == list(results.summary["probe"])
"""
    done = subprocess.run(
        as_user(USERS[-1], [sys.executable, "-c", script]),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, told(done)


@pytest.mark.parametrize("user", USERS)
def test_a_cluster_is_kept_running_and_entered(user: str, folder: Path) -> None:
    with running(user, folder, "leaf_spine,leaves=2,spines=2", "-f", SMOKE_PODS) as (process, said):
        pods = {fields[1]: fields for line in said.splitlines() if (fields := line.split())[:1] == ["default"]}
        far = pods["server-cross-node"][3]
        pinged = command(user, folder, "exec", "client", "--", "ping", "-c", "1", "-W", "2", far)
        assert pinged.returncode == 0, told(pinged)
        failed = command(user, folder, "exec", "client", "--", "sh", "-c", "exit 7")
        assert failed.returncode == 7, told(failed)
        read = command(user, folder, "exec", "node/n1", "--", "cat", typed="typed, unchanged\n")
        assert read.stdout == "typed, unchanged\n", told(read)
        long = "x" * 100_000
        written = command(user, folder, "exec", "client", "--", "printf", "%s", long)
        assert written.stdout == long
        for pod in ("client", "server-same-node"):
            name = command(user, folder, "exec", "-n", "default", pod, "--", "hostname")
            assert name.stdout == f"{pod}\n", told(name)
        listener = "trap 'echo heard; exit' TERM; echo up; sleep 1000 & wait"
        asked = subprocess.Popen(
            as_user(user, [*COMMAND, "exec", "client", "--", "sh", "-c", listener]),
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert asked.stdout is not None and asked.stdout.readline() == "up\n"
        asked.terminate()
        assert asked.communicate(timeout=_LIMIT_S)[0] == "heard\n", "the program in the pod is asked to end, too"
        unknown = command(user, folder, "exec", "clint", "--", "true")
        assert unknown.returncode == 2
        assert 'there is no clint (did you mean "client"?)' in unknown.stderr
    assert process.returncode == 0
    gone = command(user, folder, "exec", "client", "--", "true")
    assert gone.returncode == 2
    assert "no cluster is running" in gone.stderr


def test_two_clusters_of_one_topology_have_names_of_their_own(folder: Path) -> None:
    user = USERS[-1]
    with running(user, folder, "single_switch"), running(user, folder, "single_switch"):
        done = command(user, folder, "exec", "node/n1", "--", "true")
        assert done.returncode == 2
        assert (
            "several clusters are running: single_switch, single_switch-2; say which, or set KUBECONFIG" in done.stderr
        )
        meant = {"KUBECONFIG": str(folder / "runtime" / "testbed" / "single_switch-2.kubeconfig")}
        for told_of in (
            "single_switch-2 has ended\n",
            "no cluster named single_switch-2 is running; there are: single_switch",
        ):
            ended = subprocess.run(
                as_user(user, [*COMMAND, "down"]),
                env={**environment(folder), **meant},
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
            assert told_of in ended.stdout + ended.stderr, "the other one is left alone"


def test_the_mininet_prompt_works_and_ends_the_cluster(folder: Path) -> None:
    typed = "nodes\nclient hostname\nexit\n"
    done = command(USERS[-1], folder, "up", "single_switch", "-f", SMOKE_PODS, "--cli", typed=typed)
    assert done.returncode == 0, told(done)
    assert "available nodes are" in done.stderr  # Mininet's log
    assert done.stderr.endswith("\nclient\n")
