"""The testbed from Python: the same runs and results as the command line's, as data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.analysis.load import Results
from testbed.analysis.load import load as load_results
from testbed.doctor.facts import DatapathWish
from testbed.errors import RunError

__all__ = ["load", "run"]


def load(directory: str | Path) -> Results:
    """A stored results folder: ``samples``, ``rounds`` and ``summary`` are data frames.

    Raises InputError when it is none.
    """
    return load_results(directory)


def run(
    experiment: str | Path,
    *,
    output: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    smoke: bool = False,
    datapath: DatapathWish = "auto",
) -> Results:
    """Run an experiment file and give its results; ``overrides`` are as of ``--set``, ``{"rounds": 20}``.

    A run that ended early gives the results so far (``results.run["status"]`` is then ``partial``). Raises InputError
    for a wrong file, MachineError when this machine cannot run it, and RunError when nothing was measured.
    """
    from testbed.experiment_run import Order, carry_out

    settings = tuple(f"{field}={json.dumps(value)}" for field, value in (overrides or {}).items())
    outcome = carry_out(Order(Path(experiment), Path(output) if output else None, settings, smoke, datapath))
    if outcome.summary is None:
        raise RunError(f"no round was measured; what there is: {outcome.folder}")
    return load_results(outcome.folder)
