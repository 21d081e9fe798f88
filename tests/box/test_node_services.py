"""The nodes' own part in Services: ports of the NodePort range that no Service has, refusing, and proxies switched."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest

from testbed.cluster.kinds import SERVICE
from testbed.cluster.values import MODES
from testbed.network.netns import entered
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

CLIENTS = ("ext/ext1", "near", "far", "node/n1", "node/n2")
PORT = 31234  # of the NodePort range


def _connect(testbed: Testbed, client: str, address: str, target_port: int) -> socket.socket:
    with entered(testbed.namespace(parse_endpoint(client))):
        connection = socket.socket()
    connection.settimeout(5)
    connection.connect((address, target_port))
    return connection


def a_process_of_the_node_is_reached() -> None:
    with cluster(plan_of("single_switch", [pod("near", "n1"), pod("far", "n2")], nodes=2, ext=1)) as testbed:
        node_ip = str(testbed.address(parse_endpoint("node/n1")))
        with entered("n1"):
            listener = socket.create_server((node_ip, PORT))
        listener.settimeout(5)
        with listener:
            for mode in MODES:
                testbed.set_mode(mode)
                for client in CLIENTS:
                    with closing(_connect(testbed, client, node_ip, PORT)) as connection:
                        server, _ = listener.accept()
                        with server:
                            # More than the handshake: later packets meet a kernel that knows the connection.
                            connection.sendall(b"request" * 1000)
                            server.settimeout(5)
                            received = b""
                            while len(received) < 7000:
                                received += server.recv(7000)
                            server.sendall(b"answer")
                            assert connection.recv(6) == b"answer", (mode, client)


@pytest.mark.parametrize("user", USERS)
def test_a_program_on_a_node_can_listen_on_a_port_of_the_node_port_range(user: str) -> None:
    run_in_box(a_process_of_the_node_is_reached, user)


def _refused_after_s(testbed: Testbed, client: str, address: str, target_port: int) -> float:
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        _connect(testbed, client, address, target_port)
    return time.monotonic() - started


def services_without_endpoints_refuse() -> None:
    with cluster(plan_of("single_switch", [pod("near", "n1"), pod("far", "n2")], nodes=2, ext=1)) as testbed:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "empty", "namespace": "default"},
            "spec": {"type": "NodePort", "selector": {"app": "none"}, "ports": [{"port": 80, "nodePort": PORT}]},
        }
        testbed.apply([service])
        testbed.wait_settled()
        cluster_ip = testbed.store.get(SERVICE, "empty")["spec"]["clusterIP"]
        node_ips = [str(testbed.address(parse_endpoint(f"node/n{number}"))) for number in (1, 2)]
        for proxy in ("openflow", "nftables", "openflow"):
            testbed.set_proxy(proxy)
            for mode in MODES:
                testbed.set_mode(mode)
                for client in CLIENTS:
                    for node_ip in node_ips:
                        assert _refused_after_s(testbed, client, node_ip, PORT) < 1, (proxy, mode, client)
                    if not client.startswith("ext/"):
                        assert _refused_after_s(testbed, client, cluster_ip, 80) < 1, (proxy, mode, client)


@pytest.mark.parametrize("user", USERS[-1:])  # the stricter
def test_a_service_without_endpoints_refuses_at_once_whoever_asks(user: str) -> None:
    run_in_box(services_without_endpoints_refuse, user)
