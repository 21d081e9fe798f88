"""Nodes, pods and outside hosts with their addresses, as tables: for ``plan`` and ``up``."""

from __future__ import annotations

from testbed.cluster.values import ClusterState
from testbed.views.columns import aligned
from topologies.fabric import Fabric


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


def outside_table(fabric: Fabric) -> str:
    """A line a host outside the cluster; empty when there is none."""
    hosts = fabric.of_kind("ext")
    if not hosts:
        return ""
    return aligned(
        ("OUTSIDE HOST", "LOCATION", "ADDRESS"),
        ((host.name, host.location or "-", fabric.address(host.name).ip) for host in hosts),
    )
