"""How long the controller needs: 20 nodes with 1,000 pods from nothing, a switch of modes, and one pod more.

Real ovs-vswitchd processes, one a node, the real API server and the real controller process, in a sealed box, with Ryu
and with os-ken. All times run from the moment before the API learns of the change to the moment when
controller-status says that the bridges concerned have confirmed it by barrier:

- from nothing: the bridges are connected and empty, then all Nodes and Pods are created;
- a switch of modes: of all bridges;
- one pod more: its node's bridge.

Run: ``python -m benchmarks.controller_push``. Ends with status 1 when a limit is exceeded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

from controllers.pipeline import compile_all
from controllers.ryu_app.library import PACKAGES
from testbed.cluster.assign import assign_pod
from testbed.cluster.confirm import wait_confirmed
from testbed.cluster.identity import CONFIG_NAME, CONFIG_NAMESPACE
from testbed.cluster.kinds import CONFIG_MAP, KINDS, POD
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import MODES, ClusterState
from testbed.cluster.view import cluster_state
from testbed.network.box import run_sealed
from tests.box.ovs_harness import (
    CONFIRM_TIMEOUT_S,
    cluster_objects,
    pod_manifest,
    served,
    start_bridges,
    start_controller,
    start_networks,
    wait_until,
)

LIMIT_FROM_NOTHING_MS = 1000.0
LIMIT_ONE_POD_MS = 20.0


class Measurement:
    """One framework's run."""

    def __init__(self, library: str, store: Store, state: ClusterState, objects: Sequence[JsonObject]) -> None:
        self.library, self._store, self._state = library, store, state
        self._names = [node.name for node in state.nodes]
        self._cluster = [wire for wire in objects if wire["kind"] != "ConfigMap"]

    def from_nothing_ms(self) -> float:
        started = time.perf_counter()
        created = [self._store.create(wire) for wire in self._cluster]
        wait_confirmed(self._store, self._names, created, CONFIRM_TIMEOUT_S)
        return _since_ms(started)

    def mode_switch_ms(self, number: int) -> float:
        patch = {"data": {"mode": MODES[(number + 1) % len(MODES)]}}
        started = time.perf_counter()
        changed = self._store.patch(CONFIG_MAP, CONFIG_NAME, patch, CONFIG_NAMESPACE)
        wait_confirmed(self._store, self._names, [changed], CONFIRM_TIMEOUT_S)
        return _since_ms(started)

    def one_pod_ms(self, number: int) -> float:
        everything = [wire for kind in KINDS for wire in self._store.list(kind).items]
        pod = assign_pod(everything, pod_manifest(f"more-{number}", "n1"))
        started = time.perf_counter()
        created = self._store.create(pod)
        wait_confirmed(self._store, ["n1"], [created], CONFIRM_TIMEOUT_S)
        elapsed_ms = _since_ms(started)
        deleted = self._store.delete(POD, pod["metadata"]["name"])
        wait_confirmed(self._store, self._names, [deleted], CONFIRM_TIMEOUT_S)
        return elapsed_ms


def measure(library: str, nodes: int, pods: int, repetitions: int) -> bool:
    """Print the figures of one framework; whether they keep the limits."""
    objects = cluster_objects(nodes, pods)
    state = cluster_state(objects)
    started = time.perf_counter()
    flow_count = sum(map(len, compile_all(state).values()))
    compile_ms = _since_ms(started)
    with served(wire for wire in objects if wire["kind"] == "ConfigMap") as (store, url):
        start_networks()
        controller = start_controller(url, library)
        switches = start_bridges(state, ports=False)
        wait_until(
            lambda: all("is_connected: true" in switch.vsctl("show") for switch in switches.values()), "all connected"
        )
        measurement = Measurement(library, store, state, objects)
        from_nothing_ms = measurement.from_nothing_ms()
        installed = sum(switch.flow_count() for switch in switches.values())
        assert installed == flow_count, f"{installed} flows are installed, {flow_count} were compiled"
        one_pod_ms = [measurement.one_pod_ms(number) for number in range(repetitions)]
        mode_switch_ms = [measurement.mode_switch_ms(number) for number in range(repetitions)]
        controller.kill()
    print(f"{library}: {nodes} nodes, {pods} pods, {flow_count} flows")
    print(f"  compile alone              {compile_ms:7.1f} ms")
    print(f"  from nothing               {from_nothing_ms:7.1f} ms   limit {LIMIT_FROM_NOTHING_MS:.0f} ms")
    print(f"  one pod more        median {_summary(one_pod_ms)}   limit {LIMIT_ONE_POD_MS:.0f} ms")
    print(f"  a switch of modes   median {_summary(mode_switch_ms)}")
    return from_nothing_ms <= LIMIT_FROM_NOTHING_MS and statistics.median(one_pod_ms) <= LIMIT_ONE_POD_MS


def _summary(values_ms: Sequence[float]) -> str:
    return f"{statistics.median(values_ms):7.1f} ms, worst of {len(values_ms)} {max(values_ms):7.1f} ms"


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the controller needs to push flows.")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=30)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    statuses = []
    for library in PACKAGES:

        def worker(library: str = library) -> int:
            return 0 if measure(library, arguments.nodes, arguments.pods, arguments.repetitions) else 1

        statuses.append(run_sealed(worker))
    raise SystemExit(max(statuses))


if __name__ == "__main__":
    main()
