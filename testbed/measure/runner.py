"""Runs all rounds of one build, void ones again as far as the budget goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.measure import fidelity
from testbed.measure.attempt import AttemptRun, Surroundings
from testbed.measure.destination import resolve, transports
from testbed.measure.events.rest import come_to_rest
from testbed.measure.interface import Network
from testbed.measure.placement import SwitchPlacement
from testbed.measure.plan import cells_per_round, plan_attempt, rerun_budget
from testbed.measure.process import Servers
from testbed.measure.recorder import Recorder
from testbed.progress import Progress
from testbed.spec.endpoints import parse_target
from testbed.spec.models import Build, Experiment

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment


def measure_build(
    network: Network,
    checked: CheckedExperiment,
    build: Build,
    recorder: Recorder,
    progress: Progress,
    seed: int,
) -> None:
    """Measure all rounds of a build and write down everything as it happens.

    A void round is run again until its build has used up its share (:func:`rerun_budget`). An interrupted attempt is
    kept as a void one before KeyboardInterrupt goes on. Raises :class:`testbed.errors.RunError` when the network
    itself fails, or its pods do not become ready.
    """
    experiment = checked.experiment
    come_to_rest(network)
    warnings = fidelity.preflight(network)
    for warning in warnings:
        progress.note(warning)
    ports = {node: counters["ports"] for node, counters in network.bridge_counters().items()}
    facts = {"ports_per_vswitchd": ports, "endpoints": _endpoints(network, experiment), "warnings": warnings}
    recorder.build_facts(build.name, facts)
    lossy = any(shaping.loss_pct for shaping in checked.shaping.values())
    progress.start(f"measuring {build.name}", experiment.rounds * cells_per_round(experiment))
    with Servers(network) as servers, SwitchPlacement() as switches:
        around = Surroundings(network, experiment, build, seed, lossy, servers, switches, recorder, progress)
        _rounds(around)
    progress.finish()


def _endpoints(network: Network, experiment: Experiment) -> dict[str, int]:
    """How many endpoints each target of a path has that is a Service."""
    found = {}
    for path in experiment.paths.values():
        target = parse_target(path.target)
        for transport in transports(network, target):
            destination = resolve(network, target, transport, 0)
            if destination.service is not None:
                found[str(target)] = len(destination.backends)
    return found


def _rounds(around: Surroundings) -> None:
    experiment, progress = around.experiment, around.progress
    per_round, reruns_left = cells_per_round(experiment), rerun_budget(experiment.rounds)
    told_of_load = False
    for number in range(1, experiment.rounds + 1):
        name = f"round {number} of {around.build.name}"
        attempt_number = 0
        while True:
            attempt_number += 1
            run = AttemptRun(around, plan_attempt(experiment, around.build, around.seed, number, attempt_number))
            run.run()
            load = fidelity.other_load_note(run.other_load_pct)
            if load is not None and not told_of_load:
                progress.note(f"{name}: {load}")
                told_of_load = True
            if not run.causes:
                break
            causes = "; ".join(run.causes)
            if not reruns_left:
                progress.note(f"{name} is void, and no more reruns are left: {causes}")
                progress.advance(n=per_round - run.cells_done)
                break
            reruns_left -= 1
            progress.note(f"{name} is void and run again: {causes}")
            progress.advance(n=-run.cells_done)
