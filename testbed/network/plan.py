"""What is to be built, as values: a pure function of the checked experiment. The builder decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING

from testbed.cluster import identity
from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import MODES, ClusterState, IPAddress, IPNetwork, Mode, NetworkConfig
from testbed.cluster.view import cluster_state
from topologies import TOPOLOGIES
from topologies.fabric import Fabric
from topologies.routing import fabric_routes, underlay_routes

if TYPE_CHECKING:
    from testbed.spec.load import CheckedExperiment
    from testbed.spec.models import Build

_VIRTUAL_NEXT_HOP = ip_address(identity.VIRTUAL_NEXT_HOP)


@dataclass(frozen=True)
class PlannedRoute:
    """A kernel route. ``next_hops`` are (gateway, interface); more than one is ECMP. ``onlink``: the gateway need not
    be in an interface's subnet."""

    destination: IPNetwork
    next_hops: tuple[tuple[IPAddress, str], ...]
    onlink: bool = False

    def __str__(self) -> str:
        hops = " ".join(
            f"{'nexthop ' if len(self.next_hops) > 1 else ''}via {via} dev {interface}"
            for via, interface in self.next_hops
        )
        return f"{self.destination} {hops}{' onlink' if self.onlink else ''}"


Routes = Mapping[str, tuple[PlannedRoute, ...]]


@dataclass(frozen=True)
class Plan:
    """One cluster to build.

    ``objects`` are the Kubernetes objects, complete with every identifier; ``state`` is what they say about the network.
    ``idle_ports`` are added to each bridge and lead nowhere (the control for the cost of ports).
    """

    fabric: Fabric
    objects: tuple[JsonObject, ...]
    state: ClusterState
    idle_ports: int = 0

    def routes(self, mode: Mode) -> Routes:
        """Every element's kernel routes in a mode (connected routes, which the kernel makes itself, left out)."""
        return self._routes_by_mode[mode]

    @cached_property
    def _routes_by_mode(self) -> Mapping[Mode, Routes]:
        return {mode: self._compute_routes(mode) for mode in MODES}

    def _compute_routes(self, mode: Mode) -> Routes:
        routes: dict[str, list[PlannedRoute]] = {
            element.name: [] for element in self.fabric.elements if element.kind != "bridge"
        }
        tables = [underlay_routes(self.fabric)]
        if mode == "routed":
            owners = {IPv4Network(node.pod_cidr): node.name for node in self.state.nodes}
            tables.append(fabric_routes(self.fabric, owners))
        for table in tables:
            for element, found in table.items():
                for route in found:
                    hops = tuple((hop.via, hop.interface) for hop in route.next_hops if hop.via is not None)
                    # A route without a gateway is connected: the kernel has it from the interface's address.
                    if hops:
                        routes[element].append(PlannedRoute(route.destination, hops))
        if mode == "overlay":
            into_bridge = PlannedRoute(
                self.state.config.cluster_cidr, ((_VIRTUAL_NEXT_HOP, identity.GATEWAY_INTERFACE),), onlink=True
            )
            for node in self.state.nodes:
                routes[node.name].append(into_bridge)
        return {element: tuple(found) for element, found in routes.items()}

    def pod_mtu_bytes(self, mode: Mode) -> int:
        """The MTU of pods and of the nodes' gateway interfaces in a mode."""
        config = self.state.config
        return config.overlay_mtu_bytes if mode == "overlay" else config.underlay_mtu_bytes


def make_fabric(checked: CheckedExperiment, build: Build) -> Fabric:
    """The physical network of one build: the topology's parameters with the build's own on top."""
    topology = checked.experiment.topology
    parameters = {**topology.parameters, **build.parameters}
    return TOPOLOGIES[topology.name](**parameters, shaping=checked.shaping).fabric


def network_config(checked: CheckedExperiment) -> NetworkConfig:
    """The cluster-wide settings; the cluster starts in the experiment's first mode."""
    network = checked.experiment.network
    return NetworkConfig(
        mode=checked.experiment.modes[0],
        cluster_cidr=ip_network(network.clusterCIDR),
        service_cidr=ip_network(network.serviceCIDR),
        vni=network.vni,
        underlay_mtu_bytes=network.mtu_bytes,
    )


def edge_nodes(fabric: Fabric) -> list[EdgeNode]:
    """The fabric's nodes as the cluster needs to know them."""
    return [
        EdgeNode(name=element.name, node_ip=IPv4Address(fabric.address(element.name).ip), location=element.location)
        for element in fabric.of_kind("node")
    ]


def make_plan(checked: CheckedExperiment, build: Build) -> Plan:
    """The plan of one build. Raises what :func:`testbed.cluster.assign.assign` raises."""
    fabric = make_fabric(checked, build)
    objects = assign(
        edge_nodes(fabric),
        network_config(checked),
        checked.experiment.network.nodeCIDRMaskSize,
        [manifest.object for manifest in checked.manifests],
    )
    return Plan(fabric, tuple(objects), cluster_state(objects), build.idle_ports)
