"""From cluster state to flows: every node's whole flow table, and only what changed recomputed.

A table is made of three parts that depend on less and less: what leads to other nodes (on all nodes and the mode), what
every node has (on the node), and what a pod adds (on the pod).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from controllers.pipeline import arp_responder, classifier, pods, spoof_guard
from controllers.pipeline.flow import Flow, sort_key
from controllers.pipeline.overlay import overlay_flows
from controllers.pipeline.routed import routed_flows
from testbed.cluster.values import ClusterState, NetworkConfig, NodeNetwork, PodNetwork

Flows = tuple[Flow, ...]

_BUILDERS = (classifier, spoof_guard, arp_responder, pods)


def compile_flows(state: ClusterState, node_name: str) -> Flows:
    """The flow table of one node's bridge, sorted. Raises KeyError for a node that is not there."""
    node_part = _node_part(state.config, state.nodes, state.node_by_name[node_name])
    return _table(node_part, map(_pod_part, state.pods_by_node[node_name]))


def compile_all(state: ClusterState) -> dict[str, Flows]:
    """The flow tables of all nodes by node name."""
    return {node.name: compile_flows(state, node.name) for node in state.nodes}


class Compiler:
    """``compile_all`` that remembers.

    A node whose inputs did not change gets the very same tuple back; the flows of a pod that did not change are the
    very same objects.
    """

    def __init__(self) -> None:
        self._cluster: tuple[NetworkConfig, tuple[NodeNetwork, ...]] | None = None
        self._node_parts: dict[str, Flows] = {}
        self._pod_parts: dict[str, tuple[PodNetwork, Flows]] = {}
        self._tables: dict[str, tuple[tuple[PodNetwork, ...], Flows]] = {}

    def compile(self, state: ClusterState) -> Mapping[str, Flows]:
        """The flow tables of all nodes by node name."""
        if self._cluster != (state.config, state.nodes):
            self._cluster = (state.config, state.nodes)
            self._node_parts = {node.name: _node_part(state.config, state.nodes, node) for node in state.nodes}
            self._tables = {}
        for node in state.nodes:
            node_pods = state.pods_by_node[node.name]
            known = self._tables.get(node.name)
            if known is None or known[0] != node_pods:
                table = _table(self._node_parts[node.name], map(self._known_pod_part, node_pods))
                self._tables[node.name] = (node_pods, table)
        self._forget(state)
        return {name: table for name, (_, table) in self._tables.items()}

    def _known_pod_part(self, pod: PodNetwork) -> Flows:
        known = self._pod_parts.get(pod.key)
        if known is None or known[0] != pod:
            known = self._pod_parts[pod.key] = (pod, _pod_part(pod))
        return known[1]

    def _forget(self, state: ClusterState) -> None:
        """Pods that are gone for good; one that went and came back is as cheap as a new one."""
        for key in self._pod_parts.keys() - state.pod_by_key.keys():
            del self._pod_parts[key]


def _table(node_part: Flows, pod_parts: Iterable[Flows]) -> Flows:
    return tuple(sorted(chain(node_part, *pod_parts), key=sort_key))


def _node_part(config: NetworkConfig, nodes: tuple[NodeNetwork, ...], node: NodeNetwork) -> Flows:
    others = [other for other in nodes if other.name != node.name]
    # The one place where the modes differ.
    between_nodes = (
        overlay_flows(node, others, config.cluster_cidr) if config.mode == "overlay" else routed_flows(node, others)
    )
    return tuple(chain(between_nodes, *(builder.node_flows(node) for builder in _BUILDERS)))


def _pod_part(pod: PodNetwork) -> Flows:
    return tuple(chain(*(builder.pod_flows(pod) for builder in _BUILDERS)))
