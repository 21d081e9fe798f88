"""What is to be built, as values: a pure function of the checked experiment. The builder decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING

from testbed.cluster import identity
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import MODES, ClusterState, IPAddress, IPNetwork, Mode
from testbed.cluster.view import cluster_state
from topologies.fabric import Fabric
from topologies.routing import fabric_routes, underlay_routes

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment
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
        each = "nexthop " if len(self.next_hops) > 1 else ""
        hops = " ".join(f"{each}via {via} dev {interface}" for via, interface in self.next_hops)
        return f"{self.destination} {hops}{' onlink' if self.onlink else ''}"


Routes = Mapping[str, tuple[PlannedRoute, ...]]


@dataclass(frozen=True)
class Plan:
    """One cluster to build.

    ``objects`` are the Kubernetes objects, complete with every identifier; ``state`` is the network they describe.
    ``idle_ports`` are added to each bridge and lead nowhere (the control for the cost of ports).
    """

    fabric: Fabric
    objects: tuple[JsonObject, ...]
    state: ClusterState
    idle_ports: int = 0

    @property
    def pods(self) -> list[JsonObject]:
        """The Pod objects, hostNetwork ones among them."""
        return [wire for wire in self.objects if wire["kind"] == "Pod"]

    @property
    def uplinks(self) -> Mapping[str, frozenset[str]]:
        """The interfaces by which each node reaches the fabric, of those that have any."""
        ends = self.fabric.ends_by_element
        interfaces = {node.name: frozenset(end.interface for end in ends[node.name]) for node in self.state.nodes}
        return {name: found for name, found in interfaces.items() if found}

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
        for node in self.state.nodes:
            routes[node.name] += [self._into_bridge(destination) for destination in self._bridged(mode)]
        return {element: tuple(found) for element, found in routes.items()}

    def _bridged(self, mode: Mode) -> tuple[IPNetwork, ...]:
        """What a node's kernel leaves to its bridge: the Services, and in the overlay other nodes' pods."""
        config = self.state.config
        services = (config.service_cidr, config.load_balancer_cidr)
        return (config.cluster_cidr, *services) if mode == "overlay" else services

    @staticmethod
    def _into_bridge(destination: IPNetwork) -> PlannedRoute:
        return PlannedRoute(destination, ((_VIRTUAL_NEXT_HOP, identity.GATEWAY_INTERFACE),), onlink=True)

    def pod_mtu_bytes(self, mode: Mode) -> int:
        """The MTU of pods and of the nodes' gateway interfaces in a mode."""
        config = self.state.config
        return config.overlay_mtu_bytes if mode == "overlay" else config.underlay_mtu_bytes


def make_plan(checked: CheckedExperiment, build: Build) -> Plan:
    """The plan of one build; the cluster starts in the experiment's first mode."""
    objects = checked.objects(build, checked.experiment.modes[0])
    return Plan(checked.fabric(build), objects, cluster_state(objects), build.idle_ports)
