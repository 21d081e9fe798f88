"""The loop that keeps Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs."""

from __future__ import annotations

from collections.abc import Callable

from testbed.cluster.attempt import attempt
from testbed.cluster.events import EventRecorder
from testbed.cluster.job_keeper import JobKeeper
from testbed.cluster.keeper import Hands, Keeper
from testbed.cluster.objects import JsonObject
from testbed.cluster.replica_set_keeper import DeploymentKeeper, ReplicaSetKeeper
from testbed.cluster.stateful_set_keeper import DaemonSetKeeper, StatefulSetKeeper
from testbed.cluster.store import Store
from testbed.cluster.workload_family import Family


class WorkloadLoop:
    """Told of workloads, Nodes, Pods and revisions, it makes, scales and deletes. Objects belong together by uid."""

    def __init__(self, store: Store, recorder: Callable[[str], EventRecorder], clock: Callable[[], float]) -> None:
        def hands(component: str) -> Hands:
            return Hands(store, recorder(component))

        self._clock = clock
        self._family = Family(store)
        self._daemons = DaemonSetKeeper(self._family, hands("daemonset-controller"))
        self._jobs = JobKeeper(self._family, hands("job-controller"))
        # In this order, so that what a Deployment asks of a ReplicaSet is there when that is looked at next.
        self._keepers: dict[str, Keeper] = {
            "Deployment": DeploymentKeeper(self._family, hands("deployment-controller")),
            "StatefulSet": StatefulSetKeeper(self._family, hands("statefulset-controller")),
            "DaemonSet": self._daemons,
            "Job": self._jobs,
            "ReplicaSet": ReplicaSetKeeper(self._family, hands("replicaset-controller")),
        }
        self._due: dict[str, float] = {}  # when to look at workloads again, by uid

    def put(self, wire: JsonObject) -> None:
        if wire["kind"] == "Node":
            if self._daemons.put_node(wire):
                self._look_at_daemons()
        else:
            self._family.put(wire)

    def remove(self, wire: JsonObject) -> None:
        if wire["kind"] == "Node":
            self._daemons.remove_node(wire)
            self._look_at_daemons()
            return
        self._family.remove(wire)
        if wire["kind"] in self._keepers:
            self._due.pop(wire["metadata"]["uid"], None)
            self._jobs.forget(wire["metadata"]["uid"])

    def work(self) -> None:
        """Do what follows from the changes, and what its time has come for."""
        self._family.settle()
        now_s = self._clock()
        changed, self._family.changed = self._family.changed, {}
        changed |= dict.fromkeys(uid for uid, due in self._due.items() if due <= now_s)
        owners = [self._family.owners[uid] for uid in changed if uid in self._family.owners]
        for kind, keeper in self._keepers.items():
            for wire in owners:
                if wire["kind"] == kind:
                    self._due.pop(wire["metadata"]["uid"], None)
                    attempt(wire, lambda keeper=keeper, wire=wire: self._keep(keeper, wire, now_s))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """When there is something to do though nothing changes."""
        return min(self._due.values(), default=None)

    def _keep(self, keeper: Keeper, wire: JsonObject, now_s: float) -> None:
        again_at = keeper.keep(wire, now_s)
        if again_at is not None:
            self._due[wire["metadata"]["uid"]] = again_at

    def _look_at_daemons(self) -> None:
        for uid, wire in self._family.owners.items():
            if wire["kind"] == "DaemonSet":
                self._family.changed[uid] = None
