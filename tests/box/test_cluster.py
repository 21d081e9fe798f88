"""The pod network with real packets: who reaches whom, with which addresses, and what a pod sees around itself."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from testbed.cluster.values import MODES
from testbed.network.netns import entered
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import EndpointRef, parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box


def _source_seen(testbed: Testbed, client: EndpointRef, server: EndpointRef) -> str:
    """The source address of a datagram from the client, as the server's socket receives it; it also gets an answer."""
    with entered(testbed.namespace(server)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with entered(testbed.namespace(client)):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with listener, sender:
        listener.settimeout(5)
        sender.settimeout(5)
        listener.bind((str(testbed.address(server)), 9999))
        sender.connect((str(testbed.address(server)), 9999))
        sender.send(b"who am I")
        data, source = listener.recvfrom(100)
        listener.sendto(data, source)
        assert sender.recv(100) == data
    return str(source[0])


def no_address_is_translated() -> None:
    pods = [pod("a", "n1"), pod("b", "n1"), pod("c", "n2"), pod("d", "n3")]
    with cluster(plan_of("leaf_spine", pods)) as testbed:
        for mode in MODES:
            testbed.set_mode(mode)
            for client, server in (("a", "b"), ("a", "c"), ("c", "a"), ("a", "d"), ("d", "b")):
                ends = parse_endpoint(client), parse_endpoint(server)
                assert _source_seen(testbed, *ends) == str(testbed.address(ends[0])), (mode, client, server)
            for client, server in (("a", "node/n1"), ("a", "node/n2"), ("d", "node/n1")):
                ends = parse_endpoint(client), parse_endpoint(server)
                assert _source_seen(testbed, *ends) == str(testbed.address(ends[0])), (mode, client, server)
            for client, server in (("n1", "a"), ("n1", "c"), ("n1", "d")):
                node = testbed.state.node_by_name[client]
                seen = _source_seen(testbed, parse_endpoint(f"node/{client}"), parse_endpoint(server))
                # A node has two addresses of its own: the fabric's and that of its interface to the bridge.
                assert seen in (str(node.node_ip), str(node.gateway_ip)), (mode, client, server)


@pytest.mark.parametrize("user", USERS)
def test_pods_and_nodes_reach_each_other_without_nat(user: str) -> None:
    run_in_box(no_address_is_translated, user)


def every_topology_connects_everything() -> None:
    for topology, parameters in (
        ("single_switch", {"nodes": 3, "ext": 0}),  # in overlay mode no outside host reaches pods
        ("leaf_spine", {}),
        ("fat_tree", {"k": 2, "nodes_per_edge": 2}),
        ("zones", {"nodes_per_zone": 1}),
    ):
        plan = plan_of(topology, [pod(f"p{number}") for number in range(4)], **parameters)
        with cluster(plan) as testbed:
            for mode in MODES:
                testbed.set_mode(mode)
                assert testbed.net.pingAll(timeout="2") == 0, (topology, mode)


def test_ping_all_in_every_topology_and_mode() -> None:
    run_in_box(every_topology_connects_everything, USERS[0], timeout_s=200)


def outside_hosts_reach_nodes_and_routed_pods() -> None:
    with cluster(plan_of("leaf_spine", [pod("web", "n3")], ext=1)) as testbed:
        ext, web = parse_endpoint("ext/ext1"), parse_endpoint("web")
        assert _source_seen(testbed, ext, parse_endpoint("node/n1")) == str(testbed.address(ext))
        testbed.set_mode("routed")
        assert _source_seen(testbed, ext, web) == str(testbed.address(ext))


def test_an_outside_host_reaches_nodes_and_in_routed_mode_pods() -> None:
    run_in_box(outside_hosts_reach_nodes_and_routed_pods, USERS[0])


def _ping(testbed: Testbed, source: str, target: str, size: int) -> bool:
    """Whether an IP packet of ``size`` bytes that must not be fragmented arrives."""
    address = str(testbed.address(parse_endpoint(target)))
    argv = ["ping", "-c1", "-W2", "-M", "do", "-s", str(size - 28), address]
    return testbed.popen(parse_endpoint(source), argv, stdout=subprocess.DEVNULL).wait(10) == 0


def the_mtu_is_the_modes() -> None:
    with cluster(plan_of("leaf_spine", [pod("a", "n1"), pod("b", "n3")])) as testbed:
        for mode, mtu in (("overlay", 1450), ("routed", 1500), ("overlay", 1450)):
            testbed.set_mode(mode)
            assert _ping(testbed, "a", "b", mtu)
            assert not _ping(testbed, "a", "b", mtu + 1)
            assert _ping(testbed, "node/n1", "b", mtu)
        testbed.set_mode("routed", pod_mtu_bytes=1450)
        assert _ping(testbed, "a", "b", 1450)
        assert not _ping(testbed, "a", "b", 1451)


def test_pods_have_the_mtu_of_the_mode() -> None:
    run_in_box(the_mtu_is_the_modes, USERS[0])


def _shells() -> list[str]:
    """Command lines of the box's interactive shells."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if words[0].endswith("bash"):
            found.append(" ".join(words))
    return found


def mininet_objects_behave() -> None:
    with cluster(plan_of("single_switch", [pod("web-0", "n1"), pod("b", "n2")])) as testbed:
        assert _shells() == []
        web = testbed.net["web-0"]
        assert web.IP() == str(testbed.address(parse_endpoint("web-0")))
        assert web.popen(["hostname"]).communicate()[0] == b"web-0\n"
        assert _shells() == [], "popen needs no shell"
        assert web.cmd("hostname").strip() == "web-0"
        assert len(_shells()) == 1
        assert web.IP() in testbed.net["n2"].cmd(f"ping -c1 -W2 {web.IP()}")
        assert {host.name for host in testbed.net.hosts} == {"n1", "n2", "ext1", "web-0", "b"}
        assert "table=Classifier" in testbed.net["s-n1"].cmd("ovs-ofctl -O OpenFlow13 dump-flows br-pods")
        assert {str(link) for link in testbed.net.links} >= {f"eth0<->{testbed.state.pods[1].interface}"}


def test_mininet_objects_work_and_start_their_shell_on_first_use() -> None:
    run_in_box(mininet_objects_behave, USERS[0])


def _output(testbed: Testbed, endpoint: str, *argv: str) -> str:
    process = testbed.popen(parse_endpoint(endpoint), argv, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, (argv, output)
    return str(output)


def pods_have_their_own_files() -> None:
    alias = {"hostAliases": [{"ip": "10.1.2.3", "hostnames": ["db.example"]}]}
    own_dns = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.9.9.9"], "searches": ["lab.example"]}}
    with cluster(plan_of("single_switch", [pod("a", "n1", **alias), pod("b", "n1", **own_dns)])) as testbed:
        for name in ("a", "b"):
            assert _output(testbed, name, "hostname") == f"{name}\n"
            assert f"{testbed.address(parse_endpoint(name))}\t{name}\n" in _output(testbed, name, "cat", "/etc/hosts")
            assert _output(testbed, name, "cat", "/sys/class/net/eth0/mtu") == "1450\n"
        assert "10.1.2.3\tdb.example\n" in _output(testbed, "a", "cat", "/etc/hosts")
        assert "db.example" not in _output(testbed, "b", "cat", "/etc/hosts")
        assert "options ndots:5\n" in _output(testbed, "a", "cat", "/etc/resolv.conf")
        assert _output(testbed, "b", "cat", "/etc/resolv.conf") == "nameserver 10.9.9.9\nsearch lab.example\n"
        assert _output(testbed, "node/n1", "hostname") == "n1\n"


@pytest.mark.parametrize("user", USERS)
def test_each_pod_has_its_own_hosts_resolv_conf_hostname_and_mtu(user: str) -> None:
    run_in_box(pods_have_their_own_files, user)


def containers_run() -> None:
    fetch = "until busybox wget -q -O - http://127.0.0.1:8000 ; do :; done"
    pods = [
        pod(
            "pair",
            "n1",
            restartPolicy="Never",
            containers=[
                {"name": "server", "image": "whoami"},
                {"name": "client", "image": "busybox", "command": ["sh", "-c", fetch]},
            ],
        ),
        pod("nginx-a", "n1", containers=[{"name": "web", "image": "nginx:1.27"}]),
        pod("nginx-b", "n1", containers=[{"name": "web", "image": "nginx"}]),
    ]
    with cluster(plan_of("single_switch", pods)) as testbed:
        log = testbed.containers.log("default/pair", "client")
        client = testbed.containers.process("default/pair", "client")
        assert client.wait(20) == 0
        assert "pair" in log.read_text()
        retry = 'until busybox wget -q -O - "http://$1/"; do :; done'
        for server in ("nginx-a", "nginx-b"):
            address = str(testbed.address(parse_endpoint(server)))
            assert "nginx" in _output(testbed, "pair", "timeout", "20", "sh", "-c", retry, "sh", address)
        assert testbed.containers.exited() == []


@pytest.mark.parametrize("user", USERS)
def test_containers_of_a_pod_share_localhost_and_images_run_real_programs(user: str) -> None:
    run_in_box(containers_run, user)


def host_network_pods_share_their_node() -> None:
    plan = plan_of("single_switch", [pod("agent", "n1", hostNetwork=True), pod("a", "n2")])
    with cluster(plan) as testbed:
        agent = parse_endpoint("agent")
        assert testbed.namespace(agent) == "n1"
        assert _source_seen(testbed, parse_endpoint("a"), agent) == str(testbed.address(parse_endpoint("a")))


def test_a_host_network_pod_has_its_nodes_addresses() -> None:
    run_in_box(host_network_pods_share_their_node, USERS[0])
