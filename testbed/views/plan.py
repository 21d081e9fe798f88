"""A plan for people (text) and for programs (data): addresses, routes and flow tables of every mode."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from controllers.pipeline.compile import compile_flows
from controllers.pipeline.flow import Flow
from controllers.pipeline.text import Names, actions_text, bridge_names, match_words, plan_text
from testbed.cluster.values import ClusterState, Mode
from testbed.network.plan import Plan
from testbed.views.cluster import nodes_table, outside_table, pods_table
from testbed.views.columns import aligned
from topologies.fabric import FabricLink, LinkEnd

FORMAT = "testbed-plan/v1"


def plan_as_text(plan: Plan, modes: tuple[Mode, ...]) -> str:
    """One build's plan: tables first, then per mode the routes of every element and the flows of every node."""
    parts = [
        nodes_table(plan.state, plan.fabric),
        outside_table(plan.fabric),
        pods_table(plan.state),
        _links_table(plan),
    ]
    for mode in modes:
        state = in_mode(plan.state, mode)
        parts.append(f"== mode {mode}: pod MTU {plan.pod_mtu_bytes(mode)} bytes\n")
        parts.append(_routes_table(plan, mode))
        parts += [f"-- flows of {node.name}\n{plan_text(state, node.name)}" for node in state.nodes]
    return "\n".join(part for part in parts if part)


def plan_as_data(plan: Plan, modes: tuple[Mode, ...]) -> dict[str, Any]:
    """The same as plain values that JSON can hold."""
    return {
        "nodes": [
            {
                "name": node.name,
                "location": plan.fabric.element_by_name[node.name].location,
                "node_ip": str(node.node_ip),
                "pod_cidr": str(node.pod_cidr),
                "gateway_ip": str(node.gateway_ip),
                "gateway_mac": node.gateway_mac,
                "vtep_ip": str(node.node_ip),
                "vtep_mac": node.vtep_mac,
                "datapath_id": node.datapath_id,
            }
            for node in plan.state.nodes
        ],
        "outside_hosts": [
            {"name": host.name, "location": host.location, "address": str(plan.fabric.address(host.name).ip)}
            for host in plan.fabric.of_kind("ext")
        ],
        "pods": [{**asdict(pod), "pod_ip": str(pod.pod_ip)} for pod in plan.state.pods],
        "links": [
            {"a": _end_data(link.a), "b": _end_data(link.b), "role": link.role, "shaping": asdict(link.shaping)}
            for link in plan.fabric.links
        ],
        "idle_ports": plan.idle_ports,
        "modes": {mode: _mode_data(plan, mode) for mode in modes},
    }


def in_mode(state: ClusterState, mode: Mode) -> ClusterState:
    """The same cluster in another mode."""
    return replace(state, config=replace(state.config, mode=mode))


def _mode_data(plan: Plan, mode: Mode) -> dict[str, Any]:
    state = in_mode(plan.state, mode)
    return {
        "pod_mtu_bytes": plan.pod_mtu_bytes(mode),
        "routes": {element: [str(route) for route in routes] for element, routes in plan.routes(mode).items()},
        "flows": {
            node.name: [_flow_data(flow, bridge_names(state, node.name)) for flow in compile_flows(state, node.name)]
            for node in state.nodes
        },
    }


def _flow_data(flow: Flow, names: Names) -> dict[str, Any]:
    return {
        "table": flow.table.name,
        "priority": flow.priority,
        "match": match_words(flow.match, names),
        "actions": actions_text(flow.actions, names),
        "cookie": f"{flow.cookie:#x}",
    }


def _end_data(end: LinkEnd) -> dict[str, Any]:
    return {
        "element": end.element,
        "interface": end.interface,
        "address": None if end.address is None else str(end.address),
    }


def _links_table(plan: Plan) -> str:
    def end(end: LinkEnd) -> str:
        return f"{end.interface} {end.address}" if end.address is not None else end.interface

    return aligned(
        ("LINK", "", "ROLE", "SHAPING"),
        ((end(link.a), end(link.b), link.role, _shaping_text(link)) for link in plan.fabric.links),
    )


def _shaping_text(link: FabricLink) -> str:
    given = {name: value for name, value in asdict(link.shaping).items() if value is not None}
    return " ".join(f"{name}={value:g}" for name, value in given.items()) or "-"


def _routes_table(plan: Plan, mode: Mode) -> str:
    rows = [(element, str(route)) for element, routes in plan.routes(mode).items() for route in routes]
    return aligned(("ELEMENT", "ROUTE"), rows) if rows else "no routes but the connected ones\n"
