"""One experiment from its file to its report: check, preflight, box, measurements, analysis."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.doctor.experiment_needs import experiment_needs
from testbed.doctor.facts import DatapathWish
from testbed.doctor.needs import require
from testbed.doctor.trials import use_system_directories
from testbed.errors import TestbedError
from testbed.measure.environment import environment
from testbed.measure.plan import smoke as smoke_version
from testbed.measure.recorder import Recorder
from testbed.measure.runner import measure_build
from testbed.network.box import run_sealed
from testbed.network.builder import build
from testbed.progress import open_progress
from testbed.reporting import analyse, print_warnings
from testbed.results_folder import choose_folder, discard_empty, give_to_invoking_user
from testbed.spec.checked import CheckedExperiment
from testbed.spec.load import load_experiment


@dataclass(frozen=True)
class Order:
    """What was asked for. ``output`` is the results folder; None makes one below ``results``."""

    file: Path
    output: Path | None = None
    overrides: tuple[str, ...] = ()
    smoke: bool = False
    datapath: DatapathWish = "auto"


@dataclass(frozen=True)
class Outcome:
    """What came out. ``summary`` is None when the run ended before its first sample."""

    folder: Path
    summary: dict[str, Any] | None
    exit_status: int


def carry_out(order: Order) -> Outcome:
    """Run an experiment. Raises InputError and MachineError before anything is built.

    A run that was interrupted or failed later is analysed as far as it came; its exit status says so.
    """
    use_system_directories()
    checked = load_experiment(order.file, order.overrides)
    print_warnings(checked.warnings)
    if order.smoke:
        checked = replace(checked, experiment=smoke_version(checked.experiment))
    require(experiment_needs(checked, order.datapath))
    folder = choose_folder(checked.experiment.name, order.output)
    try:
        status = run_sealed(lambda: _measure(checked, order, folder))
        summary = analyse(folder, open_progress()) if status == 0 else _analyse_what_there_is(folder)
    finally:
        if not discard_empty(folder):
            give_to_invoking_user(folder)
    if status == 0 and summary is not None:
        status = int(summary["outcome"]["exit_status"])
    return Outcome(folder, summary, status)


def _analyse_what_there_is(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that did not come to its end; None when it has nothing to say."""
    if not (folder / "rounds.jsonl").is_file():
        return None
    mark_partial(folder)
    try:
        return analyse(folder, open_progress())
    except TestbedError as error:
        sys.stderr.write(f"The samples so far are kept but could not be analysed: {error}\n")
        return None


def mark_partial(folder: Path) -> None:
    """Say in run.json that the run ended early, if the box was killed before it could say so itself."""
    file = folder / "run.json"
    run = json.loads(file.read_text())
    if run["status"] == "running":
        file.write_text(json.dumps({**run, "status": "partial", "ended_by": "killed"}, indent=1) + "\n")


def _measure(checked: CheckedExperiment, order: Order, folder: Path) -> int:
    """The worker inside the box: every build, one after the other."""
    progress = open_progress()
    seed = checked.experiment.seed
    with Recorder(folder) as recorder:
        recorder.begin(checked, command=sys.argv, seed=seed, smoke=order.smoke)
        for number, each in enumerate(checked.experiment.builds):
            with build(checked, each, order.datapath, progress) as testbed:
                if number == 0:
                    progress.start("the machine and its floors")
                    recorder.environment(environment(testbed, seed=seed))
                    progress.finish()
                measure_build(testbed, checked, each, recorder, progress, seed)
    return 0
