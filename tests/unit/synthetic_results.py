"""Makes results folders like those a run leaves behind, from a seed: the input of every test of the analysis.

Magnitudes are those of userspace Open vSwitch on a small machine: about 80 us within a node, 150 to 190 us between
nodes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "testbed-results/v1"
COLUMNS = ["build", "round", "attempt", "position", "arm", "mode", "path", "probe", "payload_bytes", "metric", "value"]
STARTED = datetime(2026, 11, 20, 12, 30, tzinfo=timezone.utc)
PATHS = {
    "same_node": ("a1", "a2"),
    "same_leaf": ("a1", "b1"),
    "cross_leaf": ("a1", "c1"),
    "node_to_node": ("node/n1", "node/n3"),
}
BASE_US = {"same_node": 82.0, "same_leaf": 151.0, "cross_leaf": 168.0, "node_to_node": 14.0}
OVERLAY_FACTOR = {"same_node": 1.0, "same_leaf": 1.07, "cross_leaf": 1.09, "node_to_node": 1.0}
WAYS = {
    "same_leaf": [["leaf1"]],
    "cross_leaf": [["leaf1", "spine1", "leaf2"], ["leaf1", "spine2", "leaf2"]],
    "node_to_node": [["leaf1", "spine1", "leaf2"]],
    "same_node": [[]],
}
MTU_BYTES = {"overlay": 1450, "routed": 1500, "routed_aa": 1500, "routed_overlay_mtu": 1450}


@dataclass
class Synthetic:
    """What the run is to look like. ``void`` maps a round to the causes that voided its first attempt."""

    rounds: int = 12
    samples: int = 300
    seed: int = 1
    overlay_factor: Mapping[str, float] = field(default_factory=lambda: dict(OVERLAY_FACTOR))
    round_noise: float = 0.006
    paths: Sequence[str] = tuple(PATHS)
    payloads: Sequence[int] = (64,)
    builds: Sequence[Mapping[str, Any]] = ({"name": "main", "parameters": {}, "idle_ports": 0},)
    void: Mapping[int, Sequence[str]] = field(default_factory=dict)
    throughput: bool = True
    first_packet: bool = True
    flow_count: bool = False
    aa: bool = True
    status: str = "complete"
    other_load_pct: float = 1.5
    smoke: bool = False
    expect: Sequence[Mapping[str, Any]] = ()
    modes: Sequence[str] = ("overlay", "routed")
    experiment_name: str = "overlay_vs_routed"

    def write(self, directory: Path) -> Path:
        """Write the folder; returns it."""
        directory.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(self.seed)
        experiment = self._experiment()
        _json(directory / "run.json", self._run(experiment))
        _json(directory / "environment.json", environment())
        (directory / "experiment.yaml").write_text(json.dumps(experiment))  # JSON is YAML
        now = STARTED
        rounds, evidence = [], []
        with (directory / "samples.csv.gz").open("wb") as stream:
            stream.write(gzip.compress((",".join(COLUMNS) + "\n").encode()))
            for build in self.builds:
                for number in range(1, self.rounds + 1):
                    causes = list(self.void.get(number, ()))
                    for attempt in (1, 2) if causes else (1,):
                        order = list(rng.permutation(self._arms()))
                        drift = 1 + 0.04 * math.sin(number / 2) + (0.6 if causes and attempt == 1 else 0.0)
                        for member in self._attempt(build, number, attempt, order, drift, rng):
                            stream.write(member)
                        valid = not causes or attempt == 2
                        rounds.append(
                            {
                                "build": build["name"],
                                "round": number,
                                "attempt": attempt,
                                "order": order,
                                "started": now.isoformat().replace("+00:00", "Z"),
                                "duration_s": 11.5,
                                "valid": valid,
                                "causes": [] if valid else causes,
                                "steal_pct": 0.1 if valid else 4.2,
                                "other_load_pct": self.other_load_pct,
                                "retransmits": 0,
                            }
                        )
                        evidence += self._evidence(build, number, attempt, rng)
                        now += timedelta(seconds=12)
        _lines(directory / "rounds.jsonl", rounds)
        _lines(directory / "evidence.jsonl", evidence)
        return directory

    def _arms(self) -> list[str]:
        return [*self.modes, *(["routed_aa"] if self.aa and "routed" in self.modes else [])]

    def _experiment(self) -> dict[str, Any]:
        probes: list[dict[str, Any]] = [
            {"kind": "udp_rr", "payload_bytes": list(self.payloads), "duration_s": 1.0, "warmup_s": 0.2}
        ]
        if self.throughput:
            probes.append(
                {
                    "kind": "throughput",
                    "paths": ["cross_leaf"],
                    "payload_bytes": [64],
                    "duration_s": 1.0,
                    "protocol": "tcp",
                }
            )
        if self.first_packet:
            probes.append({"kind": "first_packet", "paths": ["cross_leaf"], "payload_bytes": [64]})
        if self.flow_count:
            probes.append({"kind": "flow_count"})
        return {
            "format": "testbed/v1",
            "name": self.experiment_name,
            "description": "What does the overlay cost my pods on a leaf-spine fabric?",
            "topology": {"name": "leaf_spine", "parameters": {"leaves": 2, "spines": 2, "nodes": 2}},
            "network": {"mtu_bytes": 1500, "vni": 1},
            "builds": [dict(build) for build in self.builds],
            "modes": list(self.modes),
            "paths": {name: {"from": PATHS[name][0], "to": PATHS[name][1]} for name in self.paths},
            "probes": probes,
            "primary": None,
            "rounds": self.rounds,
            "seed": self.seed,
            "expect": [dict(item) for item in self.expect],
        }

    def _run(self, experiment: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "status": self.status,
            "smoke": self.smoke,
            "started": "2026-11-20T12:30:00Z",
            "finished": "2026-11-20T12:32:31Z",
            "command": ["testbed", "run", "experiments/overlay_vs_routed.yaml"],
            "experiment": dict(experiment),
        }

    def _attempt(
        self,
        build: Mapping[str, Any],
        number: int,
        attempt: int,
        order: Sequence[str],
        drift: float,
        rng: np.random.Generator,
    ) -> list[bytes]:
        members = []
        position = 0
        ports = 1 + build.get("idle_ports", 0) / 400 + build.get("parameters", {}).get("nodes", 2) / 200
        for arm in [*order, *(["routed_overlay_mtu"] if self.throughput else [])]:
            mode = "overlay" if arm == "overlay" else "routed"
            key = [build["name"], number, attempt]
            if arm != "routed_overlay_mtu":
                for payload in self.payloads:
                    for path in self.paths:
                        centre = BASE_US[path] * drift * ports * float(np.exp(rng.normal(0, self.round_noise)))
                        centre *= self.overlay_factor.get(path, 1.0) if mode == "overlay" else 1.0
                        centre *= self._payload_factor(payload, arm)
                        values = _rtts(centre, self.samples, rng)
                        members.append(_member([*key, position, arm, mode, path, "udp_rr", payload], "rtt_us", values))
                        position += 1
                if self.first_packet and "cross_leaf" in self.paths:
                    base = 900.0 if mode == "overlay" else 780.0
                    for metric, factor in (("first_packet_us", 1.0), ("first_connection_us", 1.6)):
                        value = base * factor * float(np.exp(rng.normal(0, 0.08)))
                        members.append(
                            _member([*key, position, arm, mode, "cross_leaf", "first_packet", ""], metric, [value])
                        )
                        position += 1
                if self.flow_count:
                    nodes = build.get("parameters", {}).get("nodes", 2)
                    flows = [30 + (3 * nodes if mode == "overlay" else nodes)] * nodes
                    members.append(_member([*key, position, arm, mode, "", "flow_count", ""], "flows", flows))
                    position += 1
            if self.throughput and "cross_leaf" in self.paths:
                level = {"overlay": 560.0, "routed": 850.0, "routed_aa": 850.0, "routed_overlay_mtu": 822.0}[arm]
                values = level * float(np.exp(rng.normal(0, 0.015))) * np.exp(rng.normal(0, 0.03, 10))
                members.append(
                    _member([*key, position, arm, mode, "cross_leaf", "throughput", ""], "throughput_mbps", values)
                )
                position += 1
        return members

    def _payload_factor(self, payload: int, arm: str) -> float:
        fragments = math.ceil((payload + 8) / (MTU_BYTES[arm] - 20))
        return 1 + payload / 20000 + 0.25 * (fragments - 1)

    def _evidence(
        self, build: Mapping[str, Any], number: int, attempt: int, rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        found = []
        for arm in self._arms():
            for path in self.paths:
                overlay = arm == "overlay" and path in ("same_leaf", "cross_leaf")
                pods = path != "node_to_node"
                found.append(
                    {
                        "build": build["name"],
                        "round": number,
                        "attempt": attempt,
                        "arm": arm,
                        "path": path,
                        "ok": True,
                        "packets": 0 if path == "same_node" else int(rng.integers(40, 80)),
                        "outer": {
                            "ipv4_src": "192.168.0.1",
                            "ipv4_dst": "192.168.1.1",
                            "udp_src": 51234,
                            "udp_dst": 4789,
                        }
                        if overlay
                        else None,
                        "inner": {
                            "ipv4_src": "10.244.0.2" if pods else "192.168.0.1",
                            "ipv4_dst": "10.244.2.2" if pods else "192.168.1.1",
                            "protocol": "udp",
                        },
                        "vni": 1 if overlay else None,
                        "via": WAYS[path][int(rng.integers(len(WAYS[path])))],
                        "detail": "answered, and nothing of it on any uplink" if path == "same_node" else "",
                    }
                )
        return found


def environment(**changes: Any) -> dict[str, Any]:
    """An environment.json; keyword arguments replace entries."""
    return {
        "format": FORMAT,
        "kernel": "6.18.1",
        "ovs": "3.1.0",
        "datapath": "netdev",
        "cpu_model": "Example CPU 2.6 GHz",
        "cores": 2,
        "git_revision": "0123abc",
        "seed": 1,
        "openflow": "ryu 4.34",
        "python": "3.11.7",
        "routes": "static",
        "mtu_bytes": {"overlay": 1450, "routed": 1500},
        "offloads": {"n1/gw": False},
        "ports_per_vswitchd": {"n1": 5, "n2": 4, "n3": 4, "n4": 3},
        "tools": {"sockperf": "3.7", "iperf3": "3.12"},
        "tool_floor_us": 5.4,
        "sockperf_floor_us": 5.2,
        "kernel_path": {
            "routed_us": 8.1,
            "overlay_us": 13.0,
            "ratio": 1.605,
            "ratio_range": [1.58, 1.66],
            "turns": 5,
        },
        "warnings": ["netem is missing: links cannot be shaped"],
        "builds": {"main": {"ports_per_vswitchd": {"n1": 5, "n2": 4, "n3": 4, "n4": 3}, "warnings": []}},
        **changes,
    }


def _rtts(centre: float, count: int, rng: np.random.Generator) -> np.ndarray:
    body = centre * np.exp(rng.normal(0, 0.09, count))
    slow = rng.random(count) < 0.015
    return np.where(slow, body * rng.uniform(1.5, 6, count), body)


def _member(key: Sequence[Any], metric: str, values: Sequence[float] | np.ndarray) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([*key, metric, f"{value:.3f}"] for value in values)
    return gzip.compress(text.getvalue().encode(), compresslevel=1)


def _json(file: Path, document: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(document, indent=1))


def _lines(file: Path, records: Sequence[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
