"""From edge nodes and pod manifests to complete objects: every address, MAC, interface and bridge port is decided here.

Pure: equal input gives byte-identical output. Pods are taken in the given order, each from what the ones before left
free, so that assigning all at once equals assigning one after the other, and a pod added at the end moves none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from testbed.cluster import identity
from testbed.cluster.objects import (
    JsonObject,
    config_map,
    is_valid_name,
    natural_key,
    network_config_object,
    node_object,
    object_name,
    object_namespace,
    pod_key,
    uses_host_network,
)
from testbed.cluster.scheduler import NodeLoad, Unschedulable, choose_node
from testbed.cluster.values import IPAddress, IPNetwork, NetworkConfig
from testbed.errors import TestbedError

ZONE_LABEL = "topology.kubernetes.io/zone"
_FIRST_POD_INDEX = 2  # 0 is the network's own address, 1 the gateway


@dataclass(frozen=True)
class EdgeNode:
    """A node of the fabric that becomes a Kubernetes Node. ``location`` (its leaf or zone) becomes its zone label."""

    name: str
    node_ip: IPAddress
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    location: str = ""


@dataclass(frozen=True, order=True)
class AssignmentProblem:
    """Why one object cannot be placed. ``kind`` is ``Pod``, ``Node`` or ``Network`` (the settings, without a name).

    ``index`` counts the pods in the order given (-1 for the others), so that the caller finds the manifest again.
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
    nodes: Sequence[EdgeNode], config: NetworkConfig, node_cidr_mask_size: int, pods: Iterable[JsonObject]
) -> tuple[JsonObject, ...]:
    """All objects of a new cluster, sorted by kind, namespace and name: ConfigMaps, Nodes, Pods.

    Nodes get their pod CIDRs in the natural order of their names, whatever order they are given in. ``pods`` are Pod
    manifests (left unchanged). Raises AssignmentError with every problem at once.
    """
    problems: list[AssignmentProblem] = []
    node_objects = _assign_nodes(nodes, config, node_cidr_mask_size, problems)
    ledger = _Ledger(node_objects)
    assigned: list[JsonObject] = []
    if node_objects or not nodes:  # without pod CIDRs every pod would only repeat the nodes' problem
        for index, pod in enumerate(pods):
            try:
                assigned.append(ledger.assign(pod))
            except _Refused as refused:
                problems.append(refused.problem(index))
    if problems:
        raise AssignmentError(problems)
    settings = [
        config_map(identity.STATUS_NAMESPACE, identity.STATUS_NAME, {}),
        network_config_object(config),
    ]
    return (
        *sorted(settings, key=object_name),
        *sorted(node_objects, key=object_name),
        *sorted(assigned, key=lambda pod: (object_namespace(pod), object_name(pod))),
    )


def assign_pod(objects: Iterable[JsonObject], pod: JsonObject) -> JsonObject:
    """One more pod for a cluster whose objects (at least Nodes and Pods) exist: the complete Pod object.

    What deleted pods had is free again, simply because they are no longer among ``objects``. Raises AssignmentError.
    """
    existing = list(objects)
    ledger = _Ledger(wire for wire in existing if wire["kind"] == "Node")
    for wire in existing:
        if wire["kind"] == "Pod":
            ledger.occupy(wire)
    try:
        return ledger.assign(pod)
    except _Refused as refused:
        raise AssignmentError([refused.problem(0)]) from None


class _Refused(Exception):
    def __init__(self, name: str, field: str, reason: str, value: str = "", allowed: str = "") -> None:
        super().__init__(reason)
        self.details = (name, field, reason, value, allowed)

    def problem(self, index: int) -> AssignmentProblem:
        return AssignmentProblem("Pod", *self.details, index=index)


class _Lowest:
    """Numbers of a range, given out lowest first."""

    def __init__(self, first: int) -> None:
        self.taken: set[int] = set()
        self._mark = first  # every number below is taken

    def take(self) -> int:
        while self._mark in self.taken:
            self._mark += 1
        self.taken.add(self._mark)
        return self._mark


class _NodeLedger:
    """What is given out on one node."""

    def __init__(self, node: JsonObject) -> None:
        self.pod_cidr = ip_network(node["spec"]["podCIDR"])
        self.first_address = int(self.pod_cidr.network_address)
        self.node_ip = _internal_ip(node)
        self.pod_indices = _Lowest(_FIRST_POD_INDEX)
        self.of_ports = _Lowest(identity.FIRST_POD_OF_PORT)
        self.load = NodeLoad(
            object_name(node),
            node["metadata"].get("labels") or {},
            pod_capacity(self.pod_cidr),
            node["spec"].get("unschedulable") is True,
        )


class _Ledger:
    """What is given out in the cluster; each pod costs the same whatever the number of pods before it."""

    def __init__(self, nodes: Iterable[JsonObject]) -> None:
        self.nodes = {object_name(node): _NodeLedger(node) for node in nodes}
        self._loads = {name: node.load for name, node in self.nodes.items()}
        self._keys: set[str] = set()
        self._interfaces: set[str] = set()

    def occupy(self, pod: JsonObject) -> None:
        """Count a pod that exists."""
        self._keys.add(pod_key(pod))
        node = self.nodes.get(pod["spec"].get("nodeName", ""))
        if node is None:
            return
        node.load.pod_count += 1
        annotations = pod["metadata"].get("annotations") or {}
        if identity.POD_OF_PORT in annotations and "podIP" in pod.get("status", {}):
            node.of_ports.taken.add(int(annotations[identity.POD_OF_PORT]))
            node.pod_indices.taken.add(int(ip_address(pod["status"]["podIP"])) - node.first_address)
            node.load.free_addresses -= 1
            self._interfaces.add(annotations[identity.POD_INTERFACE])

    def assign(self, pod: JsonObject) -> JsonObject:
        """Place one pod and count it. Raises _Refused, and then nothing is counted."""
        name = (pod.get("metadata") or {}).get("name")
        if not is_valid_name(name):
            raise _Refused(
                str(name or ""), "metadata.name", "a Pod needs a name", str(name or ""), "RFC 1123 subdomain"
            )
        key = pod_key(pod)
        if key in self._keys:
            raise _Refused(key, "metadata.name", "two Pods have this name", key)
        if not pod.get("spec"):
            raise _Refused(key, "spec", "a Pod needs a spec with containers")
        try:
            node = self.nodes[choose_node(pod, self._loads)]
        except Unschedulable as error:
            raise _Refused(key, error.field, error.reason, error.value, error.allowed) from None
        self._keys.add(key)
        node.load.pod_count += 1
        metadata = {**pod["metadata"], "namespace": object_namespace(pod)}
        pod_ip = node.node_ip
        if not uses_host_network(pod):
            address = node.pod_cidr[node.pod_indices.take()]
            pod_ip = str(address)
            node.load.free_addresses -= 1
            metadata["annotations"] = {
                **(metadata.get("annotations") or {}),
                identity.POD_MAC: identity.address_mac(address),
                identity.POD_INTERFACE: self._new_interface(metadata["namespace"], metadata["name"]),
                identity.POD_OF_PORT: str(node.of_ports.take()),
            }
        status = {"phase": "Pending", "hostIP": node.node_ip, "podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
        return {**pod, "metadata": metadata, "spec": {**pod["spec"], "nodeName": node.load.name}, "status": status}

    def _new_interface(self, namespace: str, name: str) -> str:
        attempt = 0
        while (interface := identity.interface_name(namespace, name, attempt)) in self._interfaces:
            attempt += 1
        self._interfaces.add(interface)
        return interface


def pod_capacity(pod_cidr: IPNetwork) -> int:
    """How many pods fit into a node's pod CIDR: all addresses but the network's, the gateway's and the last two (one
    stands for masqueraded clients, one is IPv4's broadcast)."""
    return max(0, pod_cidr.num_addresses - _FIRST_POD_INDEX - 2)


def _internal_ip(node: JsonObject) -> str:
    addresses = node["status"]["addresses"]
    return next(str(entry["address"]) for entry in addresses if entry["type"] == "InternalIP")


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
