"""``testbed doctor --cluster`` on a real cluster: nothing is found while it is well, and each fault that is made is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controllers.pipeline.tables import L3_FORWARDING
from testbed.checkup import (
    Finding,
    RunningCluster,
    bridges,
    dns,
    endpoints,
    examine,
    links,
    mtu,
    policy,
    proxy,
    reach,
    routes,
    service_answers,
    tunnel,
)
from testbed.checkup.findings import as_text, faults
from testbed.cluster import identity
from testbed.cluster.dns_addon import dns_addon
from testbed.cluster.kinds import NETWORK_POLICY, NODE, POD, SERVICE
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import is_terminating
from testbed.cluster.values import MODES
from testbed.network import netns
from testbed.network.openvswitch import revise_cached_decisions
from testbed.network.place import Place
from testbed.network.testbed import Testbed
from testbed.trace.places import Places
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

_Check = Callable[[RunningCluster], list[Finding]]
_POLICY: JsonObject = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {}},
}


def server(name: str, node: str, app: str, **container: object) -> JsonObject:
    wire = pod(name, node, containers=[{"name": "main", "image": "whoami", **container}])
    wire["metadata"]["labels"] = {"app": app}
    return wire


def service(name: str, app: str, target: object) -> JsonObject:
    spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def found_by(testbed: Testbed, *checks: _Check) -> str:
    """What checks have to say against the cluster; all of it must be sayable, with evidence and a remedy."""
    looked = RunningCluster(testbed.api_url, "lab")
    found = faults([finding for check in checks for finding in check(looked)])
    assert all(finding.evidence and finding.remedy for finding in found)
    text = as_text(found)
    print(text)
    return text


def run_in(namespace: str, *argv: str) -> None:
    with netns.entered(namespace):
        subprocess.run(argv, check=True, timeout=20)


@contextmanager
def broken(namespace: str, breaking: str, mending: str) -> Iterator[None]:
    run_in(namespace, *breaking.split())
    try:
        yield
    finally:
        run_in(namespace, *mending.split())


def is_well(testbed: Testbed) -> None:
    found = examine(testbed.api_url, "lab")
    print(as_text(found))
    assert not faults(found), as_text(found)
    assert {"plugin", "routes", "pods", "mtu", "endpoints", "services", "dns"} <= {
        one.subject for one in found if one.state == "ok"
    }


def objects_that_are_wrong(testbed: Testbed) -> None:
    testbed.apply([service("nobody", "wbe", 8000), service("deaf", "web", 8080), service("named", "web", "http")])
    testbed.apply([service("waiting", "waiting", 8000), _POLICY])
    testbed.apply([server("late", "n1", "waiting", readinessProbe={"tcpSocket": {"port": 1}})])
    testbed.wait_settled()
    said = found_by(testbed, endpoints.check, service_answers.check, policy.check)
    assert "Service default/nobody has no endpoints: its selector app=wbe matches no pod [" in said
    assert "Service default/waiting has no endpoints: none of its 1 pods (app=waiting) is ready [" in said
    assert "Service default/deaf port 80: nothing listens on TCP 8080 in 1 of 1 endpoints [ss in" in said
    assert "Service default/named port 80 has no endpoints though its pods are ready [targetPort http" in said
    assert "service/default/deaf:80 does not answer from n1, n2:" in said
    assert "NetworkPolicy default/deny is stored and not enforced [it selects 4 pods" in said
    assert "6 faults found" in said
    for name in ("nobody", "deaf", "named", "waiting"):
        testbed.store.delete(SERVICE, name, "default")
    testbed.store.delete(NETWORK_POLICY, "deny", "default")
    testbed.store.delete(POD, "late", "default", grace_period_s=0)


def names_that_do_not_resolve(testbed: Testbed) -> None:
    testbed.scale(identity.DNS_NAMESPACE, "cluster-dns", 0)
    place = Place(identity.pod_namespace("default", "web"), "web", of_pod=True)
    subprocess.run(place.command(["cp", "/etc/hosts", "/etc/resolv.conf"]), check=True)
    testbed.wait_settled()
    said = found_by(testbed, dns.check)
    assert "no DNS server is ready" in said
    assert "pod default/web does not ask the cluster DNS [/etc/resolv.conf: nameserver missing" in said


def packets_that_are_too_large(testbed: Testbed) -> None:
    link = "ip link set eth0 mtu"
    with broken(identity.pod_namespace("default", "web"), f"{link} 1400", f"{link} 1450"):
        said = found_by(testbed, mtu.check)
    assert "eth0 in p_default_web has another MTU than the mode's 1450 [ip link: mtu 1400]" in said
    assert "default/client -> default/web: packets of 1450 bytes are lost, small ones are not" in said


def an_overlay_that_is_cut(testbed: Testbed) -> None:
    with broken("s-n1", "ip link set vxlan0 down", "ip link set vxlan0 up"):
        said = found_by(testbed, tunnel.check, reach.check)
    assert "VXLAN device vxlan0 of n1 is down" in said
    assert "default/client -> default/web: unreachable across nodes [dropped at tunnel device vxlan0" in said
    node = testbed.state.node_by_name["n2"]
    entry = f"{node.vtep_mac} dev vxlan0 dst {node.node_ip} self permanent"
    with broken("s-n1", f"bridge fdb del {entry}", f"bridge fdb add {entry}"):
        assert "vxlan0 of n1 does not know the way to n2" in found_by(testbed, tunnel.check)


def routes_that_are_missing(testbed: Testbed) -> None:
    node = testbed.state.node_by_name["n2"]
    with broken("n1", f"ip route del {node.pod_cidr}", f"ip route add {node.pod_cidr} via {node.node_ip}"):
        said = found_by(testbed, routes.check, reach.check)
    assert f"n1 does not route {node.pod_cidr} (the pods of n2) [n1: ip route show {node.pod_cidr} is empty]" in said
    assert "default/client -> default/web: unreachable across nodes [dropped at node n1" in said


def a_bridge_that_was_changed(testbed: Testbed) -> None:
    switch = testbed.switches["n2"]
    flow = f"table={L3_FORWARDING.number},cookie=0x5ec,priority=1000,ip,nw_dst=10.244.1.2"
    switch.ofctl("add-flow", identity.BRIDGE, f"{flow},actions=drop")
    switch.ofctl("--strict", "del-flows", identity.BRIDGE, "table=0,priority=100,in_port=2")
    revise_cached_decisions([switch])
    testbed.stop_controller()
    said = found_by(testbed, bridges.check)
    assert "the bridge of n1 has no controller" in said
    assert "the bridge of n2 has no controller" in said
    assert "the bridge of n2 is not as it was programmed: 1 flows or groups missing, 1 flows" in said
    assert "the bridge of n1 is not" not in said
    Path(switch.directory / "vswitchd.ctl").rename(switch.directory / "away")
    Path(switch.directory / f"{identity.BRIDGE}.mgmt").unlink()
    assert "the bridge of n2 does not answer" in found_by(testbed, bridges.check)


def rules_without_a_proxy(testbed: Testbed) -> None:
    testbed.set_proxy("nftables")
    assert "nothing found" in found_by(testbed, proxy.check)
    testbed.proxy.stop()
    assert "the Service proxy (nftables) does not run" in found_by(testbed, proxy.check)


def a_node_without_a_link(testbed: Testbed) -> None:
    """Its kubelet is silent from then on, and hears what it has missed as soon as the link is up."""
    with broken("n2", "ip link set n2-eth0 down", "ip link set n2-eth0 up"):
        until(lambda: testbed.silent_nodes == {"n2"})
        said = found_by(testbed, links.check, routes.check, reach.check)
        testbed.store.delete(POD, "worker", "default", grace_period_s=1)
        testbed.wait_settled()
        assert is_terminating(testbed.store.get(POD, "worker", "default"))
    until(lambda: not [wire for wire in testbed.store.list(POD).items if object_name(wire) == "worker"])
    assert not testbed.silent_nodes
    assert "n2-eth0 of node n2 is down [ip link: " in said and "does not route" not in said
    assert "=> testbed exec --name lab node/n2 -- ip link set n2-eth0 up" in said
    assert "(n2-eth0 of node n2 is down: ip link set n2-eth0 up)" in said


def a_node_that_was_deleted(testbed: Testbed) -> None:
    testbed.store.delete(NODE, "n2")
    looked = RunningCluster(testbed.api_url, "lab")
    assert Places(looked.state, looked.kernel).name("n2") == "former node n2"
    with broken("n2", "ip link set n2-eth0 down", "ip link set n2-eth0 up"):
        assert "nothing found" in found_by(testbed, links.check, mtu.check)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 8
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def every_fault_is_found() -> None:
    pods = [server("web", "n2", "web"), pod("client", "n1"), pod("worker", "n2")]
    with cluster(plan_of("single_switch", pods, nodes=2, ext=1)) as testbed:
        testbed.apply([service("web", "web", 8000), *dns_addon(testbed.state.config.service_cidr)])
        testbed.wait_settled()
        testbed.wait_pods_ready()
        testbed.wait_settled()
        is_well(testbed)
        objects_that_are_wrong(testbed)
        packets_that_are_too_large(testbed)
        an_overlay_that_is_cut(testbed)
        testbed.set_mode(MODES[1])
        testbed.wait_settled()
        is_well(testbed)
        routes_that_are_missing(testbed)
        a_node_without_a_link(testbed)
        is_well(testbed)
        names_that_do_not_resolve(testbed)
        rules_without_a_proxy(testbed)
        a_bridge_that_was_changed(testbed)
        a_node_that_was_deleted(testbed)


def test_each_fault_is_found_and_none_where_there_is_none() -> None:
    run_in_box(every_fault_is_found, USERS[0], timeout_s=120)
