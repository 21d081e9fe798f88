"""What is measured and in which order: pure functions of the experiment and the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from testbed.cluster.values import Mode
from testbed.spec.models import FIELDS_OF_KIND, Build, Experiment, Probe

# Linux gives clients ports from 32768 on (ip-sysctl, ip_local_port_range): a drawn port below is free.
_FIRST_SOURCE_PORT, _LAST_SOURCE_PORT = 20000, 29999
# Beside the cells themselves: switching, evidence and counters (s per arm), starting a program (s per cell).
_ARM_OVERHEAD_S, _CELL_OVERHEAD_S = 0.2, 0.05
# A stream is seen in intervals of 0.1 s, and needs one that is whole.
_SMOKE_S, _SMOKE_STREAM_S, _SMOKE_WARMUP_S = 0.1, 0.3, 0.05


@dataclass(frozen=True)
class Arm:
    """One treatment of a round. ``overlay_mtu``: the pods keep the overlay's MTU although the mode would allow more."""

    name: str
    mode: Mode
    overlay_mtu: bool = False


OVERLAY = Arm("overlay", "overlay")
ROUTED = Arm("routed", "routed")
# Executed separately from ROUTED and otherwise the same: their difference is the noise floor (A/A).
ROUTED_AGAIN = Arm("routed_aa", "routed")
# Tells the cost of smaller packets from the cost of the path.
ROUTED_OVERLAY_MTU = Arm("routed_overlay_mtu", "routed", overlay_mtu=True)


@dataclass(frozen=True)
class Cell:
    """One execution of one probe. ``path`` is "" for a probe of the whole cluster; ``payload_bytes`` may be None."""

    probe: Probe
    path: str
    payload_bytes: int | None


@dataclass(frozen=True)
class Attempt:
    """One execution of a round: its arms in the order drawn for it. ``round`` and ``number`` count from 1."""

    build: str
    round: int
    number: int
    arms: tuple[Arm, ...]


def plan_arms(experiment: Experiment) -> tuple[Arm, ...]:
    """The arms of every round. The A/A arm and the MTU arm exist where two modes are compared."""
    arms = [arm for arm in (OVERLAY, ROUTED) if arm.mode in experiment.modes]
    if len(arms) == 2:
        arms.append(ROUTED_AGAIN)
        if any(probe.kind == "throughput" for probe in experiment.probes):
            arms.append(ROUTED_OVERLAY_MTU)
    return tuple(arms)


def plan_attempt(experiment: Experiment, build: Build, seed: int, round_number: int, attempt_number: int) -> Attempt:
    """The arms of one attempt in an order that depends on the seed, the build, the round and the attempt only."""
    arms = list(plan_arms(experiment))
    random.Random(f"order/{seed}/{build.name}/{round_number}/{attempt_number}").shuffle(arms)
    return Attempt(build.name, round_number, attempt_number, tuple(arms))


def plan_cells(experiment: Experiment, arm: Arm) -> tuple[Cell, ...]:
    """The cells of an arm, in the order of the file: first packets before anything has warmed the way up."""
    probes = [probe for probe in experiment.probes if not arm.overlay_mtu or probe.kind == "throughput"]
    return tuple(
        Cell(probe, path, payload)
        for probe in sorted(probes, key=lambda probe: probe.kind != "first_packet")
        for path in _paths(experiment, probe)
        for payload in probe.payloads
    )


def _paths(experiment: Experiment, probe: Probe) -> tuple[str, ...]:
    if not probe.takes_paths:
        return ("",)
    return tuple(experiment.paths) if probe.paths is None else probe.paths


def used_paths(experiment: Experiment, arm: Arm) -> tuple[str, ...]:
    """The paths that the arm measures, each once, in the order of the file."""
    measured = {cell.path for cell in plan_cells(experiment, arm)}
    return tuple(path for path in experiment.paths if path in measured)


def source_port(seed: int, build: Build, round_number: int, path: str) -> int:
    """The UDP source port of a path in a round.

    It is the same in all arms, so that equal-cost paths are chosen by the same five-tuple (RFC 2992), and another one
    in each round, so that no single choice of the fabric decides the result.
    """
    drawn = random.Random(f"port/{seed}/{build.name}/{round_number}/{path}")
    return drawn.randint(_FIRST_SOURCE_PORT, _LAST_SOURCE_PORT)


def rerun_budget(rounds: int) -> int:
    """How many void rounds may be run again: half as many as there are; a single round (smoke) has three more tries."""
    return rounds // 2 if rounds > 1 else 3


def cells_per_round(experiment: Experiment) -> int:
    """How many cells one attempt at a round has, over all its arms."""
    return sum(len(plan_cells(experiment, arm)) for arm in plan_arms(experiment))


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment cut down to one short round: everything is exercised, nothing is judged."""
    probes = [
        probe.model_copy(
            update={
                "duration_s": min(probe.duration_s, _SMOKE_STREAM_S if probe.kind == "throughput" else _SMOKE_S),
                "warmup_s": min(probe.warmup_s, _SMOKE_WARMUP_S),
            }
        )
        for probe in experiment.probes
    ]
    return experiment.model_copy(update={"rounds": 1, "probes": tuple(probes)})


def estimate_seconds(experiment: Experiment) -> float:
    """About how long measuring one build takes when no round is void."""
    per_round = 0.0
    for arm in plan_arms(experiment):
        cells = plan_cells(experiment, arm)
        per_round += _ARM_OVERHEAD_S
        per_round += sum(_CELL_OVERHEAD_S + _measuring_s(cell.probe) for cell in cells)
    return experiment.rounds * per_round


def _measuring_s(probe: Probe) -> float:
    fields = FIELDS_OF_KIND[probe.kind]
    return (probe.duration_s if "duration_s" in fields else 0.0) + (probe.warmup_s if "warmup_s" in fields else 0.0)
