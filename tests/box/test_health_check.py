"""healthCheckNodePort with real sockets: every node answers for itself, and follows the state."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from testbed.errors import RunError
from testbed.network import netns
from testbed.network.health_check import HealthChecks
from testbed.network.netlink import Netlink, link_up
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box
from tests.unit.pipeline_states import two_nodes
from tests.unit.test_health_check import endpoint, service_port

pytestmark = pytest.mark.box

STATE = two_nodes("overlay")
PORT = 30500


def _make_nodes() -> None:
    for node in STATE.nodes:
        with netns.home():
            netns.create_and_stay(node.name)
            with Netlink() as netlink:
                netlink.request([link_up(netlink.index("lo"))])


def _get(
    namespace: str, method: str = "GET", health_check_node_port: int = PORT, address: str = "127.0.0.1"
) -> tuple[int, bytes]:
    """Status and body of the answer to a client in a network namespace."""
    with netns.entered(namespace):
        connection = http.client.HTTPConnection(address, health_check_node_port, timeout=5)
        connection.request(method, "/healthz")
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    return answer.status, body


@contextmanager
def _running(healthy: list[bool]) -> Iterator[HealthChecks]:
    _make_nodes()
    checks = HealthChecks(lambda: healthy[-1])
    checks.start()
    try:
        yield checks
    finally:
        checks.stop()


def nodes_answer() -> None:
    healthy = [True]
    with _running(healthy) as checks:
        with pytest.raises(ConnectionRefusedError):
            _get("n1")
        on_first, on_second = endpoint("10.244.0.2", "n1"), endpoint("10.244.1.2", "n2")
        checks.update(replace(STATE, service_ports=(service_port(on_first),)))
        status, body = _get("n1")
        assert (status, b'"localEndpoints": 1' in body) == (200, True)
        assert _get("n2")[0] == 503
        assert _get("n1", "HEAD") == (200, b"")
        checks.update(replace(STATE, service_ports=(service_port(on_second),)))
        assert (_get("n1")[0], _get("n2")[0]) == (503, 200)
        healthy.append(False)
        assert _get("n2")[0] == 503
        healthy.append(True)
        checks.update(replace(STATE, service_ports=(service_port(on_second, check=PORT + 1),)))
        assert _get("n2", health_check_node_port=PORT + 1)[0] == 200
        for node_name in ("n1", "n2"):
            with pytest.raises(ConnectionRefusedError):
                _get(node_name)


@pytest.mark.parametrize("user", USERS)
def test_each_node_answers_for_itself(user: str) -> None:
    run_in_box(nodes_answer, user)


def a_cluster_answers() -> None:
    container = {"name": "web", "image": "whoami", "env": [{"name": "PORT", "value": "80"}]}
    web = pod("web", "n2", containers=[container])
    web["metadata"]["labels"] = {"app": "web"}
    balanced = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "selector": {"app": "web"},
            "ports": [{"port": 80}],
        },
    }
    with cluster(plan_of("single_switch", [web, pod("client", "n1"), balanced], nodes=2, ext=1)) as testbed:
        testbed.wait_pods_ready()
        testbed.wait_settled()
        port = next(entry.health_check_node_port for entry in testbed.state.service_ports)
        assert port is not None
        for proxy in ("openflow", "nftables"):
            testbed.set_proxy(proxy)
            testbed.wait_settled()
            for asking in ("ext1", "n1", "n2", testbed.namespace(parse_endpoint("client"))):
                for node in testbed.state.nodes:
                    expected = 200 if node.name == "n2" else 503
                    status, body = _get(asking, health_check_node_port=port, address=str(node.node_ip))
                    assert status == expected, (proxy, asking, node.name, body)


@pytest.mark.parametrize("user", USERS)
def test_a_clusters_nodes_answer_clients_from_everywhere(user: str) -> None:
    run_in_box(a_cluster_answers, user)


def slow_clients_do_no_harm() -> None:
    with _running([True]) as checks:
        checks.update(replace(STATE, service_ports=(service_port(endpoint("10.244.0.2", "n1")),)))
        with netns.entered("n1"):
            slow = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(20)]
            rude = socket.create_connection(("127.0.0.1", PORT))
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        rude.sendall(b"x" * 20_000)
        assert _get("n1")[0] == 200
        rude.settimeout(5)
        with suppress(ConnectionResetError):
            assert rude.recv(100) == b"", "it must be cut off"
        slow[0].sendall(b"\r\n")
        assert slow[0].recv(100).startswith(b"HTTP/1.1 200")
        # A Service that comes back at once gets its port again, even while clients of the old one are there.
        checks.update(STATE)
        checks.update(replace(STATE, service_ports=(service_port(endpoint("10.244.0.2", "n1")),)))
        assert _get("n1")[0] == 200


def test_slow_and_rude_clients_do_no_harm() -> None:
    run_in_box(slow_clients_do_no_harm, USERS[0])


def a_taken_port_is_said() -> None:
    with _running([True]) as checks:
        with netns.entered("n2"):
            taken = socket.create_server(("", PORT))
        wanted = replace(STATE, service_ports=(service_port(endpoint("10.244.0.2", "n1")),))
        with pytest.raises(RunError, match=f"Service shop/web: healthCheckNodePort {PORT} on node n2: Address already"):
            checks.update(wanted)
        assert _get("n1")[0] == 200
        taken.close()
        checks.update(wanted)
        assert _get("n2")[0] == 503


def test_a_taken_port_is_said_with_the_services_name() -> None:
    run_in_box(a_taken_port_is_said, USERS[0])
