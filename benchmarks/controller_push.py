"""How long the controller needs: 20 nodes with 1,000 pods from nothing, a switch of modes, and one pod more.

Real ovs-vswitchd processes, one a node, the real API server and the real controller process, in a sealed box, with Ryu
and with os-ken. All times run from the moment before the API learns of the change to the moment when
controller-status says that the bridges concerned have confirmed it by barrier:

- from nothing: the bridges are connected and empty, then all Nodes and Pods are created;
- one pod more: its node's bridge;
- a switch of modes: all bridges.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchmarks.boxed import boxed
from benchmarks.figures import Figure, at_most
from benchmarks.pushes import controlled_bridges, since_ms
from controllers.pipeline import compile_all
from controllers.ryu_app.library import PACKAGES
from testbed.cluster.assign import assign_pod
from testbed.cluster.confirm import wait_confirmed
from testbed.cluster.identity import CONFIG_NAME, CONFIG_NAMESPACE
from testbed.cluster.kinds import CONFIG_MAP, KINDS, POD
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import MODES
from testbed.cluster.view import cluster_state
from tests.box.ovs_harness import (
    CONFIRM_TIMEOUT_S,
    cluster_objects,
    pod_manifest,
    wait_until,
)

NODES, PODS, REPETITIONS = 20, 1000, 30
LIMIT_FROM_NOTHING_MS, LIMIT_ONE_POD_MS = 1000, 20


class Bench:
    """A running API with what can be timed on it."""

    def __init__(self, store: Store, objects: Sequence[JsonObject]) -> None:
        self._store = store
        self._cluster = [wire for wire in objects if wire["kind"] != "ConfigMap"]
        self._names = [wire["metadata"]["name"] for wire in objects if wire["kind"] == "Node"]

    def from_nothing_ms(self) -> float:
        started = time.perf_counter()
        created = [self._store.create(wire) for wire in self._cluster]
        wait_confirmed(self._store, self._names, created, CONFIRM_TIMEOUT_S)
        return since_ms(started)

    def mode_switch_ms(self, number: int) -> float:
        patch = {"data": {"mode": MODES[(number + 1) % len(MODES)]}}
        started = time.perf_counter()
        changed = self._store.patch(CONFIG_MAP, CONFIG_NAME, patch, CONFIG_NAMESPACE)
        wait_confirmed(self._store, self._names, [changed], CONFIRM_TIMEOUT_S)
        return since_ms(started)

    def one_pod_ms(self, number: int) -> float:
        everything = [wire for kind in KINDS for wire in self._store.list(kind).items]
        pod = assign_pod(everything, pod_manifest(f"more-{number}", "n1"))
        started = time.perf_counter()
        created = self._store.create(pod)
        wait_confirmed(self._store, ["n1"], [created], CONFIRM_TIMEOUT_S)
        elapsed_ms = since_ms(started)
        deleted = self._store.delete(POD, pod["metadata"]["name"], grace_period_s=0)
        wait_confirmed(self._store, self._names, [deleted], CONFIRM_TIMEOUT_S)
        return elapsed_ms


def measure(library: str) -> dict[str, float]:
    """One framework's times in ms. To be called in a box of its own."""
    objects = cluster_objects(NODES, PODS)
    state = cluster_state(objects)
    started = time.perf_counter()
    flow_count = sum(len(program.flows()) for program in compile_all(state).values())
    compile_ms = since_ms(started)
    settings = (wire for wire in objects if wire["kind"] == "ConfigMap")
    with controlled_bridges(settings, state, library) as (store, switches, _):
        wait_until(
            lambda: all("is_connected: true" in switch.vsctl("show") for switch in switches.values()), "all connected"
        )
        bench = Bench(store, objects)
        from_nothing_ms = bench.from_nothing_ms()
        installed = sum(switch.flow_count() for switch in switches.values())
        assert installed == flow_count, f"{installed} flows are installed, {flow_count} were compiled"
        one_pod_ms = [bench.one_pod_ms(number) for number in range(REPETITIONS)]
        mode_switch_ms = [bench.mode_switch_ms(number) for number in range(REPETITIONS)]
    return {
        "flows": flow_count,
        "compile": compile_ms,
        "from_nothing": from_nothing_ms,
        "one_pod": statistics.median(one_pod_ms),
        "one_pod_worst": max(one_pod_ms),
        "mode_switch": statistics.median(mode_switch_ms),
        "mode_switch_worst": max(mode_switch_ms),
    }


def figures() -> list[Figure]:
    """Both frameworks' figures, each measured in a box of its own."""
    result = []
    for library in PACKAGES:
        found = boxed(lambda library=library: measure(library))  # type: ignore[misc]
        size = f"{NODES} nodes, {PODS} pods, {found['flows']:.0f} flows"
        result += [
            at_most(
                LIMIT_FROM_NOTHING_MS,
                f"{library}: {size} from nothing to confirmed",
                found["from_nothing"],
                "ms",
                found["compile"],
                "compiling alone",
            ),
            at_most(
                LIMIT_ONE_POD_MS,
                f"{library}: one pod more (median of {REPETITIONS})",
                found["one_pod"],
                "ms",
                found["one_pod_worst"],
                "worst",
            ),
            Figure(
                f"{library}: a switch of modes (median of {REPETITIONS})",
                found["mode_switch"],
                "ms",
                found["mode_switch_worst"],
                "worst",
            ),
        ]
    return result
