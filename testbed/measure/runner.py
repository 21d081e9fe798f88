"""Runs the rounds of one build: arms in the drawn order, cells in each, evidence and checks around them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.measure import evidence, fidelity
from testbed.measure.capture import capturing, pcap
from testbed.measure.interface import Network
from testbed.measure.placement import SwitchPlacement
from testbed.measure.plan import (
    Arm,
    Attempt,
    Cell,
    cells_per_round,
    plan_attempt,
    plan_cells,
    rerun_budget,
    source_port,
    used_paths,
)
from testbed.measure.probes import LATENCY_KINDS, run_probe
from testbed.measure.probes.base import ECHO_PORT, Context, Result
from testbed.measure.process import ProbeFailure, Servers
from testbed.measure.recorder import Recorder, utc_now
from testbed.progress import Progress
from testbed.spec.endpoints import EndpointRef, parse_endpoint
from testbed.spec.models import Build, Experiment

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment

_NOWHERE = EndpointRef("node", "", "")


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
    itself fails.
    """
    experiment = checked.experiment
    warnings = fidelity.preflight(network)
    for warning in warnings:
        progress.note(warning)
    ports = {node: counters["ports"] for node, counters in network.bridge_counters().items()}
    recorder.build_facts(build.name, {"ports_per_vswitchd": ports, "warnings": warnings})
    per_round, budget = cells_per_round(experiment), rerun_budget(experiment.rounds)
    lossy = any(shaping.loss_pct for shaping in checked.shaping.values())
    progress.start(f"measuring {build.name}", experiment.rounds * per_round)
    with Servers(network) as servers, SwitchPlacement() as switches:
        for round_number in range(1, experiment.rounds + 1):
            attempt_number = 0
            while True:
                attempt_number += 1
                attempt = plan_attempt(experiment, build, seed, round_number, attempt_number)
                run = _AttemptRun(
                    network, experiment, build, attempt, seed, lossy, servers, switches, recorder, progress
                )
                run.run()
                if not run.causes or not budget:
                    progress.advance(n=per_round - run.cells_done)
                    break
                budget -= 1
                progress.note(f"round {round_number} of {build.name} is void and run again: {'; '.join(run.causes)}")
                progress.advance(n=-run.cells_done)
    progress.finish()


@dataclass
class _AttemptRun:
    """One attempt at a round while it runs. ``causes``: why it is void, empty while it is valid."""

    network: Network
    experiment: Experiment
    build: Build
    attempt: Attempt
    seed: int
    loss_configured: bool
    servers: Servers
    switches: SwitchPlacement
    recorder: Recorder
    progress: Progress
    causes: list[str] = field(default_factory=list)
    cells_done: int = 0
    retransmits: int = 0

    def run(self) -> None:
        """Run the arms until one makes the attempt void; the record is written in every case."""
        with self._recorded():
            for arm in self.attempt.arms:
                try:
                    self._arm(arm)
                except ProbeFailure as failure:
                    self.causes.append(f"{arm.name}: {failure}")
                if self.causes:
                    return

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        started, begin, cpu_before = utc_now(), time.monotonic(), fidelity.read_cpu_times()
        steal_pct = 0.0
        try:
            yield
            steal_pct = fidelity.steal_pct(cpu_before, fidelity.read_cpu_times())
            cause = fidelity.steal_cause(steal_pct)
            self.causes += [cause] if cause else []
        except BaseException as error:
            self.causes.append("interrupted" if isinstance(error, KeyboardInterrupt) else f"the run failed: {error}")
            raise
        finally:
            self.recorder.round(
                {
                    **self._key,
                    "order": [arm.name for arm in self.attempt.arms],
                    "started": started,
                    "duration_s": round(time.monotonic() - begin, 3),
                    "valid": not self.causes,
                    "causes": self.causes,
                    "steal_pct": round(steal_pct, 3),
                    "retransmits": self.retransmits,
                }
            )

    @property
    def _key(self) -> dict[str, Any]:
        return {"build": self.attempt.build, "round": self.attempt.round, "attempt": self.attempt.number}

    def _arm(self, arm: Arm) -> None:
        mtu_bytes = self.network.state.config.overlay_mtu_bytes if arm.overlay_mtu else None
        self.network.set_mode(arm.mode, mtu_bytes)
        pods = {end for path in used_paths(self.experiment, arm) for end in self._ends(path) if end.kind == "pod"}
        fidelity.check_pod_mtus(self.network, sorted(pods), mtu_bytes or self.network.state.config.pod_mtu_bytes)
        self._take_evidence(arm)
        before = self.network.bridge_counters()
        tunnelled = 0
        for cell in plan_cells(self.experiment, arm):
            result = self._cell(arm, cell)
            if cell.path and evidence.expected(self.network, *self._ends(cell.path)).encapsulated:
                tunnelled += result.exchanges
        after = self.network.bridge_counters()
        self.causes += [f"{arm.name}: {cause}" for cause in fidelity.counter_causes(before, after, arm.mode, tunnelled)]

    def _cell(self, arm: Arm, cell: Cell) -> Result:
        position = self.cells_done
        self.progress.advance(" ".join(filter(None, (arm.name, cell.probe.label, cell.path))), 0)
        source, target = self._ends(cell.path) if cell.path else (_NOWHERE, _NOWHERE)
        payload_bytes = cell.probe.payload_bytes[0] if cell.payload_bytes is None else cell.payload_bytes
        context = Context(
            self.network, self.servers, cell.probe, source, target, payload_bytes, self._source_port(cell.path)
        )
        if cell.probe.kind in LATENCY_KINDS:
            self.switches.together()
        else:
            self.switches.apart()
        result = run_probe(context)
        lost = [] if result.lost is None else [("lost", [float(result.lost)])]
        self.recorder.cell(self.attempt, position, arm, cell, [*result.values, *lost])
        self.retransmits += result.notes.get("retransmits", 0)
        cause = fidelity.lost_cause(result.lost or 0, cell.probe.label, cell.path, self.loss_configured)
        self.causes += [f"{arm.name}: {cause}"] if cause else []
        self.cells_done += 1
        self.progress.advance()
        return result

    def _take_evidence(self, arm: Arm) -> None:
        paths = used_paths(self.experiment, arm)
        for path in paths:
            self.servers.echo(self._ends(path)[1], "udp", ECHO_PORT)
        with capturing(self.network.uplinks()) as capture:
            findings = {
                path: evidence.take(
                    self.network, capture, *self._ends(path), self._source_port(path), self._marker(arm, path)
                )
                for path in paths
            }
        for path, finding in findings.items():
            name = f"{self.attempt.build}-r{self.attempt.round}-a{self.attempt.number}-{arm.name}-{path}.pcap"
            record = {**self._key, "arm": arm.name, "path": path, **finding.record()}
            self.recorder.evidence(record, name, pcap(finding.frames))
            if not finding.ok:
                self.causes.append(f"{arm.name}: evidence of {path}: {finding.detail}")

    def _marker(self, arm: Arm, path: str) -> bytes:
        return f"testbed evidence {'/'.join(map(str, self._key.values()))}/{arm.name}/{path}".encode()

    def _source_port(self, path: str) -> int:
        return source_port(self.seed, self.build, self.attempt.round, path)

    def _ends(self, path: str) -> tuple[EndpointRef, EndpointRef]:
        named = self.experiment.paths[path]
        return parse_endpoint(named.source), parse_endpoint(named.target)
