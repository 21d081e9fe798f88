"""What is measured and in which order: pure functions of the experiment and the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.cluster.values import MODES, Mode, ProxyName
from testbed.contrast import Contrast, Control, Treatment
from testbed.spec.events import Event
from testbed.spec.models import FIELDS_OF_KIND, Build, Experiment, Probe

# Linux gives clients ports from 32768 on (ip-sysctl, ip_local_port_range): a drawn port below is free.
_FIRST_SOURCE_PORT, _LAST_SOURCE_PORT = 20000, 29999
# Beside the cells themselves: switching, evidence and counters (s per arm), starting a program (s per cell).
_ARM_OVERHEAD_S, _CELL_OVERHEAD_S = 0.2, 0.05
# Of a cell with events: bringing the cluster back, and for each event the time until it is over.
_WAY_BACK_S, _EVENT_OVERHEAD_S = 1.0, 0.5
# A stream is seen in intervals of 0.1 s, and needs one that is whole.
_SMOKE_S, _SMOKE_STREAM_S, _SMOKE_WARMUP_S = 0.1, 0.3, 0.05
# From one event of a smoke run to the next: enough to see what it does.
_SMOKE_EVENT_S = 0.5
_AGAIN = "_aa"


@dataclass(frozen=True)
class Arm:
    """One treatment of a round: a mode with a proxy.

    ``control``: "aa" is a treatment executed again and otherwise the same, so that the two differ by noise alone;
    "mtu" is routed with the overlay's MTU, to tell the cost of smaller packets from the cost of the path.
    """

    name: str
    mode: Mode
    proxy: ProxyName = "openflow"
    control: Control = ""


@dataclass(frozen=True)
class Cell:
    """One execution of one probe. ``path`` is "" for a probe of the whole cluster; ``payload_bytes`` may be None.

    ``again``: the second execution of a baseline path in one arm, which gives the noise of a comparison of paths.
    """

    probe: Probe
    path: str
    payload_bytes: int | None
    again: bool = False

    def arm_name(self, arm: Arm) -> str:
        """Under which arm the cell's samples are kept."""
        return arm.name + _AGAIN if self.again else arm.name


@dataclass(frozen=True)
class Attempt:
    """One execution of a round: its arms in the order drawn for it. ``round`` and ``number`` count from 1."""

    build: str
    round: int
    number: int
    arms: tuple[Arm, ...]


def plan_arms(experiment: Experiment) -> tuple[Arm, ...]:
    """The arms of every round: every mode with every proxy, and the controls that the comparison needs.

    Comparing modes, routed is executed again, and at the overlay's MTU where throughput is measured. Comparing proxies,
    the first of the list is executed again in every mode. Comparing paths needs no arm more (see :func:`plan_cells`).
    """
    modes = [mode for mode in MODES if mode in experiment.modes]
    arms = [Arm(_arm_name(experiment, mode, proxy), mode, proxy) for mode in modes for proxy in experiment.proxies]
    if experiment.compared == "mode" and len(modes) == 2:
        routed = [arm for arm in arms if arm.mode == "routed"]
        arms += [Arm(arm.name + _AGAIN, arm.mode, arm.proxy, "aa") for arm in routed]
        if any(probe.kind == "throughput" for probe in experiment.probes):
            arms += [Arm(f"{arm.name}_overlay_mtu", arm.mode, arm.proxy, "mtu") for arm in routed]
    if experiment.compared == "proxy" and len(experiment.proxies) > 1:
        first = [arm for arm in arms if arm.proxy == experiment.proxies[0]]
        arms += [Arm(arm.name + _AGAIN, arm.mode, arm.proxy, "aa") for arm in first]
    return tuple(arms)


def _arm_name(experiment: Experiment, mode: Mode, proxy: ProxyName) -> str:
    """Mode and proxy as far as they vary; the mode alone where neither does."""
    words = [mode] if len(experiment.modes) > 1 or len(experiment.proxies) == 1 else []
    return "_".join([*words, proxy] if len(experiment.proxies) > 1 else words)


def plan_treatments(experiment: Experiment) -> tuple[Treatment, ...]:
    """Every arm that samples are kept under, in the order in which they are listed."""
    arms = plan_arms(experiment)
    found = [Treatment(arm.name, arm.mode, arm.proxy, arm.control) for arm in arms]
    if experiment.compared == "path":
        found += [Treatment(arm.name + _AGAIN, arm.mode, arm.proxy, "aa") for arm in arms]
    return tuple(found)


def plan_contrasts(experiment: Experiment) -> tuple[Contrast, ...]:
    """What is compared with what: modes, proxies, paths or nothing."""
    if experiment.compared == "nothing":
        return ()
    contrasts = {"mode": _mode_contrasts, "proxy": _proxy_contrasts, "path": _path_contrasts}
    return tuple(contrasts[experiment.compared](experiment))


def _mode_contrasts(experiment: Experiment) -> Iterator[Contrast]:
    """Overlay against routed. The arm with the smaller MTU splits a throughput difference in two: overlay against it is
    the path's cost, it against routed the cost of the smaller packets."""
    names = {arm.name for arm in plan_arms(experiment)}
    for proxy in experiment.proxies:
        overlay, routed = (_arm_name(experiment, mode, proxy) for mode in MODES)
        if not {overlay, routed} <= names:
            continue
        within = proxy if len(experiment.proxies) > 1 else ""
        noise = (routed + _AGAIN, routed)
        smaller = "routed_overlay_mtu"
        smaller_arm = f"{routed}_overlay_mtu"
        yield Contrast("mode", "overlay", "routed", overlay, routed, noise, within=within)
        if smaller_arm in names:
            yield Contrast("mode", "overlay", smaller, overlay, smaller_arm, noise, within=within, headline=False)
            yield Contrast("mode", smaller, "routed", smaller_arm, routed, noise, within=within, headline=False)


def _proxy_contrasts(experiment: Experiment) -> Iterator[Contrast]:
    first, *others = experiment.proxies
    for mode in MODES:
        if mode in experiment.modes:
            base = _arm_name(experiment, mode, first)
            within = mode if len(experiment.modes) > 1 else ""
            for proxy in others:
                arm = _arm_name(experiment, mode, proxy)
                yield Contrast("proxy", proxy, first, arm, base, (base + _AGAIN, base), within=within)


def _path_contrasts(experiment: Experiment) -> Iterator[Contrast]:
    arms = plan_arms(experiment)
    for arm in arms:
        for name, path in experiment.paths.items():
            if path.baseline is not None:
                yield Contrast(
                    "path",
                    name,
                    path.baseline,
                    arm.name,
                    arm.name,
                    (arm.name + _AGAIN, arm.name),
                    numerator_path=name,
                    denominator_path=path.baseline,
                    within=arm.name if len(arms) > 1 else "",
                )


def plan_attempt(experiment: Experiment, build: Build, seed: int, round_number: int, attempt_number: int) -> Attempt:
    """The arms of one attempt in an order that depends on the seed, the build, the round and the attempt only."""
    arms = list(plan_arms(experiment))
    random.Random(f"order/{seed}/{build.name}/{round_number}/{attempt_number}").shuffle(arms)
    return Attempt(build.name, round_number, attempt_number, tuple(arms))


def plan_cells(experiment: Experiment, arm: Arm) -> tuple[Cell, ...]:
    """The cells of an arm, in the order of the file: first packets before anything has warmed the way up, what changes
    the cluster last. Where paths are compared, a baseline is executed again."""
    probes = [probe for probe in experiment.probes if arm.control != "mtu" or probe.kind == "throughput"]
    return tuple(
        Cell(probe, path, payload, again)
        for probe in sorted(probes, key=_stage)
        for path in _paths(experiment, probe)
        for again in ((False, True) if _is_baseline(experiment, probe, path) else (False,))
        for payload in probe.payloads
    )


def order_cells(experiment: Experiment, arm: Arm, attempt: Attempt, seed: int) -> tuple[Cell, ...]:
    """The cells of an arm in the order in which an attempt runs them.

    Where paths are compared they are what a round has to put in a random order, within each stage: a drift of the
    machine, or what one cell leaves behind for the next, then meets all of them alike.
    """
    cells = list(plan_cells(experiment, arm))
    if experiment.compared == "path":
        random.Random(f"cells/{seed}/{attempt.build}/{attempt.round}/{attempt.number}/{arm.name}").shuffle(cells)
        cells.sort(key=lambda cell: _stage(cell.probe))
    return tuple(cells)


def _stage(probe: Probe) -> int:
    """First packets, then what finds the cluster as it is and leaves it so, then what changes it."""
    if probe.kind == "first_packet":
        return 0
    return 2 if probe.kind == "program" or probe.events else 1


def _paths(experiment: Experiment, probe: Probe) -> tuple[str, ...]:
    if not probe.takes_paths:
        return ("",)
    return tuple(experiment.paths) if probe.paths is None else probe.paths


def _is_baseline(experiment: Experiment, probe: Probe, path: str) -> bool:
    """Whether another path that the probe measures is compared with this one."""
    compared = experiment.compared == "path"
    return compared and any(experiment.paths[name].baseline == path for name in _paths(experiment, probe) if name)


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
                "duration_s": min(probe.duration_s, _smoke_s(probe)),
                "warmup_s": min(probe.warmup_s, _SMOKE_WARMUP_S),
                "events": _soon(probe),
            }
        )
        for probe in experiment.probes
    ]
    return experiment.model_copy(update={"rounds": 1, "probes": tuple(probes)})


def _smoke_s(probe: Probe) -> float:
    if probe.events:
        return len(probe.events) * _SMOKE_EVENT_S + _SMOKE_S
    return _SMOKE_STREAM_S if probe.kind == "throughput" else _SMOKE_S


def _soon(probe: Probe) -> tuple[Event, ...]:
    """The events in their order, one shortly after the other."""
    ordered = sorted(probe.events, key=lambda event: event.at_s)
    return tuple(
        event.model_copy(update={"at_s": min(event.at_s, _SMOKE_S + number * _SMOKE_EVENT_S)})
        for number, event in enumerate(ordered)
    )


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
    changing_s = _WAY_BACK_S + len(probe.events) * _EVENT_OVERHEAD_S if probe.events else 0.0
    measuring_s = (probe.duration_s if "duration_s" in fields else 0.0) + (
        probe.warmup_s if "warmup_s" in fields else 0.0
    )
    return measuring_s + changing_s
