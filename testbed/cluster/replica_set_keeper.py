"""The loop's part for ReplicaSets and for Deployments."""

from __future__ import annotations

from testbed.cluster.deployment_status import deadline_at, deployment_status, is_complete
from testbed.cluster.deployments import (
    REVISION,
    newest,
    replica_set,
    replica_set_annotations,
    rollout,
    size_annotations,
    surplus,
)
from testbed.cluster.keeper import RETRY_S, Hands, earliest
from testbed.cluster.kinds import POD, REPLICA_SET
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import annotations_of, is_terminating
from testbed.cluster.replica_sets import (
    min_ready_s,
    next_available_at,
    replica_set_status,
    replicas_of,
    scale,
)
from testbed.cluster.workload_family import Family


class ReplicaSetKeeper:
    """Makes and deletes the pods of ReplicaSets."""

    def __init__(self, family: Family, hands: Hands) -> None:
        self._family, self._hands = family, hands

    def keep(self, wire: JsonObject, now_s: float) -> float | None:
        pods = self._family.of(wire["metadata"]["uid"], POD)
        again_at, deleted = None, frozenset[str]()
        if not is_terminating(wire):
            scaling = scale(wire, pods, now_s, self._family.names(POD, object_namespace(wire)))
            again_at = scaling.again_at
            if not self._hands.create_pods(wire, scaling.create):
                again_at = earliest(again_at, now_s + RETRY_S)
            self._hands.delete_pods(wire, scaling.delete)
            deleted = frozenset(pod["metadata"]["uid"] for pod in scaling.delete)
        self._hands.report(wire, replica_set_status(wire, pods, now_s, deleted))
        return earliest(again_at, next_available_at(wire, pods, now_s))


class DeploymentKeeper:
    """Makes, sizes and deletes the ReplicaSets of Deployments."""

    def __init__(self, family: Family, hands: Hands) -> None:
        self._family, self._hands = family, hands

    def keep(self, wire: JsonObject, now_s: float) -> float | None:
        sets = self._family.of(wire["metadata"]["uid"], REPLICA_SET)
        if is_terminating(wire):
            self._hands.report(wire, deployment_status(wire, sets, now_s))
            return None
        created, again_at = "", None
        present = {object_name(each): each for each in sets}
        new = newest(wire, sets)
        for name, replicas in rollout(wire, sets).items():
            if name in present:
                self._size(wire, present[name], replicas, sets, present[name] is new)
                continue
            made = replica_set(wire, replicas, sets)
            if self._hands.create(wire, made):
                created, new = name, made
                if replicas:
                    self._tell(wire, name, 0, replicas)
            else:
                again_at = now_s + RETRY_S
        status = deployment_status(wire, sets, now_s, created)
        noted = None if new is None else {REVISION: replica_set_annotations(wire, new, sets)[REVISION]}
        self._hands.report(wire, status, noted)
        if is_complete(wire, status) or wire["spec"].get("paused") is True:
            for old in surplus(wire, sets):
                self._hands.delete(REPLICA_SET, old)
        return earliest(again_at, deadline_at(wire, status))

    def _size(self, wire: JsonObject, each: JsonObject, replicas: int, sets: list[JsonObject], is_new: bool) -> None:
        """Bring one ReplicaSet to its size, and up to date with what it takes over."""
        patch: JsonObject = {}
        before = replicas_of(each)
        if before != replicas:
            patch["spec"] = {"replicas": replicas}
        if is_new:
            annotations = replica_set_annotations(wire, each, sets)
            if min_ready_s(each) != min_ready_s(wire):
                patch.setdefault("spec", {})["minReadySeconds"] = min_ready_s(wire) or None
        else:
            annotations = size_annotations(wire) if replicas or before else {}
        if not annotations.items() <= annotations_of(each).items():
            patch["metadata"] = {"annotations": annotations}
        if patch:
            self._hands.store.patch(REPLICA_SET, object_name(each), patch, object_namespace(each))
        if before != replicas:
            self._tell(wire, object_name(each), before, replicas)

    def _tell(self, wire: JsonObject, name: str, before: int, now: int) -> None:
        way = "up" if now > before else "down"
        message = f"Scaled {way} replica set {name} from {before} to {now}"
        self._hands.events.record(wire, "Normal", "ScalingReplicaSet", message)
