"""The loop that watches over nodes: which are ready, what their taints are, and which pods must leave them.

As Kubernetes' node lifecycle and taint eviction controllers, with a shorter time to eviction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from testbed.cluster.attempt import attempt
from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import NODE, POD
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.node_conditions import missed_conditions, reported_conditions
from testbed.cluster.node_fit import UNREACHABLE_TAINT, UNSCHEDULABLE_TAINT, tolerated_s
from testbed.cluster.node_heartbeat import LEASE_NAMESPACE
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import condition, is_active, is_ready
from testbed.cluster.store import Store
from testbed.cluster.timestamps import seconds_of, timestamp

# Why a pod is not ready that was when its node was lost: it is ready again when the node comes back.
LOST_READINESS = "NodeNotReady"

_LOST_TAINTS = [{"key": UNREACHABLE_TAINT, "effect": effect} for effect in ("NoSchedule", "NoExecute")]
_CORDON_TAINT = {"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"}
_MANAGED = (UNREACHABLE_TAINT, UNSCHEDULABLE_TAINT)

_PodKey = tuple[str, str]  # namespace and name
_Taint = tuple[str, str, str, str]  # node, key, value and effect


class NodeLoop:
    """Told of Nodes, their Leases and Pods, it writes Nodes' conditions and taints, and evicts.

    A node without a Lease is not watched over: it has no kubelet.
    """

    def __init__(
        self, store: Store, recorder: Callable[[str], EventRecorder], clock: Callable[[], float], settings: LoopSettings
    ) -> None:
        self._store, self._clock, self._settings = store, clock, settings
        self._events, self._evictions = recorder("node-controller"), recorder("taint-eviction-controller")
        self._nodes: dict[str, JsonObject] = {}
        self._good_until: dict[str, float] = {}  # Leases
        self._pods: dict[str, dict[_PodKey, JsonObject]] = defaultdict(dict)  # by node
        self._node_of: dict[_PodKey, str] = {}
        self._tainted_at: dict[_Taint, float] = {}
        self._changed: dict[str, None] = {}  # nodes to look at
        self._due: dict[str, float] = {}  # when to look at nodes again

    def put(self, wire: JsonObject) -> None:
        match wire["kind"]:
            case "Node":
                self._nodes[object_name(wire)] = wire
                self._changed[object_name(wire)] = None
            case "Lease" if object_namespace(wire) == LEASE_NAMESPACE:
                self._renew(object_name(wire), wire)
            case "Pod":
                self._put_pod(wire)

    def remove(self, wire: JsonObject) -> None:
        name = object_name(wire)
        match wire["kind"]:
            case "Node":
                self._nodes.pop(name, None)
                self._changed[name] = None
            case "Lease" if object_namespace(wire) == LEASE_NAMESPACE:
                self._good_until.pop(name, None)
                self._due.pop(name, None)
            case "Pod":
                key = object_namespace(wire), name
                if node_name := self._node_of.pop(key, ""):
                    self._pods[node_name].pop(key, None)

    def work(self) -> None:
        """Judge the nodes that have changed, or whose time is up."""
        now_s = self._clock()
        changed, self._changed = self._changed, {}
        changed |= dict.fromkeys(name for name, due in self._due.items() if due <= now_s)
        for name in changed:
            self._due.pop(name, None)
            node = self._nodes.get(name)
            if node is None:
                self._empty(name)
            else:
                attempt(node, lambda name=name, node=node: self._judge(name, node, now_s))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """When there is something to do though nothing changes."""
        return min(self._due.values(), default=None)

    def _renew(self, name: str, lease: JsonObject) -> None:
        spec = lease.get("spec") or {}
        renewed, duration_s = seconds_of(spec.get("renewTime")), spec.get("leaseDurationSeconds")
        if renewed is None:
            return
        own_s = duration_s if isinstance(duration_s, int) else self._settings.node_grace_s
        self._good_until[name] = renewed + min(own_s, self._settings.node_grace_s)
        node = self._nodes.get(name)
        if node is not None and condition(node, "Ready").get("status") == "True" and name in self._due:
            # As it was; evictions, which may be due earlier, are only looked at when there are taints.
            if not _expelling(node):
                self._due[name] = self._good_until[name]
            return
        self._changed[name] = None

    def _put_pod(self, pod: JsonObject) -> None:
        key, node_name = (object_namespace(pod), object_name(pod)), str(pod["spec"].get("nodeName") or "")
        before = self._node_of.pop(key, "")
        if before and before != node_name:
            self._pods[before].pop(key, None)
        if not node_name:
            return
        self._node_of[key] = node_name
        self._pods[node_name][key] = pod
        node = self._nodes.get(node_name)
        if node is not None and (_is_lost(node) or _expelling(node)):
            self._changed[node_name] = None

    def _judge(self, name: str, node: JsonObject, now_s: float) -> None:
        until = self._good_until.get(name)
        lost = _is_lost(node)
        if until is not None:
            if until > now_s:
                self._due[name] = until
            if lost != (until <= now_s) or not condition(node, "Ready"):
                lost = until <= now_s
                node = self._turn(name, node, lost, now_s)
        node = self._cordon(name, node, lost, now_s)
        for key, pod in list(self._pods[name].items()):
            attempt(pod, lambda key=key, pod=pod: self._mark(key, pod, lost))  # type: ignore[misc]
        self._evict(name, node, now_s)

    def _turn(self, name: str, node: JsonObject, lost: bool, now_s: float) -> JsonObject:
        """The node as it is written, now that its kubelet has fallen silent or speaks again."""
        there = (node.get("status") or {}).get("conditions") or ()
        conditions = (missed_conditions if lost else reported_conditions)(there, now_s)
        written = self._store.patch(NODE, name, {"status": {"conditions": conditions}})
        self._nodes[name] = written
        if not lost:  # what nobody was evicted from while nobody answered
            self._changed |= dict.fromkeys(each for each, known in self._nodes.items() if _is_lost(known))
        word = "NodeNotReady" if lost else "NodeReady"
        self._events.record(written, "Normal", word, f"Node {name} status is now: {word}")
        return written

    def _cordon(self, name: str, node: JsonObject, lost: bool, now_s: float) -> JsonObject:
        """The node with the taints that follow from its state; those of others stay."""
        spec = node.get("spec") or {}
        there = list(spec.get("taints") or ())
        wanted = [*(_LOST_TAINTS if lost else ()), *([_CORDON_TAINT] if spec.get("unschedulable") is True else ())]
        kept = [taint for taint in there if taint.get("key") not in _MANAGED]
        for taint in wanted:
            same = [each for each in there if (each.get("key"), each.get("effect")) == (taint["key"], taint["effect"])]
            kept += same or [{**taint, "timeAdded": timestamp(now_s)}]
        if kept == there or sorted(map(str, kept)) == sorted(map(str, there)):
            return node
        written = self._store.patch(NODE, name, {"spec": {"taints": kept or None}})
        self._nodes[name] = written
        return written

    def _mark(self, key: _PodKey, pod: JsonObject, lost: bool) -> None:
        """A pod of a lost node is not ready; when the node is back, it is what it was."""
        state = condition(pod, "Ready")
        back = not lost and state.get("reason") == LOST_READINESS
        if not back and not (lost and is_ready(pod)):
            return
        entry = {"type": "Ready", "status": "False" if lost else "True", "lastTransitionTime": timestamp(self._clock())}
        if lost:
            entry["reason"] = LOST_READINESS
        conditions = [entry if each.get("type") == "Ready" else each for each in pod["status"]["conditions"]]
        self._pods[self._node_of[key]][key] = self._store.patch(
            POD, key[1], {"status": {"conditions": conditions}}, key[0]
        )
        if lost:
            self._events.record(pod, "Warning", LOST_READINESS, "Node is not ready")

    def _evict(self, name: str, node: JsonObject, now_s: float) -> None:
        """Delete the pods that do not tolerate a ``NoExecute`` taint any longer."""
        known = {key: at for key, at in self._tainted_at.items() if key[0] == name}
        for key in known:
            del self._tainted_at[key]
        expelling = _expelling(node)
        if not expelling or self._nobody_answers():
            return
        since = []
        for taint in expelling:
            identity = name, str(taint.get("key")), str(taint.get("value") or ""), "NoExecute"
            written = seconds_of(taint.get("timeAdded"))
            # What was written less than a second ago is known by the whole second only.
            first_seen = now_s if written is None or now_s - written < 1 else written
            added = self._tainted_at[identity] = known.get(identity, first_seen)
            since.append((taint, added))
        for pod in list(self._pods[name].values()):
            if not is_active(pod):
                continue
            limits = [
                (added, tolerated_s(pod["spec"], taint, self._settings.eviction_after_s)) for taint, added in since
            ]
            leaves_at = min((added + limit for added, limit in limits if limit is not None), default=None)
            if leaves_at is None:
                continue
            if leaves_at > now_s:
                self._due[name] = min(leaves_at, self._due.get(name, leaves_at))
            else:
                attempt(pod, lambda pod=pod: self._expel(pod))  # type: ignore[misc]

    def _expel(self, pod: JsonObject) -> None:
        name, namespace = object_name(pod), object_namespace(pod)
        self._evictions.record(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        self._store.delete(POD, name, namespace)

    def _nobody_answers(self) -> bool:
        """Whether all of several nodes are lost: then it is rather the one who asks, and nobody is evicted."""
        watched = [self._nodes[name] for name in self._good_until if name in self._nodes]
        return len(watched) > 1 and all(map(_is_lost, watched))

    def _empty(self, name: str) -> None:
        """Nobody will ever end the pods of a node that was deleted."""
        for (namespace, pod_name), pod in list(self._pods.pop(name, {}).items()):
            attempt(pod, lambda n=pod_name, s=namespace: self._store.delete(POD, n, s, 0))  # type: ignore[misc]


def _is_lost(node: JsonObject) -> bool:
    return condition(node, "Ready").get("status") == "Unknown"


def _expelling(node: JsonObject) -> list[JsonObject]:
    taints: Iterable[JsonObject] = (node.get("spec") or {}).get("taints") or ()
    return [taint for taint in taints if taint.get("effect") == "NoExecute"]
