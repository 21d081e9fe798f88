"""The loop's part for StatefulSets and for DaemonSets, both of which keep revisions of their template."""

from __future__ import annotations

from testbed.cluster import daemon_sets, stateful_sets
from testbed.cluster.keeper import RETRY_S, Hands, earliest
from testbed.cluster.kinds import CONTROLLER_REVISION, POD
from testbed.cluster.node_fit import taints_of
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_terminating, labels_of
from testbed.cluster.replica_sets import next_available_at
from testbed.cluster.revisions import surplus, update_revision
from testbed.cluster.templates import REVISION_HASH_LABEL
from testbed.cluster.workload_family import Family


class _Revisions:
    """Writes the revisions of a workload."""

    def __init__(self, family: Family, hands: Hands) -> None:
        self._family, self._hands = family, hands

    def update(self, wire: JsonObject) -> JsonObject | None:
        """The revision of the template as it is; None when it cannot be written yet."""
        there = self._family.of(wire["metadata"]["uid"], CONTROLLER_REVISION)
        found = update_revision(wire, there)
        revision = found.revision
        if found.create and not self._hands.create(wire, revision):
            return None
        if found.renumber is not None:
            name, namespace = object_name(revision), object_namespace(revision)
            return self._hands.store.patch(CONTROLLER_REVISION, name, {"revision": found.renumber}, namespace)
        return revision

    def named(self, wire: JsonObject, name: str) -> JsonObject | None:
        """A revision that is there."""
        there = self._family.of(wire["metadata"]["uid"], CONTROLLER_REVISION)
        return next((each for each in there if object_name(each) == name), None)

    def forget_old(self, wire: JsonObject, used: set[str]) -> None:
        """Delete what is beyond the history's limit."""
        for each in surplus(wire, self._family.of(wire["metadata"]["uid"], CONTROLLER_REVISION), used):
            self._hands.delete(CONTROLLER_REVISION, each)


class StatefulSetKeeper:
    """Makes, replaces and deletes the pods of StatefulSets, in their order."""

    def __init__(self, family: Family, hands: Hands) -> None:
        self._family, self._hands, self._revisions = family, hands, _Revisions(family, hands)

    def keep(self, wire: JsonObject, now_s: float) -> float | None:
        pods = self._family.of(wire["metadata"]["uid"], POD)
        update = self._revisions.update(wire)
        if update is None:
            return now_s + RETRY_S
        before = (wire.get("status") or {}).get("currentRevision", "")
        current = self._revisions.named(wire, before) or update
        again_at = None
        if not is_terminating(wire):
            again_at = self._step(wire, stateful_sets.next_step(wire, current, update, pods, now_s), now_s)
            used = {labels_of(pod).get(REVISION_HASH_LABEL, "") for pod in pods}
            self._revisions.forget_old(wire, used | {object_name(current), object_name(update)})
        self._hands.report(wire, stateful_sets.stateful_set_status(wire, current, update, pods, now_s))
        return earliest(again_at, next_available_at(wire, pods, now_s))

    def _step(self, wire: JsonObject, step: stateful_sets.Step, now_s: float) -> float | None:
        owner, events = object_name(wire), self._hands.events
        again_at = min(step.again_at, default=None)
        for pod in step.create:
            name = object_name(pod)
            if not self._hands.create(wire, pod, f"create Pod {name} in StatefulSet {owner} successful"):
                again_at = earliest(again_at, now_s + RETRY_S)
        for pod in step.delete:
            name = object_name(pod)
            if any(pod is ended for ended in step.ended):
                message = f"StatefulSet {object_namespace(wire)}/{owner} is recreating failed Pod {name}"
                events.record(wire, "Warning", "RecreatingFailedPod", message)
            if self._hands.delete(POD, pod):
                message = f"delete Pod {name} in StatefulSet {owner} successful"
                events.record(wire, "Normal", "SuccessfulDelete", message)
        return again_at


class DaemonSetKeeper:
    """Makes, replaces and deletes the pods of DaemonSets. It is told of Nodes."""

    def __init__(self, family: Family, hands: Hands) -> None:
        self._family, self._hands, self._revisions = family, hands, _Revisions(family, hands)
        self._nodes: dict[str, JsonObject] = {}

    def put_node(self, node: JsonObject) -> bool:
        """Take in a Node as it is now; whether that may concern a DaemonSet."""
        before = self._nodes.get(object_name(node))
        self._nodes[object_name(node)] = node
        return before is None or labels_of(before) != labels_of(node) or taints_of(before) != taints_of(node)

    def remove_node(self, node: JsonObject) -> None:
        """Forget a Node that was deleted."""
        self._nodes.pop(object_name(node), None)

    def keep(self, wire: JsonObject, now_s: float) -> float | None:
        pods = self._family.of(wire["metadata"]["uid"], POD)
        update = self._revisions.update(wire)
        if update is None:
            return now_s + RETRY_S
        again_at = None
        if not is_terminating(wire):
            taken = self._family.names(POD, object_namespace(wire))
            step = daemon_sets.next_step(wire, self._nodes, pods, now_s, taken)
            again_at = step.again_at
            for pod in step.failed:
                message = f"Found failed daemon pod {object_namespace(pod)}/{object_name(pod)} on node "
                message += f"{daemon_sets.node_of(pod)}, will try to kill it"
                self._hands.events.record(wire, "Warning", "FailedDaemonPod", message)
            if not self._hands.create_pods(wire, step.create):
                again_at = earliest(again_at, now_s + RETRY_S)
            self._hands.delete_pods(wire, step.delete)
            used = {f"{object_name(wire)}-{labels_of(pod).get(REVISION_HASH_LABEL, '')}" for pod in pods}
            self._revisions.forget_old(wire, used | {object_name(update)})
        self._hands.report(wire, daemon_sets.daemon_set_status(wire, self._nodes, pods, now_s))
        return earliest(again_at, next_available_at(wire, pods, now_s))
