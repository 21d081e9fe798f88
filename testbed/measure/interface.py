"""What measuring needs of a running network: :class:`testbed.network.testbed.Testbed`, or a smaller one in tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState, IPAddress, Mode, ProxyName
from testbed.spec.endpoints import EndpointRef


class Places(Protocol):
    """Where endpoints are and how to run programs there."""

    def address(self, endpoint: EndpointRef) -> IPAddress:
        """The endpoint's address."""

    def namespace(self, endpoint: EndpointRef) -> str:
        """The name of its network namespace."""

    def popen(self, endpoint: EndpointRef, argv: Sequence[str], **popen_kwargs: Any) -> subprocess.Popen[bytes]:
        """Start a program in the endpoint's namespaces; ``popen_kwargs`` as for :class:`subprocess.Popen`."""


class Network(Places, Protocol):
    """A built cluster: its endpoints, how to switch its mode, and its counters."""

    @property
    def datapath(self) -> str: ...

    @property
    def state(self) -> ClusterState: ...

    def set_mode(self, mode: Mode, pod_mtu_bytes: int | None = None) -> None:
        """Switch the pod network; returns when every bridge has confirmed. The pods' MTU is the mode's by default."""

    def set_proxy(self, proxy: ProxyName) -> None:
        """Switch what balances the connections of Services; returns when it is in force on every node."""

    def cool(self, *endpoints: EndpointRef) -> None:
        """Empty the caches that a first packet meets: flow caches of the bridges, neighbour tables."""

    @property
    def store(self) -> Store:
        """The cluster's objects."""

    def apply(self, objects: Iterable[JsonObject]) -> list[JsonObject]:
        """Create or replace objects; returns them as they are stored."""

    def wait_confirmed(self, changed: Iterable[JsonObject]) -> None:
        """Wait until everything that carries packets has confirmed the changed objects."""

    def wait_settled(self) -> None:
        """Wait until pods and endpoints are as the objects want them, and everything that carries packets knows. The
        pods need not be ready."""

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """Send SIGKILL to a container's process. Raises RunError when it has none."""

    @property
    def stopped_nodes(self) -> frozenset[str]:
        """The nodes that are stopped now."""

    def stop_node(self, name: str) -> None:
        """Let a node fail: nothing on it runs or answers any more."""

    def start_node(self, name: str) -> None:
        """Let a stopped node come back; returns when the cluster has found out."""

    @property
    def controller_is_running(self) -> bool:
        """Whether the OpenFlow controller is meant to run now."""

    def stop_controller(self) -> None:
        """End the OpenFlow controller; the bridges keep their flows."""

    def start_controller(self) -> None:
        """Start the OpenFlow controller again; returns when bridges can connect."""

    def uplinks(self) -> list[tuple[str, str, str]]:
        """(element, network namespace, interface) of every fabric interface that carries IP."""

    def flow_counts(self) -> dict[str, int]:
        """Flows installed on each node's bridge."""

    def bridge_counters(self) -> dict[str, dict[str, int]]:
        """Per node: ports, tunnel_tx_packets, tunnel_rx_packets, gateway_tx_packets, lost_upcalls."""

    def describe(self) -> dict[str, Any]:
        """Facts about the network for environment.json."""


def network_end(network: Network, endpoint: EndpointRef) -> EndpointRef:
    """What the network sees of an endpoint: of a hostNetwork pod its node, of any other the endpoint itself."""
    if endpoint.kind != "pod" or f"{endpoint.namespace}/{endpoint.name}" in network.state.pod_by_key:
        return endpoint
    return EndpointRef("node", "", network.namespace(endpoint))
