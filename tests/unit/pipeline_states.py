"""Cluster states for the tests of the pipeline: a fixed one to look at, and random ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as st

from testbed.cluster import identity
from testbed.cluster.values import (
    MODES,
    PROTOCOLS,
    ClusterState,
    Mode,
    NetworkConfig,
    NodeNetwork,
    PodNetwork,
    ProxyName,
    ServiceEndpoint,
    ServicePort,
)

CLUSTER_CIDR = IPv4Network("10.244.0.0/16")
_FIRST_NODE_IP = IPv4Address("192.168.1.11")


def node(number: int, pod_cidr: IPv4Network) -> NodeNetwork:
    """Node ``n<number>``, counting from 1."""
    gateway_ip = identity.gateway_address(pod_cidr)
    return NodeNetwork(
        name=f"n{number}",
        node_ip=_FIRST_NODE_IP + number - 1,
        pod_cidr=pod_cidr,
        gateway_ip=gateway_ip,
        gateway_mac=identity.address_mac(gateway_ip),
        vtep_mac=identity.vtep_mac(number),
        datapath_id=number,
        masquerade_ip=identity.masquerade_address(pod_cidr),
    )


def pod(name: str, on: NodeNetwork, host_number: int, of_port: int) -> PodNetwork:
    """A pod with the address number ``host_number`` of its node's pod CIDR."""
    pod_ip = on.pod_cidr[host_number]
    interface = identity.interface_name("default", name)
    return PodNetwork("default", name, on.name, pod_ip, identity.address_mac(pod_ip), interface, of_port)


def state(mode: Mode, nodes: Sequence[NodeNetwork], pods: Sequence[PodNetwork]) -> ClusterState:
    """A cluster state, sorted as it has to be."""
    return ClusterState(
        config=NetworkConfig(mode=mode, cluster_cidr=CLUSTER_CIDR),
        nodes=tuple(sorted(nodes, key=lambda entry: entry.name)),
        pods=tuple(sorted(pods, key=lambda entry: (entry.namespace, entry.name))),
    )


def two_nodes(mode: Mode) -> ClusterState:
    """The cluster of ``docs/pipeline.md``: n1 with the pods client and web-0, n2 with web-1."""
    n1, n2 = node(1, IPv4Network("10.244.0.0/24")), node(2, IPv4Network("10.244.1.0/24"))
    pods = [pod("client", n1, 2, 10), pod("web-0", n1, 3, 11), pod("web-1", n2, 2, 10)]
    return state(mode, [n1, n2], pods)


WEB_IP = IPv4Address("10.96.0.20")


def one_service(mode: Mode, proxy: ProxyName = "openflow") -> ClusterState:
    """The same with the Service ``web`` of ``docs/pipeline.md``: web-0 and web-1 behind port 80 and NodePort 30080."""
    cluster = two_nodes(mode)
    endpoints = tuple(endpoint(pod, 8080) for pod in cluster.pods if pod.name.startswith("web"))
    port = ServicePort("default", "web", "http", "TCP", WEB_IP, 80, 0, endpoints, node_port=30080)
    return with_services(cluster, [port], proxy)


def endpoint(pod: PodNetwork, target_port: int, ready: bool = True, terminating: bool = False) -> ServiceEndpoint:
    """A pod as an endpoint."""
    return ServiceEndpoint(pod.pod_ip, target_port, pod.node_name, ready, serving=True, terminating=terminating)


def with_services(cluster: ClusterState, ports: Iterable[ServicePort], proxy: ProxyName = "openflow") -> ClusterState:
    """The cluster with these ports of Services, sorted as they have to be."""
    in_order = sorted(ports, key=lambda port: (port.namespace, port.name, port.protocol, port.service_port))
    return replace(cluster, config=replace(cluster.config, proxy=proxy), service_ports=tuple(in_order))


def many_services(mode: Mode, nodes: int, services: int, endpoints: int) -> ClusterState:
    """Services with their endpoints, each at an address of its own, spread over the nodes."""
    cluster = large(mode, nodes, 0)
    ports = []
    for number in range(services):
        first = int(IPv4Address("10.200.0.0")) + number * endpoints
        behind = tuple(
            ServiceEndpoint(IPv4Address(first + offset), 8080, f"n{(number + offset) % nodes + 1}")
            for offset in range(endpoints)
        )
        cluster_ip = IPv4Address("10.96.1.0") + number
        ports.append(ServicePort("default", f"svc-{number:05}", "", "TCP", cluster_ip, 80, number, behind))
    return with_services(cluster, ports)


def large(mode: Mode, nodes: int, pods: int) -> ClusterState:
    """Many nodes with their pods spread evenly."""
    cidrs = list(CLUSTER_CIDR.subnets(new_prefix=24))
    all_nodes = [node(number + 1, cidrs[number]) for number in range(nodes)]
    all_pods = [
        pod(f"pod-{number}", all_nodes[number % nodes], 2 + number // nodes, 10 + number // nodes)
        for number in range(pods)
    ]
    return state(mode, all_nodes, all_pods)


@st.composite
def clusters(draw: st.DrawFn, mode: Mode | None = None, most_nodes: int = 4) -> ClusterState:
    """Any small cluster: any pod CIDR size, any addresses and bridge ports, nodes without pods among them."""
    prefixlen = draw(st.integers(20, 29))
    subnets = 1 << (prefixlen - CLUSTER_CIDR.prefixlen)
    size = 1 << (32 - prefixlen)
    # Lengths are drawn by themselves: hypothesis prefers short lists, and short ones show little here.
    node_count = draw(st.integers(1, most_nodes))
    numbers = draw(_distinct(st.integers(0, subnets - 1), node_count))
    nodes, pods = [], []
    for index, number in enumerate(numbers):
        first = int(CLUSTER_CIDR.network_address) + number * size
        on = node(index + 1, IPv4Network((first, prefixlen)))
        nodes.append(on)
        pod_count = draw(st.integers(0, 4))
        hosts = draw(_distinct(st.integers(2, size - 3), pod_count))
        of_ports = draw(_distinct(st.integers(identity.FIRST_POD_OF_PORT, identity.MAX_OF_PORT), pod_count))
        pods += [pod(f"p{index}-{host}", on, host, of_port) for host, of_port in zip(hosts, of_ports, strict=True)]
    return state(mode or draw(st.sampled_from(MODES)), nodes, pods)


@st.composite
def service_ports(draw: st.DrawFn, cluster: ClusterState) -> tuple[ServicePort, ...]:
    """Any few ports of Services over a cluster's pods: shared endpoints, none, unready and terminating ones."""
    ports = []
    for number in range(draw(st.integers(0, 5))):
        outside = draw(st.sampled_from(["", "node port", "load balancer"]))
        endpoints = tuple(
            endpoint(pod, draw(st.sampled_from((80, 8080))), draw(st.booleans()), draw(st.booleans()))
            for pod in draw(
                st.lists(st.sampled_from(cluster.pods), max_size=6, unique=True) if cluster.pods else st.just([])
            )
        )
        ports.append(
            ServicePort(
                "default",
                f"svc-{draw(st.integers(0, 1))}-{number}",
                "",
                draw(st.sampled_from(PROTOCOLS)),
                IPv4Address("10.96.0.20") + number,
                draw(st.sampled_from((80, 443))),
                number,
                tuple(sorted(endpoints)),
                node_port=30000 + number if outside else None,
                load_balancer_ip=IPv4Address("198.18.0.1") + number if outside == "load balancer" else None,
                affinity_timeout_s=draw(st.sampled_from((None, None, 10, 86400))),
                internal_local=draw(st.booleans()),
                external_local=draw(st.booleans()),
            )
        )
    return tuple(ports)


@st.composite
def service_clusters(draw: st.DrawFn, mode: Mode | None = None, most_nodes: int = 4) -> ClusterState:
    """Any small cluster with Services that its bridges balance."""
    cluster = draw(clusters(mode, most_nodes))
    return with_services(cluster, draw(service_ports(cluster)))


def _distinct(numbers: st.SearchStrategy[int], count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(numbers, unique=True, min_size=count, max_size=count)
