"""Names in pods: the C library's resolver and ordinary tools, through the cluster DNS's Service address."""

from __future__ import annotations

import socket
import subprocess
from typing import Any

import dns.message
import dns.query
import pytest

from testbed.cluster.dns_addon import DEPLOYMENT_NAME, dns_addon
from testbed.cluster.identity import DNS_NAMESPACE
from testbed.cluster.kinds import POD
from testbed.cluster.values import MODES, NetworkConfig
from testbed.network import netns
from testbed.network.plan import Plan
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

DNS_ADDRESS = "10.96.0.10"


def _named(wire: dict[str, Any], namespace: str, **labels: str) -> dict[str, Any]:
    wire["metadata"] |= {"namespace": namespace, "labels": labels}
    return wire


def _service(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _plan() -> Plan:
    """Two clients, a hostNetwork pod, and three servers in another namespace behind a Service and a headless one."""
    web = {"name": "web", "image": "whoami", "env": [{"name": "PORT", "value": "80"}]}
    servers = [
        _named(
            pod(f"web-{number}", f"n{number + 1}", containers=[web], hostname=f"web-{number}", subdomain="ring"),
            "my-ns",
            app="web",
        )
        for number in range(2)
    ]
    ports = [{"name": "http", "port": 80}]
    selector = {"app": "web"}
    manifests = [
        pod("a", "n1"),
        pod("b", "n2"),
        pod("agent", "n1", hostNetwork=True),
        pod("agent-with-names", "n1", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
        *servers,
        _service("my-service", "my-ns", selector=selector, ports=ports),
        _service("ring", "my-ns", selector=selector, ports=ports, clusterIP="None"),
        _service("alias", "default", type="ExternalName", externalName="my-service.my-ns.svc.cluster.local"),
        *dns_addon(NetworkConfig().service_cidr),
    ]
    return plan_of("single_switch", manifests)


def _run(testbed: Testbed, client: str, *argv: str) -> tuple[int, str]:
    process = testbed.popen(parse_endpoint(client), argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


def _addresses(testbed: Testbed, client: str, name: str) -> set[str]:
    """What the C library of a pod resolves a name to."""
    status, output = _run(testbed, client, "getent", "ahostsv4", name)
    assert status == 0, (client, name, output)
    return {line.split()[0] for line in output.splitlines()}


def _ask_for_both_families(testbed: Testbed, client: str, name: str) -> None:
    """Send two questions at once from a new socket, as the C library does, and wait for both answers.

    The second one belongs to a connection that has begun and that nobody has answered yet. (The resolver would hide its
    loss: it asks again after five seconds.)
    """
    with netns.entered(testbed.namespace(parse_endpoint(client))):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        asking.settimeout(3)
        asking.connect((DNS_ADDRESS, 53))
        questions = [dns.message.make_query(name, kind) for kind in ("A", "AAAA")]
        for question in questions:
            asking.send(question.to_wire())
        answers = {dns.message.from_wire(asking.recv(4096)).id for _ in questions}
    assert answers == {question.id for question in questions}


def names_resolve() -> None:
    with cluster(_plan()) as testbed:
        testbed.wait_pods_ready()
        testbed.wait_settled()
        servers = {name: str(testbed.address(parse_endpoint(f"my-ns/{name}"))) for name in ("web-0", "web-1")}
        cluster_ip = str(next(one for one in testbed.state.service_ports if one.name == "my-service").cluster_ip)
        for mode in MODES:
            testbed.set_mode(mode)
            for client in ("a", "b"):
                for _ in range(20):
                    _ask_for_both_families(testbed, client, "my-service.my-ns.svc.cluster.local.")
            for client in ("a", "b", "agent-with-names"):
                for name in ("my-service.my-ns", "my-service.my-ns.svc.cluster.local", "alias.default"):
                    assert _addresses(testbed, client, name) == {cluster_ip}, (mode, client, name)
                assert _addresses(testbed, client, "ring.my-ns") == set(servers.values())
                assert _addresses(testbed, client, "web-1.ring.my-ns") == {servers["web-1"]}
                status, output = _run(testbed, client, "curl", "-sS", "--max-time", "10", "http://my-service.my-ns")
                assert (status, output.splitlines()[0]) in ((0, "web-0"), (0, "web-1")), (mode, client, output)
        # The search path: the namespace's own Services by their bare name, and only there.
        assert _addresses(testbed, "a", "alias") == {cluster_ip}
        assert _addresses(testbed, "my-ns/web-0", "my-service") == {cluster_ip}
        assert _run(testbed, "a", "getent", "hosts", "my-service")[0] == 2
        # From addresses to names, ports, and over TCP.
        assert "my-service.my-ns.svc.cluster.local" in _run(testbed, "a", "getent", "hosts", cluster_ip)[1]
        assert "web-0.ring.my-ns.svc.cluster.local" in _run(testbed, "a", "getent", "hosts", servers["web-0"])[1]
        port = _run(testbed, "b", "busybox", "nslookup", "-type=srv", "_http._tcp.my-service.my-ns.svc.cluster.local")
        assert "80 my-service.my-ns.svc.cluster.local" in port[1]
        with netns.entered(testbed.namespace(parse_endpoint("b"))):
            query = dns.message.make_query("ring.my-ns.svc.cluster.local.", "A")
            response = dns.query.tcp(query, DNS_ADDRESS, timeout=5)
        assert {str(rdata) for rrset in response.answer for rdata in rrset} == set(servers.values())
        # There is no outside: refused at once, not after a time-out.
        status, output = _run(testbed, "a", "curl", "-sS", "--max-time", "5", "http://www.example.com")
        assert (status, "Could not resolve host" in output) == (6, True), output
        # Who uses the node's own file asks nobody.
        assert DNS_ADDRESS not in _run(testbed, "agent", "cat", "/etc/resolv.conf")[1]
        assert _run(testbed, "agent", "hostname") == (0, "n1\n")
        assert _run(testbed, "agent", "getent", "hosts", "my-service.my-ns")[0] == 2


@pytest.mark.parametrize("user", USERS)
def test_names_of_services_work_in_pods(user: str) -> None:
    run_in_box(names_resolve, user)


def the_server_is_replaced() -> None:
    with cluster(_plan()) as testbed:
        testbed.wait_pods_ready()
        (before,) = _dns_pods(testbed)
        testbed.store.delete(POD, before, DNS_NAMESPACE)
        testbed.wait_settled()
        testbed.wait_pods_ready()
        testbed.wait_settled()
        (after,) = _dns_pods(testbed)
        assert after != before
        assert _addresses(testbed, "a", "kube-dns.kube-system") == {DNS_ADDRESS}


def _dns_pods(testbed: Testbed) -> list[str]:
    names = [one["metadata"]["name"] for one in testbed.store.list(POD).items]
    return [name for name in names if name.startswith(f"{DEPLOYMENT_NAME}-")]


def test_a_deleted_server_is_replaced_and_filled() -> None:
    run_in_box(the_server_is_replaced, USERS[0])
