"""The loop that keeps Deployments' ReplicaSets and ReplicaSets' Pods, and removes what has lost its owner."""

from __future__ import annotations

from collections import defaultdict

from testbed.cluster.attempt import attempt
from testbed.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET, Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.store import Store
from testbed.cluster.workloads import (
    controller,
    deployment_status,
    replica_set,
    replica_set_status,
    replicas_of,
    rollout,
    scale,
)

_Key = tuple[str, str]  # namespace and name


class WorkloadLoop:
    """Told of Deployments, ReplicaSets and Pods, it makes, scales and deletes. Objects belong together by uid."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owners: dict[str, dict[str, JsonObject]] = {"Deployment": {}, "ReplicaSet": {}}  # by kind, then uid
        self._owned: dict[str, dict[_Key, JsonObject]] = defaultdict(dict)  # by the owner's uid
        self._changed: dict[str, dict[str, None]] = {"Deployment": {}, "ReplicaSet": {}}

    def put(self, wire: JsonObject) -> None:
        if wire["kind"] in self._owners:
            uid = wire["metadata"]["uid"]
            self._owners[wire["kind"]][uid] = wire
            self._changed[wire["kind"]][uid] = None
        if owner := self._owner(wire):
            self._owned[owner[1]][object_namespace(wire), object_name(wire)] = wire
            self._changed[owner[0]][owner[1]] = None

    def remove(self, wire: JsonObject) -> None:
        if wire["kind"] in self._owners:
            uid = wire["metadata"]["uid"]
            self._owners[wire["kind"]].pop(uid, None)
            self._changed[wire["kind"]][uid] = None
        if owner := self._owner(wire):
            self._owned[owner[1]].pop((object_namespace(wire), object_name(wire)), None)
            self._changed[owner[0]][owner[1]] = None

    def work(self) -> None:
        """Do what follows from the changes."""
        for kind, act in (("Deployment", self._deploy), ("ReplicaSet", self._replicate)):
            changed, self._changed[kind] = self._changed[kind], {}
            for uid in changed:
                wire = self._owners[kind].get(uid)
                owned = list(self._owned[uid].values())
                if wire is not None:
                    attempt(wire, lambda act=act, wire=wire, owned=owned: act(wire, owned))  # type: ignore[misc]
                    continue
                for orphan in owned:
                    attempt(orphan, lambda orphan=orphan: self._delete(orphan))  # type: ignore[misc]
                if not owned:
                    del self._owned[uid]

    def _deploy(self, deployment: JsonObject, replica_sets: list[JsonObject]) -> None:
        present = {object_name(wire): wire for wire in replica_sets}
        for name, replicas in rollout(deployment, replica_sets).items():
            if name not in present:
                self._store.create(replica_set(deployment, replicas))
            elif replicas_of(present[name]) != replicas:
                patch = {"spec": {"replicas": replicas}}
                self._store.patch(REPLICA_SET, name, patch, object_namespace(deployment))
        self._report(DEPLOYMENT, deployment, deployment_status(deployment, replica_sets))

    def _replicate(self, replica_set: JsonObject, pods: list[JsonObject]) -> None:
        scaling = scale(replica_set, pods)
        for pod in scaling.create:
            attempt(pod, lambda pod=pod: self._store.create(pod))  # type: ignore[misc]
        for pod in scaling.delete:
            attempt(pod, lambda pod=pod: self._delete(pod))  # type: ignore[misc]
        self._report(REPLICA_SET, replica_set, replica_set_status(replica_set, pods))

    def _report(self, kind: Kind, wire: JsonObject, status: JsonObject) -> None:
        if wire.get("status") != status:
            self._store.patch(kind, object_name(wire), {"status": status}, object_namespace(wire))

    def _delete(self, wire: JsonObject) -> None:
        kind = REPLICA_SET if wire["kind"] == "ReplicaSet" else POD
        self._store.delete(kind, object_name(wire), object_namespace(wire))

    def _owner(self, wire: JsonObject) -> tuple[str, str] | None:
        """The kind and uid of the Deployment or ReplicaSet that keeps this object."""
        owner = controller(wire)
        wanted = {"ReplicaSet": "Deployment", "Pod": "ReplicaSet"}.get(wire["kind"])
        return owner if owner is not None and owner[0] == wanted else None
