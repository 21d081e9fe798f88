"""The fabric's routes to the addresses of LoadBalancer Services: what a speaker on each node would announce by BGP.

Every node announces the address of a Service with ``externalTrafficPolicy: Cluster``, under ``Local`` only those that
have a usable endpoint; the fabric sends each connection to one of the announcing nodes that are nearest (ECMP).
"""

from __future__ import annotations

import threading
from ipaddress import IPv4Network

from testbed.cluster.values import ClusterState
from testbed.errors import RunError
from testbed.network.netlink import NetlinkError
from testbed.network.plan import PlannedRoute, Routes
from testbed.network.wiring import Wiring
from topologies.fabric import Fabric
from topologies.routing import anycast_routes

Owners = dict[IPv4Network, tuple[str, ...]]


def announcements(state: ClusterState) -> Owners:
    """The nodes that announce each LoadBalancer address, by name. Pure."""
    every_node = tuple(node.name for node in state.nodes)
    found: dict[IPv4Network, set[str]] = {}
    for entry in state.service_ports:
        if entry.load_balancer_ip is not None:
            names = (name for name in every_node if entry.local_endpoints(name)) if entry.external_local else every_node
            found.setdefault(IPv4Network(f"{entry.load_balancer_ip}/32"), set()).update(names)
    return {prefix: tuple(sorted(names)) for prefix, names in sorted(found.items())}


def load_balancer_routes(fabric: Fabric, owners: Owners) -> Routes:
    """The kernel routes of every element but nodes, where the address leads into the own bridge. Pure."""
    nodes = {element.name for element in fabric.of_kind("node")}
    return {
        element: tuple(
            PlannedRoute(route.destination, tuple((hop.via, hop.interface) for hop in route.next_hops if hop.via))
            for route in routes
        )
        for element, routes in anycast_routes(fabric, owners).items()
        if element not in nodes
    }


class LoadBalancerRoutes:
    """Keeps the fabric's routes true to a changing state. Thread-safe."""

    def __init__(self, fabric: Fabric, wiring: Wiring) -> None:
        self._fabric, self._wiring = fabric, wiring
        self._lock = threading.Lock()
        self._owners: Owners = {}
        self._present: Routes = {}

    def update(self, state: ClusterState) -> None:
        """Bring the routes to a state. Raises RunError when a kernel refuses."""
        with self._lock:
            owners = announcements(state)
            if owners == self._owners:
                return
            wanted = load_balancer_routes(self._fabric, owners)
            try:
                self._wiring.apply_fabric_routes(wanted, self._present)
            except NetlinkError as error:
                raise RunError(f"routes to LoadBalancer addresses: {error}") from error
            self._owners, self._present = owners, wanted
