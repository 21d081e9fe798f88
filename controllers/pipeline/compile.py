"""From cluster state to flows: every node's whole flow table, and only what changed recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from controllers.pipeline.arp_responder import arp_responder_flows
from controllers.pipeline.classifier import classifier_flows
from controllers.pipeline.flow import Flow, sort_key
from controllers.pipeline.overlay import overlay_flows
from controllers.pipeline.pods import local_flows
from controllers.pipeline.routed import routed_flows
from controllers.pipeline.spoof_guard import spoof_guard_flows
from testbed.cluster.values import ClusterState, NetworkConfig, NodeNetwork, PodNetwork

Flows = tuple[Flow, ...]


def compile_flows(state: ClusterState, node_name: str) -> Flows:
    """The flow table of one node's bridge, sorted. Raises KeyError for a node that is not there."""
    return _compile_node(state.config, state.nodes, state.node_by_name[node_name], state.pods_by_node[node_name])


def compile_all(state: ClusterState) -> dict[str, Flows]:
    """The flow tables of all nodes by node name."""
    return {node.name: compile_flows(state, node.name) for node in state.nodes}


class Compiler:
    """``compile_all`` that remembers: a node whose inputs did not change gets the very same tuple back."""

    def __init__(self) -> None:
        self._cluster: tuple[NetworkConfig, tuple[NodeNetwork, ...]] | None = None
        self._compiled: dict[str, tuple[tuple[PodNetwork, ...], Flows]] = {}

    def compile(self, state: ClusterState) -> Mapping[str, Flows]:
        """The flow tables of all nodes by node name."""
        if self._cluster != (state.config, state.nodes):
            self._cluster = (state.config, state.nodes)
            self._compiled = {}
        for node in state.nodes:
            pods = state.pods_by_node[node.name]
            known = self._compiled.get(node.name)
            if known is None or known[0] != pods:
                self._compiled[node.name] = (pods, compile_flows(state, node.name))
        return {name: flows for name, (_, flows) in self._compiled.items()}


def _compile_node(
    config: NetworkConfig, nodes: tuple[NodeNetwork, ...], node: NodeNetwork, pods: tuple[PodNetwork, ...]
) -> Flows:
    others = [other for other in nodes if other.name != node.name]
    # The one place where the modes differ.
    between_nodes = (
        overlay_flows(node, others, config.cluster_cidr) if config.mode == "overlay" else routed_flows(node, others)
    )
    return tuple(
        sorted(
            chain(
                classifier_flows(node, pods),
                spoof_guard_flows(node, pods),
                arp_responder_flows(node, pods),
                local_flows(node, pods),
                between_nodes,
            ),
            key=sort_key,
        )
    )
