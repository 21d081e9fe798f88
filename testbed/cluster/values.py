"""The cluster network as plain values: what the plan and the flows are computed from.

They are read out of Kubernetes objects (see :mod:`testbed.cluster.view`), never the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
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

_DEFAULT_CLUSTER_CIDR = IPv4Network("10.244.0.0/16")
_DEFAULT_SERVICE_CIDR = IPv4Network("10.96.0.0/12")


@dataclass(frozen=True)
class NetworkConfig:
    """Cluster-wide settings of the pod network, kept in the ConfigMap ``kube-system/cluster-network``."""

    mode: Mode = "overlay"
    cluster_cidr: IPNetwork = _DEFAULT_CLUSTER_CIDR
    service_cidr: IPNetwork = _DEFAULT_SERVICE_CIDR
    vni: int = 1
    underlay_mtu_bytes: int = 1500

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
    """A Node as the network sees it. ``gateway_*`` belong to the node's interface on its own bridge."""

    name: str
    node_ip: IPAddress
    pod_cidr: IPNetwork
    gateway_ip: IPAddress
    gateway_mac: str
    vtep_mac: str
    datapath_id: int
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


@dataclass(frozen=True)
class ClusterState:
    """Everything the plan and the flows depend on. Nodes are sorted by name, pods by namespace and name."""

    config: NetworkConfig
    nodes: tuple[NodeNetwork, ...]
    pods: tuple[PodNetwork, ...]

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
