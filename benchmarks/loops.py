"""What the cluster's loops cost alone: a Deployment scaled from 1 to 500, and 1,000 pods at rest.

A store, the loops and, instead of namespaces and processes, a thread that reports pods as Running and Ready: all it
finds every 20 ms, or one every 4 ms as a kubelet that has work with each. Ready means that every endpoint stands in its
slice as ready and that the Deployment says so.
"""

from __future__ import annotations

import statistics
import threading
import time
from ipaddress import IPv4Address

from benchmarks.figures import Figure, at_most
from benchmarks.workloads import deployment
from testbed.cluster.admission import cluster_admission
from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.kinds import DEPLOYMENT, ENDPOINT_SLICE, POD
from testbed.cluster.loops import Loops
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig

REPLICAS, AT_REST, NODES, REPETITIONS = 500, 1000, 10, 5
LIMIT_S, LIMIT_AT_REST_MS = 2.0, 5.0
_BATCH_S, _EACH_S, _REST_S, _DEADLINE_S = 0.02, 0.004, 4.0, 60.0


def figures() -> list[Figure]:
    """Seconds from the write to the last ready endpoint, processor time of the same, and of a second of rest."""
    together = [_scale(REPLICAS, 0.0) for _ in range(REPETITIONS)]
    one_by_one = [_scale(REPLICAS, _EACH_S) for _ in range(REPETITIONS)]
    what = f"loops: a Deployment scaled 1 -> {REPLICAS}"
    return [
        at_most(LIMIT_S, f"{what}, all ready", statistics.median(each[0] for each in together), "s"),
        Figure(f"{what}, processor time", statistics.median(each[1] for each in together), "s"),
        Figure(f"{what}, ready one by one, processor time", statistics.median(each[1] for each in one_by_one), "s"),
        at_most(LIMIT_AT_REST_MS, f"loops: a second with {AT_REST} pods at rest, processor time", _rest_ms(), "ms"),
    ]


class _Cluster:
    def __init__(self, replicas: int, each_s: float) -> None:
        config = NetworkConfig()
        self.store = Store(admission=cluster_admission(config))
        nodes = [EdgeNode(f"n{number}", IPv4Address("192.168.1.10") + number) for number in range(1, NODES + 1)]
        for wire in assign(nodes, config, 24, [deployment("web", "nginx", replicas), _SERVICE]):
            self.store.create(wire)
        self.loops = Loops(self.store)
        self._each_s, self._watch = each_s, self.store.watch(POD)
        self._stop = threading.Event()
        self._kubelet = threading.Thread(target=self._run_pods, daemon=True)

    def __enter__(self) -> _Cluster:
        self.loops.start()
        for wire in self.store.list(POD).items:
            self._report(wire)
        self._kubelet.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.close()
        self._kubelet.join()
        self.loops.stop()

    def wait_ready(self, replicas: int) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while self._ready() != replicas or self._available() != replicas:
            assert time.monotonic() < deadline, f"{self._ready()} of {replicas} pods are ready"
            time.sleep(0.005)

    def _ready(self) -> int:
        entries = (entry for wire in self.store.list(ENDPOINT_SLICE).items for entry in wire["endpoints"])
        return sum(entry["conditions"]["ready"] for entry in entries)

    def _available(self) -> int:
        return int((self.store.get(DEPLOYMENT, "web").get("status") or {}).get("availableReplicas", 0))

    def _run_pods(self) -> None:
        while not self._stop.is_set():
            for event in self._watch.next():
                wire = event.object
                if wire["spec"].get("nodeName") and (wire.get("status") or {}).get("phase") == "Pending":
                    self._report(wire)
                    if self._each_s:
                        self._stop.wait(self._each_s)
            if not self._each_s:
                self._stop.wait(_BATCH_S)

    def _report(self, wire: JsonObject) -> None:
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        self.store.patch(POD, object_name(wire), {"status": {"phase": "Running", "conditions": conditions}})


def _scale(replicas: int, each_s: float) -> tuple[float, float]:
    """Seconds until all are ready, and of processor time."""
    with _Cluster(1, each_s) as cluster:
        cluster.wait_ready(1)
        started, spent = time.perf_counter(), time.process_time()
        cluster.store.patch(DEPLOYMENT, "web", {"spec": {"replicas": replicas}})
        cluster.wait_ready(replicas)
        return time.perf_counter() - started, time.process_time() - spent


def _rest_ms() -> float:
    with _Cluster(AT_REST, 0.0) as cluster:
        cluster.wait_ready(AT_REST)
        cluster.loops.wait_settled(_DEADLINE_S)
        spent = time.process_time()
        time.sleep(_REST_S)
        return (time.process_time() - spent) * 1000 / _REST_S


_SERVICE: JsonObject = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}
