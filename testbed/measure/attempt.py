"""One attempt at a round: arms in the drawn order, the cells of each, evidence and checks around them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from testbed.measure import evidence, fidelity
from testbed.measure.capture import capturing, pcap
from testbed.measure.interface import Network, network_end
from testbed.measure.placement import SwitchPlacement
from testbed.measure.plan import Arm, Attempt, Cell, plan_cells, source_port, used_paths
from testbed.measure.probes import LATENCY_KINDS, run_probe
from testbed.measure.probes.base import ECHO_PORT, Context, Result
from testbed.measure.process import ProbeFailure, Servers
from testbed.measure.recorder import Recorder, utc_now
from testbed.progress import Progress
from testbed.spec.endpoints import EndpointRef, parse_endpoint
from testbed.spec.models import Build, Experiment

_NOWHERE = EndpointRef("node", "", "")


@dataclass(frozen=True)
class Surroundings:
    """What all attempts at the rounds of a build have in common."""

    network: Network
    experiment: Experiment
    build: Build
    seed: int
    loss_configured: bool
    servers: Servers
    switches: SwitchPlacement
    recorder: Recorder
    progress: Progress


@dataclass
class AttemptRun:
    """An attempt while it runs. ``causes``: why it is void, empty while it is valid."""

    around: Surroundings
    attempt: Attempt
    causes: list[str] = field(default_factory=list)
    cells_done: int = 0
    retransmits: int = 0
    other_load_pct: float = 0.0

    def run(self) -> None:
        """Run the arms until one makes the attempt void; it is recorded in every case."""
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
        started, begin, before = utc_now(), time.monotonic(), fidelity.read_cpu_times()
        try:
            yield
        except BaseException as error:
            self.causes.append("interrupted" if isinstance(error, KeyboardInterrupt) else f"the run failed: {error}")
            raise
        finally:
            after = fidelity.read_cpu_times()
            steal_pct = fidelity.steal_pct(before, after)
            self.other_load_pct = fidelity.other_load_pct(before, after)
            self.causes += fidelity.steal_causes(steal_pct)
            self.around.recorder.round(
                {
                    **self._key,
                    "order": [arm.name for arm in self.attempt.arms],
                    "started": started,
                    "duration_s": round(time.monotonic() - begin, 3),
                    "valid": not self.causes,
                    "causes": self.causes,
                    "steal_pct": round(steal_pct, 3),
                    "other_load_pct": round(self.other_load_pct, 1),
                    "retransmits": self.retransmits,
                }
            )

    @property
    def _key(self) -> dict[str, Any]:
        return {"build": self.attempt.build, "round": self.attempt.round, "attempt": self.attempt.number}

    def _arm(self, arm: Arm) -> None:
        network, experiment = self.around.network, self.around.experiment
        mtu_bytes = network.state.config.overlay_mtu_bytes if arm.overlay_mtu else None
        network.set_mode(arm.mode, mtu_bytes)
        ends = {network_end(network, end) for path in used_paths(experiment, arm) for end in self._ends(path)}
        pods = sorted(end for end in ends if end.kind == "pod")
        fidelity.check_pod_mtus(network, pods, mtu_bytes or network.state.config.pod_mtu_bytes)
        self._take_evidence(arm)
        before = network.bridge_counters()
        tunnelled = 0
        for cell in plan_cells(experiment, arm):
            result = self._cell(arm, cell)
            if cell.path and evidence.expected(network, *self._ends(cell.path)).encapsulated:
                tunnelled += result.exchanges
        causes = fidelity.counter_causes(before, network.bridge_counters(), arm.mode, tunnelled)
        self.causes += [f"{arm.name}: {cause}" for cause in causes]

    def _cell(self, arm: Arm, cell: Cell) -> Result:
        around, position = self.around, self.cells_done
        around.progress.advance(" ".join(filter(None, (arm.name, cell.probe.label, cell.path))), 0)
        source, target = self._ends(cell.path) if cell.path else (_NOWHERE, _NOWHERE)
        payload_bytes = cell.probe.payload_bytes[0] if cell.payload_bytes is None else cell.payload_bytes
        if cell.probe.kind in LATENCY_KINDS:
            around.switches.together()
        else:
            around.switches.apart()
        result = run_probe(
            Context(
                around.network,
                around.servers,
                cell.probe,
                source,
                target,
                payload_bytes,
                self._source_port(cell.path),
            )
        )
        lost = [] if result.lost is None else [("lost", [float(result.lost)])]
        around.recorder.cell(self.attempt, position, arm, cell, [*result.values, *lost])
        self.retransmits += result.retransmits
        if not around.loss_configured:
            causes = fidelity.lost_causes(result.lost or 0, cell.probe.label, cell.path)
            self.causes += [f"{arm.name}: {cause}" for cause in causes]
        self.cells_done += 1
        around.progress.advance()
        return result

    def _take_evidence(self, arm: Arm) -> None:
        network, paths = self.around.network, used_paths(self.around.experiment, arm)
        for path in paths:
            self.around.servers.echo(self._ends(path)[1], "udp", ECHO_PORT)
        with capturing(network.uplinks()) as capture:
            findings = {
                path: evidence.take(
                    network, capture, *self._ends(path), self._source_port(path), self._marker(arm, path)
                )
                for path in paths
            }
        for path, finding in findings.items():
            name = f"{self.attempt.build}-r{self.attempt.round}-a{self.attempt.number}-{arm.name}-{path}.pcap"
            record = {**self._key, "arm": arm.name, "path": path, **finding.record()}
            self.around.recorder.evidence(record, name, pcap(finding.frames))
            if not finding.ok:
                self.causes.append(f"{arm.name}: evidence of {path}: {finding.detail}")

    def _marker(self, arm: Arm, path: str) -> bytes:
        return f"testbed evidence {'/'.join(map(str, self._key.values()))}/{arm.name}/{path}".encode()

    def _source_port(self, path: str) -> int:
        return source_port(self.around.seed, self.around.build, self.attempt.round, path)

    def _ends(self, path: str) -> tuple[EndpointRef, EndpointRef]:
        named = self.around.experiment.paths[path]
        return parse_endpoint(named.source), parse_endpoint(named.target)
