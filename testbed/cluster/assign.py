"""From edge nodes and pod manifests to complete objects: every address, MAC, interface and bridge port is decided here.

Pure: equal input gives byte-identical output. Pods are taken in the given order, each from what the ones before left
free, so that assigning all at once equals assigning one after the other, and a pod added at the end moves none.
Services are taken together: what one asks for is not given to another that takes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from testbed.cluster import identity
from testbed.cluster.expansion import Expansion
from testbed.cluster.kinds import KINDS
from testbed.cluster.objects import (
    JsonObject,
    config_map,
    natural_key,
    network_config_object,
    node_object,
    object_name,
)
from testbed.cluster.pod_ledger import PodLedger, PodRefused, pod_capacity
from testbed.cluster.values import IPAddress, IPNetwork, NetworkConfig
from testbed.errors import TestbedError

ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class EdgeNode:
    """A node of the fabric that becomes a Kubernetes Node. ``location`` (its leaf or zone) becomes its zone label."""

    name: str
    node_ip: IPAddress
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    location: str = ""


@dataclass(frozen=True, order=True)
class AssignmentProblem:
    """Why one object cannot be. ``kind`` is a manifest's kind, ``Node`` or ``Network`` (the settings, without a name).

    ``index`` counts the manifests in the order given (-1 for the others), so that the caller finds the manifest again.
    ``field`` is a path like ``spec.ports[0].nodePort``.
    """

    kind: str
    name: str
    field: str
    reason: str
    value: str = ""
    allowed: str = ""
    index: int = -1

    def __str__(self) -> str:
        subject = f"{self.kind} {self.name}".strip()
        return f"{subject}: {self.field}: {self.reason}" + (f" (got {self.value})" if self.value else "")


class AssignmentError(TestbedError):
    """Some objects cannot be placed; carries every problem found. What the user wrote is wrong: exit status 2."""

    exit_status = 2

    def __init__(self, problems: Iterable[AssignmentProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def assign(
    nodes: Sequence[EdgeNode],
    config: NetworkConfig,
    node_cidr_mask_size: int,
    manifests: Iterable[JsonObject],
    living: bool = False,
) -> tuple[JsonObject, ...]:
    """All objects of a new cluster, sorted by kind (as in :data:`testbed.cluster.kinds.KINDS`), namespace and name.

    Nodes get their pod CIDRs in the natural order of their names, whatever order they are given in. ``manifests`` (left
    unchanged) may be of every kind that the API serves, but for Nodes: Pods are placed, workloads are
    expanded into Pods, Services are given what they need, and those with a selector their EndpointSlices, in which no
    endpoint is ready yet. A ``living`` cluster's loops make what has to wait for something else: all pods but the first
    of a StatefulSet whose pods start in order. Raises AssignmentError with every problem at once.
    """
    problems: list[AssignmentProblem] = []
    node_objects = _assign_nodes(nodes, config, node_cidr_mask_size, problems)
    expansion = Expansion(PodLedger(node_objects), config, node_objects, living)
    if node_objects or not nodes:  # without pod CIDRs every pod would only repeat the nodes' problem
        expansion.add(manifests)
        problems += (
            AssignmentProblem(refusal.kind, refusal.name, *refusal.problem, index=refusal.position)
            for refusal in expansion.refused
        )
    if problems:
        raise AssignmentError(problems)
    settings = (config_map(identity.STATUS_NAMESPACE, identity.STATUS_NAME, {}), network_config_object(config))
    return tuple(sorted((*settings, *node_objects, *expansion.objects), key=_order))


def assign_pod(objects: Iterable[JsonObject], pod: JsonObject) -> JsonObject:
    """One more pod for a cluster whose objects (at least Nodes and Pods) exist: the complete Pod object.

    What deleted pods had is free again, simply because they are no longer among ``objects``. Raises AssignmentError.
    """
    existing = list(objects)
    ledger = PodLedger(wire for wire in existing if wire["kind"] == "Node")
    for wire in existing:
        if wire["kind"] == "Pod":
            ledger.occupy(wire)
    try:
        return ledger.assign(pod)
    except PodRefused as refused:
        raise AssignmentError([AssignmentProblem("Pod", refused.name, *refused.problem, index=0)]) from None


_KIND_ORDER = {kind.name: position for position, kind in enumerate(KINDS)}


def _order(wire: JsonObject) -> tuple[int, str, str]:
    return _KIND_ORDER[wire["kind"]], wire["metadata"].get("namespace", ""), object_name(wire)


def _assign_nodes(
    nodes: Sequence[EdgeNode], config: NetworkConfig, mask_size: int, problems: list[AssignmentProblem]
) -> list[JsonObject]:
    """The Node objects; empty, with the problems added, when the nodes cannot have pod CIDRs."""
    seen_names: set[str] = set()
    seen_addresses: dict[IPAddress, str] = {}
    for node in nodes:
        if node.name in seen_names:
            problems.append(
                AssignmentProblem("Node", node.name, "metadata.name", "two nodes have this name", node.name)
            )
        seen_names.add(node.name)
        other = seen_addresses.setdefault(node.node_ip, node.name)
        if other != node.name:
            reason = f"nodes {other} and {node.name} have the same address"
            problems.append(AssignmentProblem("Node", node.name, "status.addresses", reason, str(node.node_ip)))
        for setting, cidr in (("clusterCIDR", config.cluster_cidr), ("serviceCIDR", config.service_cidr)):
            if node.node_ip in cidr:
                reason = f"the node's address lies inside {setting} {cidr}"
                problems.append(AssignmentProblem("Node", node.name, "status.addresses", reason, str(node.node_ip)))
    available = 1 << (mask_size - config.cluster_cidr.prefixlen) if mask_size >= config.cluster_cidr.prefixlen else 0
    if available < len(nodes):
        reason = (
            f"the CIDR is too small: it holds {available} pod CIDRs of /{mask_size}, the cluster has {len(nodes)} nodes"
        )
        problems.append(AssignmentProblem("Network", "", "clusterCIDR", reason, str(config.cluster_cidr)))
    if problems:
        return []
    ordered = sorted(nodes, key=lambda node: natural_key(node.name))
    # The position numbers the pod CIDR and the datapath alike (datapath id 0 means "unset" in OpenFlow).
    return [
        _node_object(node, _subnet(config.cluster_cidr, mask_size, position), position + 1)
        for position, node in enumerate(ordered)
    ]


def _node_object(node: EdgeNode, pod_cidr: IPNetwork, datapath_id: int) -> JsonObject:
    zone = {ZONE_LABEL: node.location} if node.location else {}
    labels = {**zone, **node.labels}
    return node_object(node.name, str(node.node_ip), pod_cidr, datapath_id, labels, pod_capacity(pod_cidr))


def _subnet(cluster_cidr: IPNetwork, mask_size: int, position: int) -> IPNetwork:
    size = 1 << (cluster_cidr.max_prefixlen - mask_size)
    return ip_network((int(cluster_cidr.network_address) + position * size, mask_size))
