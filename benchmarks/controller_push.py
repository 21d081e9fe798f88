"""How long the controller needs: 20 nodes with 1,000 pods from nothing, and one pod more.

Real ovs-vswitchd processes, one a node, the real API server and the real controller process, in a sealed box. "From
nothing": the bridges are connected and empty, then all Nodes and Pods are created through the store; the time runs
from the first of them to the moment controller-status says that every bridge has confirmed. "One pod more": from the
creation of a Pod to its node's confirmation in controller-status. Run: ``python -m benchmarks.controller_push``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

from controllers.pipeline.compile import compile_all
from testbed.cluster.assign import assign_pod
from testbed.cluster.confirm import wait_confirmed
from testbed.cluster.kinds import KINDS, POD
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
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

LIMIT_FROM_NOTHING_S = 1.0
LIMIT_ONE_POD_MS = 20.0


def measure(library: str, nodes: int, pods: int, repetitions: int) -> None:
    """Print the figures of one framework."""
    objects = cluster_objects(nodes, pods)
    state = cluster_state(objects)
    started = time.perf_counter()
    flows = compile_all(state)
    compile_s = time.perf_counter() - started
    names = [node.name for node in state.nodes]
    settings = [wire for wire in objects if wire["kind"] == "ConfigMap"]
    cluster = [wire for wire in objects if wire["kind"] != "ConfigMap"]
    with served(settings) as (store, url):
        start_networks()
        controller = start_controller(url, library)
        switches = start_bridges(state, ports=False)
        wait_until(
            lambda: all("is_connected: true" in switch.vsctl("show") for switch in switches.values()), "all connected"
        )
        started = time.perf_counter()
        created = [store.create(wire) for wire in cluster]
        wait_confirmed(store, names, created, CONFIRM_TIMEOUT_S)
        from_nothing_s = time.perf_counter() - started
        installed = sum(switch.flow_count() for switch in switches.values())
        assert installed == sum(map(len, flows.values())), f"{installed} flows are installed"
        one_pod_ms = [_one_pod_ms(store, number) for number in range(repetitions)]
        controller.kill()
    print(f"{library}: {nodes} nodes, {pods} pods, {sum(map(len, flows.values()))} flows")
    print(f"  compile alone               {compile_s * 1e3:7.1f} ms")
    print(f"  from nothing to confirmed   {from_nothing_s * 1e3:7.1f} ms   (limit {LIMIT_FROM_NOTHING_S * 1e3:.0f} ms)")
    print(
        f"  one pod more, median of {repetitions:3d} {statistics.median(one_pod_ms):7.1f} ms   "
        f"(limit {LIMIT_ONE_POD_MS:.0f} ms; worst {max(one_pod_ms):.1f} ms)"
    )


def _one_pod_ms(store: Store, number: int) -> float:
    everything: list[JsonObject] = [wire for kind in KINDS for wire in store.list(kind).items]
    pod = assign_pod(everything, pod_manifest(f"more-{number}", "n1"))
    started = time.perf_counter()
    created = store.create(pod)
    wait_confirmed(store, ["n1"], [created], CONFIRM_TIMEOUT_S)
    elapsed_ms = (time.perf_counter() - started) * 1e3
    store.delete(POD, pod["metadata"]["name"])
    return elapsed_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=30)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    for library in ("ryu", "os-ken"):

        def worker(library: str = library) -> int:
            measure(library, arguments.nodes, arguments.pods, arguments.repetitions)
            return 0

        if run_sealed(worker):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
