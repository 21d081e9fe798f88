"""One attempt at a round: arms in the drawn order, the cells of each, evidence and checks around them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from testbed.measure import evidence, fidelity
from testbed.measure.capture import capturing, pcap
from testbed.measure.destination import Destination, Transport, resolve, transports
from testbed.measure.events.restore import brought_back
from testbed.measure.evidence import Asking
from testbed.measure.expectation import expected_of
from testbed.measure.interface import Network, network_end
from testbed.measure.placement import SwitchPlacement
from testbed.measure.plan import Arm, Attempt, Cell, order_cells, plan_cells, source_port, used_paths
from testbed.measure.probes import LATENCY_KINDS, run_probe
from testbed.measure.probes.base import Context, Result, serve_echo
from testbed.measure.probes.http import HTTP_PORT
from testbed.measure.process import ProbeFailure, Servers
from testbed.measure.recorder import Recorder, utc_now
from testbed.progress import Progress
from testbed.spec.endpoints import EndpointRef, Target, parse_endpoint, parse_target
from testbed.spec.models import Build, Experiment

_NOWHERE = EndpointRef("node", "", "")
_NO_TARGET = Target(_NOWHERE, None, None)


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
        network = self.around.network
        mtu_bytes = network.state.config.overlay_mtu_bytes if arm.control == "mtu" else None
        network.set_mode(arm.mode, mtu_bytes)
        network.set_proxy(arm.proxy)
        asked = {path: self._asking(arm, path) for path in used_paths(self.around.experiment, arm)}
        ends = {asking.source for asking in asked.values()}
        ends |= {backend.endpoint for asking in asked.values() for backend in asking.destination.backends}
        pods = sorted(end for end in (network_end(network, end) for end in ends) if end.kind == "pod")
        fidelity.check_pod_mtus(network, pods, mtu_bytes or network.state.config.pod_mtu_bytes)
        self._take_evidence(arm, asked)
        before = network.bridge_counters()
        tunnelled = 0
        for cell in order_cells(self.around.experiment, arm, self.attempt, self.around.seed):
            result = self._cell(arm, cell)
            if cell.path and self._always_tunnelled(asked[cell.path]):
                tunnelled += result.exchanges
        causes = fidelity.counter_causes(before, network.bridge_counters(), arm.mode, tunnelled)
        self.causes += [f"{arm.name}: {cause}" for cause in causes]

    def _always_tunnelled(self, asking: Asking) -> bool:
        network = self.around.network
        return expected_of(network, network_end(network, asking.source), asking.destination).always_tunnelled

    def _cell(self, arm: Arm, cell: Cell) -> Result:
        around, position = self.around, self.cells_done
        around.progress.advance(" ".join(filter(None, (arm.name, cell.probe.label, cell.path))), 0)
        source, target = self._ends(cell.path) if cell.path else (_NOWHERE, _NO_TARGET)
        payload_bytes = cell.probe.payload_bytes[0] if cell.payload_bytes is None else cell.payload_bytes
        if cell.probe.kind in LATENCY_KINDS:
            around.switches.together()
        else:
            around.switches.apart()
        context = Context(
            around.network, around.servers, cell.probe, source, target, payload_bytes, self._source_port(cell.path)
        )
        # What was measured is on disk before the way back, on which the run may end.
        with brought_back(around.network, cell.probe.events):
            result = run_probe(context)
            around.recorder.cell(self.attempt, position, arm, cell, [*result.values, *_lost(result)])
            around.recorder.requests(self.attempt, arm, cell, result.requests)
            around.recorder.happenings(self.attempt, arm, cell, result.happenings)
        self.causes += [f"{arm.name}: {cell.probe.label} on {cell.path}: {cause}" for cause in result.causes]
        self.retransmits += result.retransmits
        if not around.loss_configured and not result.loss_is_a_result:
            causes = fidelity.lost_causes(_missing(result), cell.probe.label, cell.path)
            self.causes += [f"{arm.name}: {cause}" for cause in causes]
        self.cells_done += 1
        around.progress.advance()
        return result

    def _asking(self, arm: Arm, path: str) -> Asking:
        """How the path is asked for evidence: its server, which runs when this returns, and a protocol that it takes.

        Pods that are asked for pages run a server of their own; everywhere else ours answers.
        """
        around = self.around
        source, target = self._ends(path)
        cells = plan_cells(around.experiment, arm)
        if any(cell.path == path and cell.probe.kind == "http" for cell in cells):
            return Asking(source, resolve(around.network, target, "tcp", HTTP_PORT), "tcp", http=True)
        # A datagram where the target takes any, with the ports that udp_rr uses; else a connection.
        transport: Transport = next(iter(transports(around.network, target)), "tcp")
        destination: Destination = serve_echo(around.network, around.servers, target, transport)
        return Asking(source, destination, transport)

    def _take_evidence(self, arm: Arm, asked: Mapping[str, Asking]) -> None:
        network = self.around.network
        with capturing(network.uplinks()) as capture:
            findings = {
                path: evidence.take(network, capture, asking, self._source_port(path), self._marker(arm, path))
                for path, asking in asked.items()
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

    def _ends(self, path: str) -> tuple[EndpointRef, Target]:
        named = self.around.experiment.paths[path]
        return parse_endpoint(named.source), parse_target(named.target)


def _lost(result: Result) -> list[tuple[str, list[float]]]:
    """How many probes were lost, as rows of the samples: of each metric where a cell has several."""
    if result.lost is None:
        return []
    if result.lost_of:
        return [(f"lost.{metric}", [float(lost)]) for metric, lost in result.lost_of.items()]
    return [("lost", [float(result.lost)])]


def _missing(result: Result) -> int:
    """Requests without a good answer."""
    failed = sum(sum(figures) for metric, figures in result.values if metric == "failed")
    return (result.lost or 0) + int(failed)
