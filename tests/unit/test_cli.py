"""The command line: help, exit statuses, and errors without tracebacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from testbed.cli import INTERRUPTED, execute
from testbed.cli import testbed as group
from testbed.errors import InputError, MachineError, Problem, RunError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMOKE = str(EXPERIMENTS / "smoke.yaml")
COMMANDS = ("doctor", "check", "plan", "run", "plot", "report", "compare", "graph", "up", "ps", "exec", "trace", "down")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"Examples?:\n\s+testbed {name}\b", text), text


def test_the_help_names_every_command_and_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == 0
    text = capsys.readouterr().out
    assert set(COMMANDS) == set(group.commands)
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)
    assert [int(number) for number in re.findall(r"^ +(\d+) +\S", text, re.MULTILINE)] == [0, 1, 2, 3, 130]


def test_help_loads_none_of_the_heavy_rooms() -> None:
    script = (
        "import sys; from testbed.cli import execute; execute(['check', '--help']); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'pydantic', 'mininet', 'numpy', 'pandas', 'matplotlib', 'rich', 'ryu'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["check"],
        ["run", SMOKE, "--datapath", "quantum"],
        ["plan", SMOKE, "-o", "yaml"],
        ["plot", "/no/such"],
        ["compare", "/tmp"],
        ["exec", "web"],
        ["exec", "a/b/c", "--", "true"],
        ["exec", "-n", "prod", "node/n1", "--", "true"],
        ["up", "single_switch", "--cli", "--detach"],
        ["up", "single_switch", "--name", "../elsewhere"],
        ["up", "single_switch", "--name", "Lab"],
        ["down", "lab", "--all"],
        ["graph", "leaf_spine", "-o", "picture.txt"],
        ["graph", "leaf_spine", "-o", "/no/such/picture.svg"],
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err
    assert "Traceback" not in captured.err


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command line whose command raises ``error``."""

    @click.command("raise")
    def command() -> None:
        raise error

    monkeypatch.setitem(group.commands, "raise", command)
    return execute(["raise"])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RunError("the controller ended"), 1, "the controller ended\n"),
        (MachineError("no tap devices"), 3, "no tap devices\n"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted\n"),
    ],
)
def test_errors_are_told_without_a_traceback(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert raising(error, monkeypatch) == status
    captured = capsys.readouterr()
    assert captured.err.lstrip("\n") == said
    assert captured.out == ""


def test_all_problems_are_told_with_their_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [
        Problem("b.yaml", 7, "rounds", "must be a number", "many"),
        Problem("a.yaml", 2, "name", "is missing"),
        Problem("a.yaml", 1, "", "is not YAML"),
    ]
    assert raising(InputError(problems), monkeypatch) == 2
    assert capsys.readouterr().err.splitlines() == [
        "a.yaml:1: is not YAML",
        "a.yaml:2: name: is missing",
        "b.yaml:7: rounds: must be a number",
        "    got:     many",
        "3 problems in 2 files",
    ]


def test_check_says_what_each_good_file_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", SMOKE]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{SMOKE}: ok (single_switch, 1 build, 3 pods, 2 probes, 8 rounds, about ")


def test_check_tells_the_problems_of_all_files_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("format: testbed/v1\nname: x\nrownds: 3\n")
    second.write_text("[")
    assert execute(["check", str(first), SMOKE, str(second)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{SMOKE}: ok")
    assert f"{first}:3: rownds" in captured.err
    assert str(second) in captured.err
    assert captured.err.splitlines()[-1].endswith("problems in 2 files")


def test_plan_prints_the_flows_of_every_node_in_both_modes(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", SMOKE]) == 0
    text = capsys.readouterr().out
    assert text.count("== mode overlay") == text.count("== mode routed") == 1
    assert text.count("-- flows of n1\n") == text.count("-- flows of n2\n") == 2
    assert "table=L3Forwarding" in text


def test_plan_as_json_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "leaf_spine,leaves=2,spines=2", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "testbed-plan/v1"
    build = document["builds"]["main"]
    assert {node["name"] for node in build["nodes"]} == set(build["modes"]["overlay"]["flows"])
    assert build["modes"]["overlay"]["pod_mtu_bytes"] + 50 == build["modes"]["routed"]["pod_mtu_bytes"]
    assert {flow["table"] for flow in build["modes"]["routed"]["flows"]["n1"]} >= {"Classifier", "Output"}


def test_a_topology_that_does_not_exist_is_told_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "leaf_spin,leaves=2"]) == 2
    assert 'did you mean "leaf_spine"?' in capsys.readouterr().err


def test_graph_draws_into_the_file_that_was_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "fabric.svg"
    assert execute(["graph", SMOKE, "-o", str(picture)]) == 0
    assert capsys.readouterr().out == f"picture: {picture}\n"
    assert "<svg" in picture.read_text()


def test_up_tells_what_is_wrong_in_a_catalogue_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images.yaml"
    images.write_text("mine: {entrypiont: [x]}\nother: 3\n")
    assert execute(["up", "single_switch", "--images", str(images)]) == 2
    error = capsys.readouterr().err
    assert f"{images}:1: mine.entrypiont" in error
    assert error.endswith("3 problems in 1 file\n")  # it has no entrypoint either


def test_run_stops_before_building_when_the_file_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results"
    assert execute(["run", SMOKE, "--set", "rownds=3", "-o", str(output)]) == 2
    assert "rownds" in capsys.readouterr().err
    assert not output.exists()
