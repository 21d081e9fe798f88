"""The compiled flows of Services on real bridges, with real packets."""

from __future__ import annotations

import math
import socket
import struct
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from controllers.pipeline.groups import bucket_shares
from testbed.cluster.values import MODES, Mode, Protocol, ServiceEndpoint, ServicePort
from testbed.network import netns
from tests.box.ovs_harness import in_pod, sealed, wait_until
from tests.box.service_flows import (
    ANSWER_S,
    OUTSIDE_IP,
    OUTSIDE_NAMESPACE,
    FlowCluster,
    Servers,
    ask,
    flow_cluster,
    namespace,
    refused,
)

pytestmark = pytest.mark.box

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
CLUSTER_IP = IPv4Address("10.96.0.20")
EMPTY_IP = IPv4Address("10.96.0.21")
LOAD_BALANCER_IP = IPv4Address("198.18.0.1")
TARGET = 8080


def service(cluster: FlowCluster, pods: tuple[int, ...], number: int = 0, **fields: object) -> ServicePort:
    known = ServicePort(
        "default", "web", "http", "TCP", CLUSTER_IP, 80, number, tuple(cluster.endpoint(pod, TARGET) for pod in pods)
    )
    return replace(known, **fields)  # type: ignore[arg-type]


def answers_of(everybody: set[str], *question: Any) -> list[tuple[str, str]]:
    """Several answers, and as many as it takes until everybody has answered; 64 of them leave nothing to chance."""
    answers: list[tuple[str, str]] = []
    while len(answers) < 64 and (len(answers) < 8 or not {who for who, _ in answers} >= everybody):
        answers.append(ask(*question))
    return answers


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_every_way_to_a_service(mode: Mode) -> None:
    """3 nodes, pod-0 to pod-5; pod-1 (n2) and pod-3 (n1) serve."""
    with flow_cluster(mode, 3, 6) as cluster, servers(cluster, (1, 3)):
        here, there = cluster.pod(0), cluster.pod(2)  # on n1, which has an endpoint, and on n3, which has none
        both = {f"pod-1:{TARGET}", f"pod-3:{TARGET}"}
        n1, n3 = cluster.node("n1"), cluster.node("n3")
        for kind, protocol in ((TCP, "TCP"), (UDP, "UDP")):
            web = service(cluster, (1, 3), protocol=protocol, node_port=30080, load_balancer_ip=LOAD_BALANCER_IP)
            cluster.program([web])
            cluster.assert_exact()
            for pod in (here, there, cluster.pod(1), cluster.pod(3)):
                answers = answers_of(both, namespace(pod), kind, CLUSTER_IP, 80)
                assert {who for who, _ in answers} == both
                for who, client_ip in answers:  # a pod that reaches itself is masked from itself
                    on = cluster.node(pod.node_name)
                    itself = who == f"{pod.name}:{TARGET}"
                    assert client_ip == str(on.masquerade_ip if itself else pod.pod_ip)
            for node in (n1, n3):
                answers = answers_of(both, node.name, kind, CLUSTER_IP, 80)
                assert {who for who, _ in answers} == both
                assert {seen for _, seen in answers} == {str(node.masquerade_ip)}
            for target in (n1, n3):
                for client in (OUTSIDE_NAMESPACE, namespace(here), namespace(there), "n1", "n2"):
                    answers = answers_of(both, client, kind, target.node_ip, 30080)
                    assert {who for who, _ in answers} == both, (client, target)
                    assert {seen for _, seen in answers} == {str(target.masquerade_ip)}
            for pod in (here, there):
                answers = answers_of(both, namespace(pod), kind, LOAD_BALANCER_IP, 80)
                assert {who for who, _ in answers} == both
            # Directly, beside it: nothing is translated.
            assert ask(namespace(there), kind, cluster.pod(1).pod_ip, TARGET) == (
                f"pod-1:{TARGET}",
                str(there.pod_ip),
            )
            assert ask(namespace(here), kind, cluster.pod(3).pod_ip, TARGET) == (f"pod-3:{TARGET}", str(here.pod_ip))


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_local_policies(mode: Mode) -> None:
    with flow_cluster(mode, 3, 6) as cluster, servers(cluster, (1, 3)):
        here, there = cluster.pod(0), cluster.pod(2)
        n1, n3 = cluster.node("n1"), cluster.node("n3")
        for kind, protocol in ((TCP, "TCP"), (UDP, "UDP")):
            web = service(cluster, (1, 3), protocol=protocol, node_port=30080)
            cluster.program([replace(web, external_local=True)])
            for _ in range(6):
                assert ask(OUTSIDE_NAMESPACE, kind, n1.node_ip, 30080) == (f"pod-3:{TARGET}", str(OUTSIDE_IP))
            assert not refused(OUTSIDE_NAMESPACE, kind, n3.node_ip, 30080)
            assert not refused("n1", kind, n3.node_ip, 30080)  # another node is outside
            for client in (namespace(here), namespace(there), "n3"):
                both = {f"pod-1:{TARGET}", f"pod-3:{TARGET}"}
                answers = answers_of(both, client, kind, n3.node_ip, 30080)
                assert {who for who, _ in answers} == both
            cluster.program([replace(web, internal_local=True)])
            for _ in range(6):
                assert ask(namespace(here), kind, CLUSTER_IP, 80)[0] == f"pod-3:{TARGET}"
                assert ask("n1", kind, CLUSTER_IP, 80)[0] == f"pod-3:{TARGET}"
            assert not refused(namespace(there), kind, CLUSTER_IP, 80)


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_a_service_without_endpoints_refuses_at_once(mode: Mode) -> None:
    with flow_cluster(mode, 2, 2) as cluster:
        for kind, protocol in ((TCP, "TCP"), (UDP, "UDP")):
            cluster.program(
                [service(cluster, (), protocol=protocol, node_port=30080, load_balancer_ip=LOAD_BALANCER_IP)]
            )
            pod = namespace(cluster.pod(0))
            node_ip = cluster.node("n1").node_ip
            for client in (pod, "n1"):
                assert refused(client, kind, CLUSTER_IP, 80)
                assert refused(client, kind, CLUSTER_IP, 81)  # a port the Service does not have
                assert refused(client, kind, LOAD_BALANCER_IP, 80)
                assert refused(client, kind, node_ip, 30080)
            assert refused(OUTSIDE_NAMESPACE, kind, node_ip, 30080)
            assert refused(OUTSIDE_NAMESPACE, kind, node_ip, 30081)  # the node's kernel: nobody listens
            assert not refused(pod, kind, EMPTY_IP, 80)  # nobody has the address


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_fragments_belong_to_their_connection(mode: Mode) -> None:
    """Datagrams too long for one packet, in both directions of a connection that a short one began, and directly."""
    with flow_cluster(mode, 2, 4) as cluster, servers(cluster, (1, 2)):
        cluster.program([service(cluster, (1, 2), protocol="UDP")])
        directly = [(cluster.pod(number).pod_ip, TARGET) for number in (1, 2)]
        for address, number in [(CLUSTER_IP, 80)] * 12 + directly:
            with netns.entered(namespace(cluster.pod(0))):
                client = socket.socket(socket.AF_INET, UDP)
            with client:
                client.settimeout(ANSWER_S)
                client.connect((str(address), number))
                for length in (1, 4000):
                    client.send(b"?" * length)
                    answer = client.recv(65536)
                    assert len(answer) >= length
                    assert answer.split()[1].decode() == str(cluster.pod(0).pod_ip)


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_an_endpoint_can_be_a_node(mode: Mode) -> None:
    with flow_cluster(mode, 2, 2) as cluster, Servers() as made:
        nodes = [cluster.node("n1"), cluster.node("n2")]
        endpoints = tuple(ServiceEndpoint(node.node_ip, TARGET) for node in nodes)
        cluster.program([service(cluster, (), endpoints=endpoints)])
        for node in nodes:
            made.add_in(node.name, node.name, TCP, TARGET)
        for client in ("n1", "n2", namespace(cluster.pod(0)), namespace(cluster.pod(1))):
            both = {f"n1:{TARGET}", f"n2:{TARGET}"}
            assert {who for who, _ in answers_of(both, client, TCP, CLUSTER_IP, 80)} == both, client


@pytest.mark.parametrize("target", [1, 2])
@pytest.mark.parametrize("mode", MODES)
@sealed
def test_what_a_nodes_kernel_turned_comes_back_through_it(mode: Mode, target: int) -> None:
    """The bridge's part beside a kernel's proxy, which here is one rule: to an endpoint on another node, or on this."""
    with flow_cluster(mode, 2, 4, "nftables") as cluster, servers(cluster, (target,)):
        cluster.program([service(cluster, (target,))])
        cluster.assert_exact()
        client, server = cluster.pod(0), cluster.pod(target)
        turn = f"ip daddr {CLUSTER_IP} tcp dport 80 dnat to {server.pod_ip}:{TARGET}"
        rules = f"table ip test {{\nchain turn {{\ntype nat hook prerouting priority dstnat;\n{turn}\n}}\n}}\n"
        nft = ["ip", "netns", "exec", "n1", "nft", rules]
        assert subprocess.run(nft, timeout=30).returncode == 0
        expected = (f"pod-{target}:{TARGET}", str(client.pod_ip))
        for _ in range(3):
            assert ask(namespace(client), TCP, CLUSTER_IP, 80) == expected
        if target == 2:  # on one node, directly: the kernel has nothing to do with it, but for an ARP reply
            before = cluster.switches["n1"].counters()["gateway_tx_packets"]
            for _ in range(3):
                assert ask(namespace(client), TCP, server.pod_ip, TARGET) == expected
            assert cluster.switches["n1"].counters()["gateway_tx_packets"] <= before + 1


@sealed
def test_session_affinity_remembers_and_forgets() -> None:
    with flow_cluster("overlay", 2, 6) as cluster, servers(cluster, (1, 3, 5)):
        web = service(cluster, (1, 3, 5), affinity_timeout_s=10800, node_port=30080)
        cluster.program([web])
        client = namespace(cluster.pod(0))
        (first,) = {ask(client, TCP, CLUSTER_IP, 80)[0] for _ in range(30)}
        assert {ask(client, TCP, cluster.node("n1").node_ip, 30080)[0] for _ in range(10)} == {first}
        gone = int(first.partition(":")[0].removeprefix("pod-"))
        left = tuple({1, 3, 5} - {gone})
        cluster.program([replace(web, endpoints=tuple(cluster.endpoint(pod, TARGET) for pod in left))])
        (second,) = {ask(client, TCP, CLUSTER_IP, 80)[0] for _ in range(30)}
        assert second != first
        cluster.program([web])
        assert {ask(client, TCP, CLUSTER_IP, 80)[0] for _ in range(10)} == {second}
        cluster.program([replace(web, affinity_timeout_s=None)])
        assert len({ask(client, TCP, CLUSTER_IP, 80)[0] for _ in range(60)}) == 3
        assert "table=9," not in cluster.switches["n1"].ofctl("--no-names", "dump-flows", "br-pods")


CONNECTIONS = 10_000
# The chance that a right table fails here is below 1e-5 for each number of endpoints (normal approximation).
SIGMAS = 5.5
BATCH = 100
FIRST_TARGET, FIRST_CLIENT = 20000, 21000


@pytest.mark.parametrize(("protocol", "counts"), [("TCP", (1, 2, 3, 7, 9, 16, 37, 40)), ("UDP", (2, 9, 40))])
@sealed
def test_connections_are_spread_as_computed(protocol: Protocol, counts: tuple[int, ...]) -> None:
    """One pod stands for all endpoints, by its ports; each connection comes from another port of the client."""
    with flow_cluster("overlay", 1, 2) as cluster:
        for count in counts:
            shares = bucket_shares(count, protocol)
            endpoints = tuple(cluster.endpoint(1, FIRST_TARGET + number) for number in range(count))
            cluster.program([service(cluster, (), endpoints=endpoints, protocol=protocol, number=5)])
            ping = ["ping", "-c", "1", str(cluster.node("n1").gateway_ip)]  # or the first datagrams wait for ARP
            assert subprocess.run(in_pod(cluster.pod(0), *ping), stdout=subprocess.DEVNULL, timeout=30).returncode == 0
            cluster.switches["n1"].appctl("dpctl/flush-conntrack")  # the ports were used before
            found = received(cluster, protocol, count)
            # Whose the few are that have a slot more is the switch's choice, but how many they are is computed.
            for seen, share in zip(sorted(found), sorted(shares), strict=True):
                sigma = math.sqrt(CONNECTIONS * share * (1 - share))
                assert abs(seen - CONNECTIONS * share) <= SIGMAS * sigma, (count, found)


def received(cluster: FlowCluster, protocol: Protocol, endpoints: int) -> list[int]:
    """How many connections each endpoint gets, of CONNECTIONS."""
    kind = TCP if protocol == "TCP" else UDP
    counts = [0] * endpoints
    with ExitStack() as opened:
        with netns.entered(namespace(cluster.pod(1))):
            listening = [opened.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(endpoints)]
        for number, server in enumerate(listening):
            server.bind(("0.0.0.0", FIRST_TARGET + number))
            server.setblocking(False)
            if kind is TCP:
                server.listen(4096)

        def drain() -> None:
            for number, server in enumerate(listening):
                with suppress(BlockingIOError):
                    while True:
                        if kind is TCP:
                            server.accept()[0].close()
                        else:
                            server.recv(64)
                        counts[number] += 1

        for first in range(0, CONNECTIONS, BATCH):
            with ExitStack() as batch:
                with netns.entered(namespace(cluster.pod(0))):
                    clients = [batch.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(BATCH)]
                for offset, client in enumerate(clients):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # end by reset
                    client.bind(("0.0.0.0", FIRST_CLIENT + first + offset))
                    client.settimeout(ANSWER_S)
                    client.connect((str(CLUSTER_IP), 80))
                    if kind is UDP:
                        client.send(b"?")
                wait_until(lambda expected=first + BATCH: drain() or sum(counts) >= expected, "every connection")
    assert sum(counts) == CONNECTIONS
    return counts


def servers(cluster: FlowCluster, pods: tuple[int, ...]) -> Servers:
    """Both kinds of server in these pods."""
    made = Servers()
    for pod in pods:
        for kind in (TCP, UDP):
            made.add(cluster.pod(pod), kind, TARGET)
    return made
