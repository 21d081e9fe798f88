"""A plan for people (text) and for programs (data): addresses, routes and flow tables of every mode."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from controllers.pipeline.compile import compile_all
from controllers.pipeline.flow import Flow, Group
from controllers.pipeline.text import Names, actions_text, bridge_names, flows_text, groups_text, match_words
from testbed.cluster import identity
from testbed.cluster.endpoint_slices import MANAGED_BY
from testbed.cluster.objects import object_name, object_namespace
from testbed.cluster.services import MANAGED_BY_LABEL, is_headless
from testbed.cluster.values import ClusterState, Mode, ProxyName, ServicePort
from testbed.cluster.view import cluster_state
from testbed.network.plan import Plan
from testbed.views.cluster import nodes_table, outside_table, pods_table, services_table
from testbed.views.columns import aligned
from testbed.views.kernel_rules import kernel_rules
from topologies.fabric import FabricLink, LinkEnd

FORMAT = "testbed-plan/v1"


def plan_as_text(plan: Plan, modes: tuple[Mode, ...], proxies: tuple[ProxyName, ...]) -> str:
    """One build's plan: tables first, then per mode the routes of every element, and the flows and groups of every node
    for each proxy, and then the rules of the kernels' proxies, which are the same in all modes. All is as it will be
    when every pod is ready."""
    ready = all_ready(plan)
    parts = [
        nodes_table(ready, plan.fabric),
        outside_table(plan.fabric),
        pods_table(ready),
        services_table(ready),
        _without_address(plan),
        _links_table(plan),
    ]
    for mode in modes:
        parts.append(f"== mode {mode}: pod MTU {plan.pod_mtu_bytes(mode)} bytes\n")
        parts.append(_routes_table(plan, mode))
        for words, proxy in flow_proxies(proxies).items():
            state = with_settings(ready, mode, proxy)
            for name, program in compile_all(state).items():
                names = bridge_names(state, name)
                parts.append(f"-- flows of {name}{words}\n{flows_text(program.flows(), names)}")
                groups = program.groups()
                if groups:
                    parts.append(f"-- groups of {name}{words}\n{groups_text(groups, names)}")
    for proxy in proxies:
        if proxy != "openflow":
            rules = kernel_rules(ready, proxy)
            parts += [f"-- rules of {proxy} on {name}\n{text}" for name, text in rules.items()]
    return "\n".join(part for part in parts if part)


def _without_address(plan: Plan) -> str:
    """The Services that are names only; empty when there is none."""
    found = []
    for service in plan.objects:
        if service["kind"] == "Service" and (is_headless(service) or service["spec"]["type"] == "ExternalName"):
            what = "headless" if is_headless(service) else f"ExternalName {service['spec']['externalName']}"
            found.append((object_namespace(service), object_name(service), what))
    return aligned(("NAMESPACE", "SERVICE", "WITHOUT ADDRESS"), found) if found else ""


def flow_proxies(proxies: tuple[ProxyName, ...]) -> dict[str, ProxyName]:
    """The proxies whose flows differ: openflow, and any of the kernels', each with words for a heading.

    The words are empty where there is only one.
    """
    kernel = [proxy for proxy in proxies if proxy != "openflow"]
    found: dict[str, ProxyName] = {}
    if "openflow" in proxies:
        found[" with the proxy openflow" if kernel else ""] = "openflow"
    if kernel:
        found[f" with the proxy {' or '.join(kernel)}" if len(proxies) > 1 else ""] = kernel[0]
    return found


def plan_as_data(plan: Plan, modes: tuple[Mode, ...], proxies: tuple[ProxyName, ...]) -> dict[str, Any]:
    """The same as plain values that JSON can hold."""
    ready = all_ready(plan)
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
        "services": [_service_data(entry) for entry in plan.state.service_ports],
        "idle_ports": plan.idle_ports,
        "modes": {mode: _mode_data(plan, ready, mode, proxies) for mode in modes},
        "kernel_rules": {proxy: kernel_rules(ready, proxy) for proxy in proxies if proxy != "openflow"},
    }


def all_ready(plan: Plan) -> ClusterState:
    """The cluster when every pod is ready: before anything runs, no endpoint is but those that people wrote."""
    return cluster_state(
        {**wire, "endpoints": [{**entry, "conditions": {"ready": True}} for entry in wire["endpoints"]]}
        if wire["kind"] == "EndpointSlice"
        and (wire["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY
        else wire
        for wire in plan.objects
    )


def with_settings(state: ClusterState, mode: Mode, proxy: ProxyName) -> ClusterState:
    """The same cluster in another mode and with another proxy."""
    return replace(state, config=replace(state.config, mode=mode, proxy=proxy))


def _mode_data(plan: Plan, ready: ClusterState, mode: Mode, proxies: tuple[ProxyName, ...]) -> dict[str, Any]:
    """``flows`` and ``groups`` are those of the first proxy; ``by_proxy`` those of every one whose flows differ."""
    by_proxy = {}
    for proxy in flow_proxies(proxies).values():
        state = with_settings(ready, mode, proxy)
        programs = {name: (program, bridge_names(state, name)) for name, program in compile_all(state).items()}
        by_proxy[proxy] = {
            "flows": {
                name: [_flow_data(flow, names) for flow in program.flows()]
                for name, (program, names) in programs.items()
            },
            "groups": {
                name: [_group_data(group, names) for group in program.groups()]
                for name, (program, names) in programs.items()
            },
        }
    first = proxies[0] if proxies[0] in by_proxy else next(proxy for proxy in by_proxy if proxy != "openflow")
    return {
        "pod_mtu_bytes": plan.pod_mtu_bytes(mode),
        "routes": {element: [str(route) for route in routes] for element, routes in plan.routes(mode).items()},
        **by_proxy[first],
        "by_proxy": by_proxy,
    }


def _service_data(entry: ServicePort) -> dict[str, Any]:
    return {
        "namespace": entry.namespace,
        "name": entry.name,
        "port_name": entry.port_name,
        "protocol": entry.protocol,
        "service_port": entry.service_port,
        "cluster_ip": str(entry.cluster_ip),
        "node_port": entry.node_port,
        "load_balancer_ip": None if entry.load_balancer_ip is None else str(entry.load_balancer_ip),
        "group_id": identity.group_id(entry.group_number, local=False),
        "endpoints": [
            {"ip": str(endpoint.endpoint_ip), "target_port": endpoint.target_port, "node": endpoint.node_name}
            for endpoint in entry.endpoints
        ],
    }


def _group_data(group: Group, names: Names) -> dict[str, Any]:
    return {
        "group_id": group.group_id,
        "buckets": [
            {"weight": bucket.weight, "actions": actions_text(bucket.actions, names)} for bucket in group.buckets
        ],
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
