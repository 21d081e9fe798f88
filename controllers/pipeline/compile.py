"""From cluster state to programs: every bridge's flows and groups, and only what changed recomputed.

A program's parts depend on less and less: what leads to other nodes (on all nodes and the settings), what every node
has (on the node), what a pod adds (on the pod), what a Service's port adds on every node (on the port), and on a node
of its own under a Local traffic policy (on the port's endpoints there).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from controllers.pipeline import arp_responder, classifier, conntrack, kernel_proxy, pods, services, snat, spoof_guard
from controllers.pipeline.flow import Flow, Group
from controllers.pipeline.groups import endpoints_problem
from controllers.pipeline.overlay import overlay_flows
from controllers.pipeline.program import NO_PARTS, Part, PartKey, Parts, Program
from controllers.pipeline.routed import routed_flows
from testbed.cluster.values import (
    ClusterState,
    NetworkConfig,
    NodeNetwork,
    PodNetwork,
    ServiceEndpoint,
    ServicePort,
    usable_endpoints,
)

Flows = tuple[Flow, ...]
Groups = tuple[Group, ...]

_BUILDERS = (classifier, spoof_guard, arp_responder, pods)


def compile_program(state: ClusterState, node_name: str) -> Program:
    """What one node's bridge is to hold. Raises KeyError for a node that is not there."""
    if node_name not in state.node_by_name:
        raise KeyError(node_name)
    return Compiler().compile(state)[node_name]


def compile_flows(state: ClusterState, node_name: str) -> Flows:
    """The flow table of one node's bridge, sorted. Raises KeyError for a node that is not there."""
    return compile_program(state, node_name).flows()


def compile_groups(state: ClusterState, node_name: str) -> Groups:
    """The groups of one node's bridge, sorted. Raises KeyError for a node that is not there."""
    return compile_program(state, node_name).groups()


def compile_all(state: ClusterState) -> dict[str, Program]:
    """The programs of all nodes by node name."""
    return dict(Compiler().compile(state))


class Compiler:
    """From each state to the programs, remembering the last: what did not change is the very same object.

    A change of one Service costs as much as the Service has endpoints, and a look at every other.
    """

    def __init__(self) -> None:
        self._cluster: tuple[NetworkConfig, tuple[NodeNetwork, ...]] | None = None
        self._node_parts: dict[str, Part] = {}
        self._pod_parts: dict[str, tuple[PodNetwork, Part]] = {}
        self._services = _Services()
        self._programs: dict[str, tuple[tuple[PodNetwork, ...], Mapping[PartKey, Part], Program]] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be programmed: the Service, the field and why. Its connections are refused."""
        return tuple(self._services.problems.values())

    def compile(self, state: ClusterState) -> Mapping[str, Program]:
        """The programs of all nodes by node name."""
        if self._cluster != (state.config, state.nodes):
            self._cluster = (state.config, state.nodes)
            self._node_parts = {node.name: _node_part(state.config, state.nodes, node) for node in state.nodes}
            self._pod_parts = {}
            self._services = _Services(state.config, [node.name for node in state.nodes])
            self._programs = {}
        self._services.update(state.service_ports)
        common = self._services.common
        for node in state.nodes:
            node_pods, local = state.pods_by_node[node.name], self._services.local[node.name]
            known = self._programs.get(node.name)
            if known is None or known[1] is not local or known[0] != node_pods:
                own = Parts(dict(self._own_parts(node, node_pods, local)))
                self._programs[node.name] = (node_pods, local, Program(common, own))
            elif known[2].common is not common:
                self._programs[node.name] = (node_pods, local, Program(common, known[2].own))
        for key in self._pod_parts.keys() - state.pod_by_key.keys():
            del self._pod_parts[key]
        return {name: program for name, (_, _, program) in self._programs.items()}

    def _own_parts(
        self, node: NodeNetwork, node_pods: Iterable[PodNetwork], local: Mapping[PartKey, Part]
    ) -> Iterator[tuple[PartKey, Part]]:
        yield ("node",), self._node_parts[node.name]
        for pod in node_pods:
            known = self._pod_parts.get(pod.key)
            if known is None or known[0] != pod:
                known = self._pod_parts[pod.key] = (pod, _pod_part(node, pod, self._services.by_openflow))
            yield ("pod", pod.key), known[1]
        yield from local.items()


class _Services:
    """The parts of Services, kept up to date by comparing the ports of one state with those of the next."""

    def __init__(self, config: NetworkConfig | None = None, node_names: Iterable[str] = ()) -> None:
        self.by_openflow = config is not None and config.proxy == "openflow"
        self.common = NO_PARTS
        self.local: dict[str, dict[PartKey, Part]] = {name: {} for name in node_names}
        self.problems: dict[int, str] = {}
        self._ports: dict[int, ServicePort] = {}
        self._seen: tuple[ServicePort, ...] = ()
        # How many ports have an endpoint, or a cluster IP: its part is there while any has it.
        self._uses: Counter[PartKey] = Counter()

    def update(self, ports: tuple[ServicePort, ...]) -> None:
        """Take in the Services' ports as they are now."""
        if ports is self._seen:
            return
        self._seen = ports
        old = self._ports
        self._ports = {port.group_number: port for port in ports}
        removed = [port for number, port in old.items() if number not in self._ports]
        changed = [port for number, port in self._ports.items() if _differs(old.get(number), port)]
        if not (removed or changed):
            return
        parts = dict(self.common.by_key)
        for port in removed:
            del parts["service", port.group_number]
            self.problems.pop(port.group_number, None)
            self._set_local(port, {})
        for port in changed:
            self._compile(parts, port)
        for port in changed:
            self._use(parts, port)
        before = [*removed, *(old[port.group_number] for port in changed if port.group_number in old)]
        for port in before:
            self._unuse(parts, port)
        self.common = self.common.successor(parts, chain.from_iterable(map(_keys, (*before, *changed))))

    def _compile(self, parts: dict[PartKey, Part], port: ServicePort) -> None:
        self.problems.pop(port.group_number, None)
        if not self.by_openflow:
            parts["service", port.group_number] = Part()
            return
        problem = endpoints_problem(port)
        if problem is not None:
            self.problems[port.group_number] = problem
            parts["service", port.group_number] = services.refusing_part(port)
            self._set_local(port, {})
            return
        parts["service", port.group_number] = services.common_part(port)
        endpoints: dict[str, tuple[ServiceEndpoint, ...]] = {}
        if services.has_local_group(port):
            by_node: dict[str, list[ServiceEndpoint]] = {name: [] for name in self.local}
            for endpoint in port.endpoints:
                if endpoint.node_name in by_node:
                    by_node[endpoint.node_name].append(endpoint)
            endpoints = {name: usable_endpoints(found) for name, found in by_node.items()}
        self._set_local(port, endpoints)

    def _set_local(self, port: ServicePort, endpoints: Mapping[str, tuple[ServiceEndpoint, ...]]) -> None:
        """Give each node its group of a port, or take it away; a node's parts stay the same object if nothing did."""
        key: PartKey = ("local", port.group_number)
        for name, parts in self.local.items():
            known = parts.get(key)
            wanted = services.local_part(port, endpoints[name]) if name in endpoints else None
            if known is None and wanted is None:
                continue
            if known and wanted and known.groups == wanted.groups and known.flows == wanted.flows:
                continue
            others = {other: part for other, part in parts.items() if other != key}
            self.local[name] = others if wanted is None else {**others, key: wanted}

    def _use(self, parts: dict[PartKey, Part], port: ServicePort) -> None:
        """Have the parts that a port shares with others: of its endpoints and its cluster IP."""
        for endpoint in port.endpoints:
            key = _endpoint_key(port, endpoint)
            self._uses[key] += 1
            if key not in parts:
                action = conntrack.LOOK_UP if self.by_openflow else kernel_proxy.LOOK_UP
                address, number = endpoint.endpoint_ip, endpoint.target_port
                parts[key] = Part((conntrack.endpoint_flow(port.protocol, address, number, action),))
        if self.by_openflow:
            key = _address_key(port)
            self._uses[key] += 1
            if key not in parts:
                parts[key] = services.other_ports_part(port.cluster_ip)

    def _unuse(self, parts: dict[PartKey, Part], port: ServicePort) -> None:
        """Give them up; the last one removes them."""
        keys = [_endpoint_key(port, endpoint) for endpoint in port.endpoints]
        for key in (*keys, _address_key(port)) if self.by_openflow else keys:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key], parts[key]


def _keys(port: ServicePort) -> Iterator[PartKey]:
    """Everything a port may have a part for on every node."""
    yield "service", port.group_number
    yield _address_key(port)
    for endpoint in port.endpoints:
        yield _endpoint_key(port, endpoint)


def _endpoint_key(port: ServicePort, endpoint: ServiceEndpoint) -> PartKey:
    return "endpoint", port.protocol, int(endpoint.endpoint_ip), endpoint.target_port


def _address_key(port: ServicePort) -> PartKey:
    return "address", int(port.cluster_ip)


def _differs(old: ServicePort | None, new: ServicePort) -> bool:
    return old is not new and old != new


def _node_part(config: NetworkConfig, nodes: tuple[NodeNetwork, ...], node: NodeNetwork) -> Part:
    others = [other for other in nodes if other.name != node.name]
    # The one place where the modes differ.
    between_nodes = (
        overlay_flows(node, others, config.cluster_cidr) if config.mode == "overlay" else routed_flows(node, others)
    )
    if config.proxy == "openflow":
        services_flows = chain(snat.node_flows(node), conntrack.node_flows(config, node), services.node_flows(node))
    else:
        services_flows = chain(kernel_proxy.node_flows(node))
    return Part(tuple(chain(between_nodes, services_flows, *(builder.node_flows(node) for builder in _BUILDERS))))


def _pod_part(node: NodeNetwork, pod: PodNetwork, by_openflow: bool) -> Part:
    hairpin = snat.pod_flows(node, pod) if by_openflow else ()
    return Part(tuple(chain(hairpin, *(builder.pod_flows(pod) for builder in _BUILDERS))))
