"""Which node a pod runs on: ``nodeName``, then ``nodeSelector``, then the least loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from testbed.cluster.objects import JsonObject, NaturalKey, natural_key, uses_host_network


@dataclass
class NodeLoad:
    """A node as the scheduler sees it. ``free_addresses`` counts the pod addresses that are left in its pod CIDR."""

    name: str
    labels: Mapping[str, str]
    free_addresses: int
    unschedulable: bool = False
    pod_count: int = 0
    rank: NaturalKey = field(init=False)

    def __post_init__(self) -> None:
        self.rank = natural_key(self.name)


class Unschedulable(Exception):
    """No node can take the pod. ``field`` is the manifest's field that decided, ``value`` what stands there."""

    def __init__(self, field: str, value: str, reason: str, allowed: str = "") -> None:
        super().__init__(reason)
        self.field, self.value, self.reason, self.allowed = field, value, reason, allowed


def choose_node(pod: JsonObject, nodes: Mapping[str, NodeLoad]) -> str:
    """The name of the node for one pod, by Kubernetes' rules.

    ``spec.nodeName`` bypasses the scheduler (a cordoned node still takes the pod). Otherwise every schedulable node
    that carries all labels of ``spec.nodeSelector`` and has an address left is a candidate; the one with the fewest
    pods wins, the first by name among equals (``n2`` before ``n10``). Raises Unschedulable.
    """
    spec = pod.get("spec", {})
    needs_address = not uses_host_network(pod)
    selector: Mapping[str, str] = spec.get("nodeSelector") or {}
    if wanted := spec.get("nodeName"):
        return _pinned(wanted, selector, needs_address, nodes)
    matching = [node for node in nodes.values() if _matches(node, selector)]
    if not matching:
        raise Unschedulable(
            "spec.nodeSelector",
            _selector_text(selector),
            "no node carries these labels" if nodes else "the cluster has no node",
            _labels_with(selector, nodes.values()),
        )
    open_nodes = [node for node in matching if not node.unschedulable]
    if not open_nodes:
        raise Unschedulable("spec.nodeName", "", "every node that could take the pod is marked unschedulable")
    candidates = [node for node in open_nodes if node.free_addresses > 0] if needs_address else open_nodes
    if not candidates:
        names = ", ".join(node.name for node in sorted(open_nodes, key=lambda node: node.rank))
        raise Unschedulable("spec.nodeName", "", f"the pod CIDR is too small: no address left on {names}")
    return min(candidates, key=lambda node: (node.pod_count, node.rank)).name


def _pinned(wanted: str, selector: Mapping[str, str], needs_address: bool, nodes: Mapping[str, NodeLoad]) -> str:
    node = nodes.get(wanted)
    if node is None:
        known = ", ".join(sorted(nodes, key=natural_key))
        raise Unschedulable("spec.nodeName", wanted, "the cluster has no such node", known)
    if not _matches(node, selector):
        # The kubelet rejects such a pod with reason NodeAffinity.
        raise Unschedulable("spec.nodeSelector", _selector_text(selector), f"node {wanted} does not carry these labels")
    if needs_address and node.free_addresses <= 0:
        raise Unschedulable("spec.nodeName", wanted, f"the pod CIDR is too small: no address left on {wanted}")
    return wanted


def _matches(node: NodeLoad, selector: Mapping[str, str]) -> bool:
    return all(node.labels.get(label) == value for label, value in selector.items())


def _selector_text(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{label}={value}" for label, value in sorted(selector.items()))


def _labels_with(selector: Mapping[str, str], nodes: Iterable[NodeLoad]) -> str:
    """What the nodes have under the labels that the selector asks for."""
    there = {f"{label}={node.labels[label]}" for node in nodes for label in selector if label in node.labels}
    return ", ".join(sorted(there))
