"""Which node a pod runs on: the least loaded of those that it may be on and that have room for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from testbed.cluster.node_fit import UNSCHEDULABLE_TAINT, matches_node, required_terms, tolerates, untolerated
from testbed.cluster.objects import JsonObject, NaturalKey, natural_key, uses_host_network
from testbed.cluster.pod_requests import Resources, is_limited, pod_requests

HostPort = tuple[str, int]  # protocol and number

_CORDONED = "node(s) were unschedulable"
_TAINTED = "node(s) had untolerated taint"
_NOT_MEANT = "node(s) didn't match Pod's node affinity/selector"
_FULL = "Too many pods"


@dataclass
class NodeLoad:
    """A node as the scheduler sees it. ``free_addresses`` counts the pod addresses that are left in its pod CIDR,
    ``host_ports`` the pods that have a port of the node, ``requested`` what they have been promised of what is
    ``allocatable``."""

    name: str
    labels: Mapping[str, str]
    free_addresses: int
    unschedulable: bool = False
    pod_count: int = 0
    taints: Sequence[JsonObject] = ()
    host_ports: Counter[HostPort] = field(default_factory=Counter)
    allocatable: Resources = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    rank: NaturalKey = field(init=False)

    def __post_init__(self) -> None:
        self.rank = natural_key(self.name)


class Unschedulable(Exception):
    """No node can take the pod. ``field`` is the manifest's field that decided, ``value`` what stands there;
    ``message`` says the same of each node in the scheduler's words."""

    def __init__(self, field: str, value: str, reason: str, allowed: str = "", message: str = "") -> None:
        super().__init__(reason)
        self.field, self.value, self.reason, self.allowed = field, value, reason, allowed
        self.message = message or reason


def host_ports(spec: JsonObject) -> set[HostPort]:
    """The ports of its node that a pod has."""
    own = uses_host_network({"spec": spec})
    return {
        (str(entry.get("protocol") or "TCP"), int(entry.get("hostPort") or entry["containerPort"]))
        for container in spec.get("containers") or ()
        for entry in container.get("ports") or ()
        if entry.get("hostPort") or own
    }


def choose_node(pod: JsonObject, nodes: Mapping[str, NodeLoad]) -> str:
    """The name of the node for one pod, by Kubernetes' rules.

    ``spec.nodeName`` bypasses the scheduler (a cordoned node still takes the pod). Otherwise every node is a candidate
    that has what ``nodeSelector`` and the required node affinity ask for, whose taints the pod tolerates, and that has
    an address, the pod's host ports and what it requests left; the one with the fewest pods wins, the first by name
    among equals (``n2`` before ``n10``). Raises Unschedulable; ValueError for requests that are no quantities.
    """
    spec = pod.get("spec", {})
    needs_address = not uses_host_network(pod)
    if wanted := spec.get("nodeName"):
        return _pinned(wanted, spec, needs_address, nodes)
    ports, requests = host_ports(spec), pod_requests(spec)
    best: tuple[int, NaturalKey, str] | None = None
    refusals: dict[str, list[str]] = {}
    for node in nodes.values():
        if never := _refusal(spec, node):
            refusals[node.name] = [never]
        elif lacking := _lacks(ports, requests, needs_address, node):
            refusals[node.name] = lacking
        elif best is None or (node.pod_count, node.rank) < best[:2]:
            best = node.pod_count, node.rank, node.name
    if best is not None:
        return best[2]
    raise _unschedulable(spec, ports, nodes, refusals)


def _refusal(spec: JsonObject, node: NodeLoad) -> str:
    """Why one node cannot take a pod whatever else is there, as kube-scheduler says it; "" when it can."""
    if node.unschedulable and not _tolerates_cordon(spec):
        return _CORDONED
    for taint in untolerated(spec, node.taints, ("NoSchedule", "NoExecute")) if node.taints else ():
        # The taint of a cordoned node comes and goes a moment after the cordon itself.
        key = taint.get("key")
        return _CORDONED if key == UNSCHEDULABLE_TAINT else f"{_TAINTED} {{{key}: {taint.get('value') or ''}}}"
    if not matches_node(spec, node.name, node.labels):
        return _NOT_MEANT
    return ""


def _lacks(ports: Collection[HostPort], requests: Resources, needs_address: bool, node: NodeLoad) -> list[str]:
    """What one node has not enough of, as kube-scheduler says it."""
    if ports and any(node.host_ports[port] for port in ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    found = [_FULL] if needs_address and node.free_addresses <= 0 else []
    for resource, amount in requests.items():
        left = node.allocatable.get(resource, 0) - node.requested[resource]
        if amount > left and amount and is_limited(resource, node.allocatable):
            found.append(f"Insufficient {resource}")
    return found


def _message(nodes: Mapping[str, NodeLoad], refusals: Mapping[str, Sequence[str]]) -> str:
    """All nodes' refusals in one. Where pods stand in the way, these would have to be less important; none is."""
    if not nodes:
        return "no nodes available to schedule pods"
    never = (_CORDONED, _TAINTED, _NOT_MEANT)
    helpless = sum(reasons[0].startswith(never) for reasons in refusals.values())
    counts = {
        "Preemption is not helpful for scheduling": helpless,
        "No preemption victims found for incoming pod": len(refusals) - helpless,
    }
    nobody = f"0/{len(nodes)} nodes are available: "
    told = _counted(Counter(reason for reasons in refusals.values() for reason in reasons))
    return f"{nobody}{told}. preemption: {nobody}{_counted(counts)}."


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items() if count))


def _unschedulable(
    spec: JsonObject, ports: Collection[HostPort], nodes: Mapping[str, NodeLoad], refusals: Mapping[str, Sequence[str]]
) -> Unschedulable:
    """All nodes' refusals in one, and the first thing in the manifest to change."""
    message = _message(nodes, refusals)
    selector: Mapping[str, str] = spec.get("nodeSelector") or {}
    matching = [node for node in nodes.values() if matches_node(spec, node.name, node.labels)]
    if not matching and required_terms(spec) is not None:
        return Unschedulable("spec.affinity.nodeAffinity", "", "no node is what it asks for", "", message)
    if not matching:
        reason = "no node carries these labels" if nodes else "the cluster has no node"
        there = _labels_with(selector, nodes.values())
        return Unschedulable("spec.nodeSelector", _selector_text(selector), reason, there, message)
    open_nodes = [node for node in matching if refusals[node.name] != [_CORDONED]]
    if not open_nodes:
        reason = "every node that could take the pod is marked unschedulable"
        return Unschedulable("spec.nodeName", "", reason, "", message)
    open_nodes = [node for node in open_nodes if not refusals[node.name][0].startswith(_TAINTED)]
    if not open_nodes:
        return Unschedulable("spec.tolerations", "", "every node that could take the pod is tainted", "", message)
    names = ", ".join(node.name for node in sorted(open_nodes, key=lambda node: node.rank))
    missing = {reason for node in open_nodes for reason in refusals[node.name]}
    if missing == {_FULL}:
        return Unschedulable("spec.nodeName", "", f"the pod CIDR is too small: no address left on {names}", "", message)
    if lacking := sorted(reason for reason in missing if reason.startswith("Insufficient")):
        return Unschedulable("spec.containers", "", f"{', '.join(lacking)} on {names}", "", message)
    wanted = ", ".join(f"{number}/{protocol}" for protocol, number in sorted(ports))
    return Unschedulable("spec.containers", wanted, f"these ports are taken on {names}", "", message)


def _tolerates_cordon(spec: JsonObject) -> bool:
    cordon = {"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"}
    return any(tolerates(each, cordon) for each in spec.get("tolerations") or ())


def _pinned(wanted: str, spec: JsonObject, needs_address: bool, nodes: Mapping[str, NodeLoad]) -> str:
    node = nodes.get(wanted)
    if node is None:
        known = ", ".join(sorted(nodes, key=natural_key))
        raise Unschedulable("spec.nodeName", wanted, "the cluster has no such node", known)
    selector: Mapping[str, str] = spec.get("nodeSelector") or {}
    if any(node.labels.get(label) != value for label, value in selector.items()):
        # The kubelet rejects such a pod with reason NodeAffinity.
        raise Unschedulable("spec.nodeSelector", _selector_text(selector), f"node {wanted} does not carry these labels")
    if needs_address and node.free_addresses <= 0:
        raise Unschedulable("spec.nodeName", wanted, f"the pod CIDR is too small: no address left on {wanted}")
    return wanted


def _selector_text(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{label}={value}" for label, value in sorted(selector.items()))


def _labels_with(selector: Mapping[str, str], nodes: Iterable[NodeLoad]) -> str:
    """What the nodes have under the labels that the selector asks for."""
    there = {f"{label}={node.labels[label]}" for node in nodes for label in selector if label in node.labels}
    return ", ".join(sorted(there))
