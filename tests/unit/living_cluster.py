"""A store with its loops, and with a kubelet that starts and ends pods at once when it is told so."""

from __future__ import annotations

import time

from testbed.cluster.admission import cluster_admission
from testbed.cluster.assign import assign
from testbed.cluster.kinds import ENDPOINT_SLICE, EVENT, KINDS, POD
from testbed.cluster.loops import Loops
from testbed.cluster.objects import object_name, object_namespace
from testbed.cluster.store import Store
from testbed.cluster.timestamps import timestamp
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import edge_nodes

CONFIG = NetworkConfig()
SETTLE_S = 20.0


class Cluster:
    """A store with its loops, and with a kubelet when told so."""

    def __init__(
        self,
        manifests=(),
        nodes=3,
        node_cidr_mask_size=24,
        history=8192,
        settings=None,
        clock=time.time,
        living=False,
    ):
        self.store = Store(history, cluster_admission(CONFIG))
        for wire in assign(edge_nodes(nodes), CONFIG, node_cidr_mask_size, manifests, living):
            self.store.create(wire)
        self.loops = Loops(self.store, settings, clock)

    def __enter__(self):
        self.loops.start()
        return self

    def __exit__(self, *_):
        self.loops.stop()

    def settle(self):
        self.loops.wait_settled(SETTLE_S)

    def run_pods(self):
        """What a kubelet does, until nothing is left to do."""
        while True:
            self.settle()
            version = self.store.resource_version
            for wire in self.pods():
                name, namespace = object_name(wire), object_namespace(wire)
                if "deletionTimestamp" in wire["metadata"]:
                    self.store.delete(POD, name, namespace, grace_period_s=0)
                elif wire["spec"].get("nodeName") and wire.get("status", {}).get("phase") == "Pending":
                    self.ready(name, namespace)
            if self.store.resource_version == version:
                return

    def ready(self, name, namespace="default", ready=True):
        now = timestamp(time.time())
        conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}]
        self.store.patch(POD, name, {"status": {"phase": "Running", "conditions": conditions}}, namespace)

    def end(self, name, phase="Succeeded", namespace="default"):
        """A pod's containers have ended for good."""
        conditions = [{"type": "Ready", "status": "False"}]
        self.store.patch(POD, name, {"status": {"phase": phase, "conditions": conditions}}, namespace)

    def events(self, kind, name):
        """What was said about an object: reason and message, in the order in which it was said first."""
        said = [wire for wire in self.store.list(EVENT).items if wire["involvedObject"]["name"] == name]
        said = [wire for wire in said if wire["involvedObject"]["kind"] == kind.name]
        said.sort(key=lambda wire: int(wire["metadata"]["resourceVersion"]))
        return [(wire["reason"], wire["message"]) for wire in said]

    def pods(self, **labels):
        def matches(wire):
            return all((wire["metadata"].get("labels") or {}).get(name) == value for name, value in labels.items())

        return self.store.list(POD, matches).items

    def slices(self, service_name):
        wanted = {"kubernetes.io/service-name": service_name}
        return self.store.list(ENDPOINT_SLICE, lambda wire: wanted.items() <= wire["metadata"]["labels"].items()).items

    def objects(self):
        return [wire for kind in KINDS for wire in self.store.list(kind).items]
