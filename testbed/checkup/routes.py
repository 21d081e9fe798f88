"""The kernels' routes on which the pod network stands: into the bridges, and in routed mode to every node's pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

from testbed.checkup.findings import Finding, exec_command
from testbed.checkup.running import RunningCluster, json_output
from testbed.cluster.identity import GATEWAY_INTERFACE, VIRTUAL_NEXT_HOP
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import ClusterState, IPAddress
from testbed.trace.places import Places

_SHOW = ["ip", "-j", "route", "show"]


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each route that a node or a router of the fabric lacks, but for those with a link that is down."""
    fabric = Places(cluster.state, cluster.kernel).fabric
    routers = [
        name
        for name in fabric
        if cluster.kernel.forwards(name)
        and not any(one.kind == "bridge" for one in cluster.kernel.interfaces(name).values())
    ]
    tables = {
        name: json_output(name, _SHOW)
        for name in (*(node.name for node in cluster.state.nodes), *routers)
        # Where a link is down, its routes have gone with it, and come back with it.
        if all(one.up for one in cluster.kernel.interfaces(name).values() if one.kind == "veth")
    }
    return judge(cluster.state, tables, cluster.name)


def judge(state: ClusterState, tables: Mapping[str, Sequence[JsonObject]], cluster: str) -> list[Finding]:
    """What is missing in the main tables of the nodes and routers, by name, as ``ip -j route`` shows them."""
    found = []
    count = 0
    for name, table in tables.items():
        known = {str(route["dst"]): route for route in table}
        for destination, into_bridge in _needed(state, name).items():
            count += 1
            route = known.get(destination)
            if route is None:
                evidence = f"{name}: ip route show {destination} is empty"
            elif into_bridge and (route.get("dev"), route.get("gateway")) != (GATEWAY_INTERFACE, VIRTUAL_NEXT_HOP):
                evidence = f"{name}: {destination} via {route.get('gateway')} dev {route.get('dev')}"
            elif route.get("type", "unicast") != "unicast":
                evidence = f"{name}: {route['type']} {destination}"
            else:
                continue
            what = f"{name} does not route {destination}" + (
                f" ({_owner(state, destination)})" if not into_bridge else ""
            )
            found.append(Finding("routes", "fault", what, evidence, _remedy(state, name, table, destination, cluster)))
    return found or [Finding("routes", "ok", f"routes that are there: {count}; nodes and routers: {len(tables)}")]


def _needed(state: ClusterState, name: str) -> dict[str, bool]:
    """The destinations that an element must have a route for; True: by the node's own bridge."""
    config = state.config
    needed = {}
    if name in state.node_by_name:
        needed = {str(config.service_cidr): True, str(config.load_balancer_cidr): True}
        if config.mode == "overlay":
            needed[str(config.cluster_cidr)] = True
    if config.mode == "routed":
        needed.update((str(node.pod_cidr), False) for node in state.nodes if node.name != name)
    return needed


def _owner(state: ClusterState, destination: str) -> str:
    return next(f"the pods of {node.name}" for node in state.nodes if str(node.pod_cidr) == destination)


def _remedy(state: ClusterState, name: str, table: Iterable[JsonObject], destination: str, cluster: str) -> str:
    owner = next((node for node in state.nodes if str(node.pod_cidr) == destination), None)
    argv = ["ip", "route", "replace", destination]
    if owner is None:
        argv += ["via", VIRTUAL_NEXT_HOP, "dev", GATEWAY_INTERFACE, "onlink"]
    else:
        argv += _way_to(owner.node_ip, table)
    return (
        exec_command(cluster, f"node/{name}", *argv) if name in state.node_by_name else f"in {name}: {' '.join(argv)}"
    )


def _way_to(address: IPAddress, table: Iterable[JsonObject]) -> list[str]:
    """The next hop by which an address is reached: pods are where their node is."""
    ways = {ip_network(str(route["dst"]).replace("default", "0.0.0.0/0")): route for route in table if "dst" in route}
    fitting = [prefix for prefix in ways if address in prefix]
    if not fitting:
        return ["via", str(address)]
    route = ways[max(fitting, key=lambda prefix: prefix.prefixlen)]
    hop = (route.get("nexthops") or [route])[0]
    return ["via", str(hop.get("gateway", address)), "dev", str(hop.get("dev"))]
