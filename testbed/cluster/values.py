"""The cluster network as plain values: what the plan and the flows are computed from.

They are read out of Kubernetes objects (see :mod:`testbed.cluster.view`), never the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

Mode = Literal["overlay", "routed"]
MODES: tuple[Mode, ...] = ("overlay", "routed")

# RFC 7348: outer IPv4 (20) + UDP (8) + VXLAN (8) + inner Ethernet (14) bytes.
VXLAN_OVERHEAD_BYTES = 50
VXLAN_UDP_PORT = 4789

Protocol = Literal["TCP", "UDP", "SCTP"]
PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")

# What turns a Service's address into an endpoint's: flows of the bridge, or rules of the nodes' kernels.
ProxyName = Literal["openflow", "iptables", "nftables", "ipvs"]
PROXIES: tuple[ProxyName, ...] = ("openflow", "iptables", "nftables", "ipvs")

# kube-apiserver's default --service-node-port-range, both ends included.
NODE_PORTS = range(30000, 32768)

# An OpenFlow message holds at most 65,535 bytes, and a group is one message: so many endpoints of one port of a Service
# fit in (controllers.pipeline.groups counts the bytes).
MAX_GROUP_ENDPOINTS = 743
MAX_GROUP_ENDPOINTS_WITH_AFFINITY = 1022

_DEFAULT_CLUSTER_CIDR = IPv4Network("10.244.0.0/16")
_DEFAULT_SERVICE_CIDR = IPv4Network("10.96.0.0/12")
# Part of RFC 2544's benchmarking block, so that it cannot be meant for anything real.
_DEFAULT_LOAD_BALANCER_CIDR = IPv4Network("198.18.0.0/24")


@dataclass(frozen=True)
class NetworkConfig:
    """Cluster-wide settings of the pod network, kept in the ConfigMap ``kube-system/cluster-network``."""

    mode: Mode = "overlay"
    cluster_cidr: IPNetwork = _DEFAULT_CLUSTER_CIDR
    service_cidr: IPNetwork = _DEFAULT_SERVICE_CIDR
    vni: int = 1
    underlay_mtu_bytes: int = 1500
    proxy: ProxyName = "openflow"
    load_balancer_cidr: IPNetwork = _DEFAULT_LOAD_BALANCER_CIDR

    @property
    def overlay_mtu_bytes(self) -> int:
        """The largest IP packet a pod can send through the overlay without fragmenting the outer packet."""
        return self.underlay_mtu_bytes - VXLAN_OVERHEAD_BYTES

    @property
    def pod_mtu_bytes(self) -> int:
        """The pods' MTU in the current mode."""
        return self.overlay_mtu_bytes if self.mode == "overlay" else self.underlay_mtu_bytes


@dataclass(frozen=True)
class NodeNetwork:
    """A Node as the network sees it. ``gateway_*`` belong to the node's interface on its own bridge.

    ``masquerade_ip`` stands for clients whose address must not reach an endpoint. The node's kernel does not own it, so
    that answers to it come back to the bridge in either mode.
    """

    name: str
    node_ip: IPAddress
    pod_cidr: IPNetwork
    gateway_ip: IPAddress
    gateway_mac: str
    vtep_mac: str
    datapath_id: int
    masquerade_ip: IPAddress
    labels: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True)
class PodNetwork:
    """A Pod's attachment: its address, and the bridge port (``interface``, ``of_port``) that leads to it."""

    namespace: str
    name: str
    node_name: str
    pod_ip: IPAddress
    pod_mac: str
    interface: str
    of_port: int

    @property
    def key(self) -> str:
        """``namespace/name``, unique in a cluster."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceEndpoint:
    """One address behind one port of a Service, with its conditions (EndpointSlice ``discovery.k8s.io/v1``).

    ``node_name`` is "" for an address that is on no node.
    """

    endpoint_ip: IPAddress
    target_port: int
    node_name: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@dataclass(frozen=True)
class ServicePort:
    """One port of one Service, as everything that balances its connections needs it.

    ``endpoints`` are all, usable or not, sorted. ``group_number`` is unique among all ports of all Services and stays
    while the port exists. ``affinity_timeout_s`` is None without session affinity. ``node_port`` and
    ``load_balancer_ip`` are None where the Service's type has none.
    """

    namespace: str
    name: str
    port_name: str
    protocol: Protocol
    cluster_ip: IPAddress
    service_port: int
    group_number: int
    endpoints: tuple[ServiceEndpoint, ...] = ()
    node_port: int | None = None
    load_balancer_ip: IPAddress | None = None
    affinity_timeout_s: int | None = None
    internal_local: bool = False
    external_local: bool = False
    health_check_node_port: int | None = None

    @property
    def service_key(self) -> str:
        """``namespace/name`` of the Service."""
        return f"{self.namespace}/{self.name}"

    @property
    def key(self) -> str:
        """``namespace/name:port_name/protocol``, unique in a cluster."""
        return f"{self.namespace}/{self.name}:{self.port_name}/{self.protocol}"

    @cached_property
    def cluster_endpoints(self) -> tuple[ServiceEndpoint, ...]:
        """The endpoints that connections may be given to, wherever they are."""
        return usable_endpoints(self.endpoints)

    def local_endpoints(self, node_name: str) -> tuple[ServiceEndpoint, ...]:
        """Those that connections may be given to under a Local traffic policy on a node."""
        return usable_endpoints(entry for entry in self.endpoints if entry.node_name == node_name)


def usable_endpoints(endpoints: Iterable[ServiceEndpoint]) -> tuple[ServiceEndpoint, ...]:
    """The ready endpoints; if there is none, those that still serve while they terminate (Kubernetes KEP-1669)."""
    known = tuple(endpoints)
    ready = tuple(entry for entry in known if entry.ready)
    return ready or tuple(entry for entry in known if entry.serving and entry.terminating)


@dataclass(frozen=True)
class ClusterState:
    """Everything the plan and the flows depend on.

    Nodes are sorted by name, pods by namespace and name, ports of Services by namespace, name, protocol and number.
    """

    config: NetworkConfig
    nodes: tuple[NodeNetwork, ...]
    pods: tuple[PodNetwork, ...]
    service_ports: tuple[ServicePort, ...] = ()

    @cached_property
    def node_by_name(self) -> Mapping[str, NodeNetwork]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def pod_by_key(self) -> Mapping[str, PodNetwork]:
        return {pod.key: pod for pod in self.pods}

    @cached_property
    def pods_by_node(self) -> Mapping[str, tuple[PodNetwork, ...]]:
        grouped: dict[str, list[PodNetwork]] = {node.name: [] for node in self.nodes}
        for pod in self.pods:
            grouped[pod.node_name].append(pod)
        return {name: tuple(pods) for name, pods in grouped.items()}
