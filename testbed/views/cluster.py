"""Nodes, pods and outside hosts with their addresses, as tables: for ``plan`` and ``up``."""

from __future__ import annotations

from testbed.cluster import identity
from testbed.cluster.values import ClusterState, ServicePort
from testbed.views.columns import aligned
from topologies.fabric import Fabric

_SHOWN_ENDPOINTS = 4


def network_line(state: ClusterState) -> str:
    """Which pod network and which Service proxy the cluster has, in one line."""
    config = state.config
    return f"mode {config.mode} (pod MTU {config.pod_mtu_bytes} bytes), proxy {config.proxy}\n"


def nodes_table(state: ClusterState, fabric: Fabric) -> str:
    """A line a node: where it stands, its address, its pod CIDR and the identifiers of its bridge."""
    return aligned(
        ("NODE", "LOCATION", "NODE-IP", "POD-CIDR", "GATEWAY-IP", "GATEWAY-MAC", "VTEP-IP", "VTEP-MAC"),
        (
            (
                node.name,
                fabric.element_by_name[node.name].location or "-",
                node.node_ip,
                node.pod_cidr,
                node.gateway_ip,
                node.gateway_mac,
                node.node_ip,
                node.vtep_mac,
            )
            for node in state.nodes
        ),
    )


def pods_table(state: ClusterState) -> str:
    """A line a pod: its node, its address, and the bridge port that leads to it."""
    if not state.pods:
        return "no pods\n"
    return aligned(
        ("NAMESPACE", "POD", "NODE", "POD-IP", "POD-MAC", "INTERFACE", "OF-PORT"),
        (
            (pod.namespace, pod.name, pod.node_name, pod.pod_ip, pod.pod_mac, pod.interface, pod.of_port)
            for pod in state.pods
        ),
    )


def services_table(state: ClusterState, most: int | None = None) -> str:
    """A line a port of a Service: where it is asked, its group, and its endpoints. Empty when there is none.

    ``most`` ports are listed, and of each the first endpoints.
    """
    if not state.service_ports:
        return ""
    table = aligned(
        ("NAMESPACE", "SERVICE", "PORT", "CLUSTER-IP", "NODE-PORT", "BALANCER-IP", "GROUP", "ENDPOINTS"),
        (
            (
                entry.namespace,
                entry.name,
                f"{entry.service_port}/{entry.protocol}" + (f" {entry.port_name}" if entry.port_name else ""),
                entry.cluster_ip,
                entry.node_port or "-",
                entry.load_balancer_ip or "-",
                identity.group_id(entry.group_number, local=False),
                _endpoints_text(entry),
            )
            for entry in state.service_ports[:most]
        ),
    )
    left = len(state.service_ports) - (most or len(state.service_ports))
    return table + (f"... and {left} more\n" if left > 0 else "")


def _endpoints_text(entry: ServicePort) -> str:
    shown = [f"{endpoint.endpoint_ip}:{endpoint.target_port}" for endpoint in entry.endpoints[:_SHOWN_ENDPOINTS]]
    left = len(entry.endpoints) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "") if shown else "none"


def outside_table(fabric: Fabric) -> str:
    """A line a host outside the cluster; empty when there is none."""
    hosts = fabric.of_kind("ext")
    if not hosts:
        return ""
    return aligned(
        ("OUTSIDE HOST", "LOCATION", "ADDRESS"),
        ((host.name, host.location or "-", fabric.address(host.name).ip) for host in hosts),
    )
