"""What the pods of a cluster have: nodes, addresses, bridge ports and interface names, given out pod by pod."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network

from testbed.cluster import identity
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.objects import JsonObject, is_valid_name, object_name, object_namespace, pod_key, uses_host_network
from testbed.cluster.pod_facts import is_finished
from testbed.cluster.pod_requests import Resources, allocatable, pod_requests
from testbed.cluster.pool import Pool
from testbed.cluster.scheduler import HostPort, NodeLoad, Unschedulable, choose_node, host_ports
from testbed.cluster.values import IPNetwork
from testbed.cluster.view import pod_network

_FIRST_POD_INDEX = 2  # 0 is the network's own address, 1 the gateway


def pod_capacity(pod_cidr: IPNetwork) -> int:
    """How many pods fit into a node's pod CIDR: all addresses but the network's, the gateway's and the last two (one
    stands for masqueraded clients, one is IPv4's broadcast)."""
    indices = _pod_indices(pod_cidr)
    return indices.stop - indices.start  # len() does not know ranges as large as those of IPv6


def _pod_indices(pod_cidr: IPNetwork) -> range:
    return range(_FIRST_POD_INDEX, max(_FIRST_POD_INDEX, pod_cidr.num_addresses - 2))


class PodRefused(Exception):
    """A pod that cannot be placed: its name, as far as it has one, and the field that decided; ``message`` is what the
    scheduler says of it."""

    def __init__(self, name: str, problem: FieldProblem, message: str = "") -> None:
        super().__init__(problem.reason)
        self.name, self.problem, self.message = name, problem, message or str(problem)


@dataclass(frozen=True)
class _Held:
    """What one pod has; the numbers are None for a pod on its node's own network."""

    node_name: str
    pod_index: int | None = None
    of_port: int | None = None
    interface: str = ""
    host_ports: frozenset[HostPort] = frozenset()
    requests: Resources = field(default_factory=dict)


class _Node:
    """What is given out on one node."""

    def __init__(self, node: JsonObject) -> None:
        self.pod_cidr = ip_network(node["spec"]["podCIDR"])
        self.first_address = int(self.pod_cidr.network_address)
        addresses = node["status"]["addresses"]
        self.node_ip = next(str(entry["address"]) for entry in addresses if entry["type"] == "InternalIP")
        self.pod_indices = Pool(_pod_indices(self.pod_cidr))
        self.of_ports = Pool(range(identity.FIRST_POD_OF_PORT, identity.MAX_OF_PORT + 1))
        self.load = NodeLoad(
            object_name(node),
            node["metadata"].get("labels") or {},
            pod_capacity(self.pod_cidr),
            node["spec"].get("unschedulable") is True,
            taints=node["spec"].get("taints") or (),
            allocatable=allocatable(node),
        )


class PodLedger:
    """What is given out in the cluster; each pod costs the same whatever the number of pods before it."""

    def __init__(self, nodes: Iterable[JsonObject] = ()) -> None:
        self._nodes: dict[str, _Node] = {}
        self._loads: dict[str, NodeLoad] = {}
        self._held: dict[str, _Held] = {}
        self._interfaces: set[str] = set()
        for node in nodes:
            self.add_node(node)

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def add_node(self, node: JsonObject) -> None:
        """Count with a Node, or with what has changed of its labels, its taints, what it has and whether pods may go
        there.

        Raises KeyError, StopIteration or ValueError when it lacks an address or a pod CIDR.
        """
        new = _Node(node)
        known = self._nodes.setdefault(new.load.name, new)
        known.load.labels, known.load.unschedulable = new.load.labels, new.load.unschedulable
        known.load.taints, known.load.allocatable = new.load.taints, new.load.allocatable
        self._loads[new.load.name] = known.load

    def remove_node(self, name: str) -> None:
        """Give the node to no further pod. What its pods have stays theirs."""
        self._loads.pop(name, None)

    def occupy(self, pod: JsonObject) -> None:
        """Count a pod that exists, with what it says that it has. One that has ended has its address, and no more."""
        key, spec = pod_key(pod), pod["spec"]
        self.release(key)
        node_name = spec.get("nodeName", "")
        node, network = self._nodes.get(node_name), pod_network(pod)
        used = (frozenset[HostPort](), {}) if is_finished(pod) else (frozenset(host_ports(spec)), pod_requests(spec))
        if node is None or network is None:
            held = self._held[key] = _Held(node_name, None, None, "", *used)
            if node is not None:
                self._count(key, held, node)
            return
        index = int(network.pod_ip) - node.first_address
        held = _Held(node_name, index, network.of_port, network.interface, *used)
        for pool, number in ((node.pod_indices, held.pod_index), (node.of_ports, held.of_port)):
            # What a person writes by hand need not be free, and then is not given back with this pod either.
            if number is not None and number in pool.numbers and pool.owner(number) is None:
                pool.claim(number, key)
        self._count(key, held, node)

    def release(self, key: str) -> None:
        """Take back all that a pod has; one that is not counted is passed over."""
        held = self._held.pop(key, None)
        node = self._nodes.get(held.node_name) if held is not None else None
        if held is None or node is None:
            return
        node.load.pod_count -= 1
        node.load.host_ports.subtract(held.host_ports)
        node.load.requested.subtract(held.requests)
        if held.pod_index is None:
            return
        node.load.free_addresses += 1
        self._interfaces.discard(held.interface)
        for pool, number in ((node.pod_indices, held.pod_index), (node.of_ports, held.of_port)):
            if number is not None and pool.owner(number) == key:
                pool.release(number)

    def assign(self, pod: JsonObject) -> JsonObject:
        """Place one pod and count it: the complete Pod. Raises PodRefused, and then nothing is counted."""
        name = (pod.get("metadata") or {}).get("name")
        if not is_valid_name(name):
            text = str(name or "")
            problem = FieldProblem("metadata.name", "a Pod needs a name", text, "RFC 1123 subdomain")
            raise PodRefused(text, problem)
        key = pod_key(pod)
        if key in self._held:
            raise PodRefused(key, FieldProblem("metadata.name", "two Pods have this name", key))
        if not pod.get("spec"):
            raise PodRefused(key, FieldProblem("spec", "a Pod needs a spec with containers"))
        try:
            used = frozenset(host_ports(pod["spec"])), pod_requests(pod["spec"])
        except ValueError as error:
            raise PodRefused(key, FieldProblem("spec.containers", str(error))) from None
        try:
            node = self._nodes[choose_node(pod, self._loads)]
        except Unschedulable as error:
            problem = FieldProblem(error.field, error.reason, error.value, error.allowed)
            raise PodRefused(key, problem, error.message) from None
        metadata = {**pod["metadata"], "namespace": object_namespace(pod)}
        pod_ip, held = node.node_ip, _Held(node.load.name, None, None, "", *used)
        if not uses_host_network(pod):
            interface = self._free_interface(metadata["namespace"], metadata["name"])
            index, of_port = node.pod_indices.take(key), node.of_ports.take(key)
            held = _Held(node.load.name, index, of_port, interface, *used)
            assert held.pod_index is not None
            address = node.pod_cidr[held.pod_index]
            pod_ip = str(address)
            metadata["annotations"] = {
                **(metadata.get("annotations") or {}),
                identity.POD_MAC: identity.address_mac(address),
                identity.POD_INTERFACE: interface,
                identity.POD_OF_PORT: str(held.of_port),
            }
        self._count(key, held, node)
        status = {"phase": "Pending", "hostIP": node.node_ip, "podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
        return {**pod, "metadata": metadata, "spec": {**pod["spec"], "nodeName": node.load.name}, "status": status}

    def _count(self, key: str, held: _Held, node: _Node) -> None:
        self._held[key] = held
        node.load.pod_count += 1
        node.load.host_ports.update(held.host_ports)
        node.load.requested.update(held.requests)
        if held.pod_index is not None:
            node.load.free_addresses -= 1
            self._interfaces.add(held.interface)

    def _free_interface(self, namespace: str, name: str) -> str:
        attempt = 0
        while (interface := identity.interface_name(namespace, name, attempt)) in self._interfaces:
            attempt += 1
        return interface
