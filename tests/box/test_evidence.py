"""Evidence from real packets: what the fabric carries in each mode is found, and what it must not carry would be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testbed.cluster.objects import JsonObject
from testbed.measure import evidence
from testbed.measure.capture import capturing
from testbed.measure.evidence import Asking, Finding
from testbed.measure.expectation import expected_of
from testbed.measure.probes.base import serve_echo
from testbed.measure.process import Servers
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint, parse_target
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

PATHS = {
    "same_node": ("a", "b"),
    "same_leaf": ("a", "c"),
    "cross_leaf": ("a", "d"),
    "node_to_node": ("node/n1", "node/n3"),
    "node_to_pod": ("node/n1", "d"),
    "pod_to_node": ("a", "node/n3"),
    "host_network_to_pod": ("agent", "d"),
    "pod_to_host_network": ("a", "far-agent"),
}
# Services by their load balancers' addresses: of those that any node may turn, and that only an endpoint's node turns.
BALANCED = {
    "outside": ("ext/ext1", "loadbalancer/anywhere:7000"),
    "outside_local": ("ext/ext1", "loadbalancer/local:7000"),
    "pod": ("a", "loadbalancer/anywhere:7000"),
    "pod_local": ("a", "loadbalancer/local:7000"),
    "node": ("node/n2", "loadbalancer/anywhere:7000"),
}
TUNNELLED = {"same_leaf", "cross_leaf", "node_to_pod", "host_network_to_pod"}


def taken(testbed: Testbed, servers: Servers, source_port: int = 23456) -> dict[str, Finding]:
    asked = {name: asking(testbed, servers, *ends) for name, ends in PATHS.items()}
    with capturing(testbed.uplinks()) as capture:
        return {
            name: evidence.take(testbed, capture, each, source_port, f"evidence of {name}".encode())
            for name, each in asked.items()
        }


def asking(testbed: Testbed, servers: Servers, source: str, target: str) -> Asking:
    return Asking(parse_endpoint(source), serve_echo(testbed, servers, parse_target(target), "udp"), "udp")


def each_mode_is_proven() -> None:
    pods = [pod("a", "n1"), pod("b", "n1"), pod("c", "n2"), pod("d", "n3")]
    pods += [pod("agent", "n1", hostNetwork=True), pod("far-agent", "n3", hostNetwork=True)]
    pods[3]["metadata"]["labels"] = {"app": "echo"}
    with cluster(plan_of("leaf_spine", pods, ext=1)) as testbed, Servers(testbed) as servers:
        testbed.apply([_balanced("anywhere", "Cluster"), _balanced("local", "Local")])
        testbed.wait_settled()
        for mode in ("overlay", "routed", "overlay"):
            testbed.set_mode(mode)
            for name, finding in taken(testbed, servers).items():
                assert finding.ok, (mode, name, finding)
                tunnelled = mode == "overlay" and name in TUNNELLED
                assert (finding.outer is not None) is tunnelled, (mode, name, finding)
                assert finding.vni == (testbed.state.config.vni if tunnelled else None)
                if name == "same_node":
                    assert finding.packets == 0
                elif name == "same_leaf":
                    assert finding.via == ("leaf1",)
                else:
                    assert finding.via in [("leaf1", spine, "leaf2") for spine in ("spine1", "spine2")]
                if tunnelled and finding.outer:
                    assert finding.outer["udp_dst"] == 4789
            _load_balancers_are_proven(testbed, servers)
        _other_source_ports_take_other_spines(testbed, servers)
        _the_wrong_mode_would_be_noticed(testbed, servers)


def _balanced(name: str, policy: str) -> JsonObject:
    port = {"name": "echo", "protocol": "UDP", "port": 7000}
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": policy, "selector": {"app": "echo"}, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _load_balancers_are_proven(testbed: Testbed, servers: Servers) -> None:
    """The only endpoint is on n3."""
    masks = {str(node.masquerade_ip) for node in testbed.state.nodes}
    pod_ips = {one.name: str(one.pod_ip) for one in testbed.state.pods}
    overlay = testbed.state.config.mode == "overlay"
    for name, ends in BALANCED.items():
        with capturing(testbed.uplinks()) as capture:
            asked = asking(testbed, servers, *ends)
            finding = evidence.take(testbed, capture, asked, 23456, f"evidence of {name}".encode())
        assert finding.ok, (name, finding)
        assert finding.inner is not None
        way = [frame.element for frame in finding.frames]
        assert way[0] == way[-1] == {"ext/ext1": "ext1", "a": "n1", "node/n2": "n2"}[ends[0]], (name, finding)
        turned = finding.inner["ipv4_dst"] == pod_ips["d"]
        if name == "outside_local":  # turned on the endpoint's own node, so the fabric only sees the Service's address
            assert not turned and "n3" in way
        elif name != "outside" or turned:  # else the fabric has chosen n3 itself
            assert turned and (finding.outer is not None) is overlay
            assert finding.inner["ipv4_src"] in ({pod_ips["a"]} if name == "pod_local" else masks)


def _other_source_ports_take_other_spines(testbed: Testbed, servers: Servers) -> None:
    """Equal-cost paths are chosen by ports too, and by the same ports the same way (fib_multipath_hash_policy=1)."""
    ways = [taken(testbed, servers, port)["pod_to_node"].via for port in range(23000, 23016)]
    again = [taken(testbed, servers, port)["pod_to_node"].via for port in range(23000, 23016)]
    assert ways == again
    assert len(set(ways)) == 2


def _the_wrong_mode_would_be_noticed(testbed: Testbed, servers: Servers) -> None:
    asked = asking(testbed, servers, "a", "d")
    with capturing(testbed.uplinks()) as capture:
        answered = evidence.send_probe(testbed, asked, 23456, b"marker")
        frames = capture.frames()
    wanted = expected_of(testbed, asked.source, asked.destination)
    assert evidence.judge(wanted, frames, b"marker", answered).ok
    routed = replace(wanted, mode="routed")
    assert "VXLAN packets on the fabric in routed mode" in evidence.judge(routed, frames, b"marker", answered).detail
    assert "VNI 1 instead of 2" in evidence.judge(replace(wanted, vni=2), frames, b"marker", answered).detail
    assert not evidence.judge(wanted, frames, b"another marker", answered).ok


@pytest.mark.parametrize("user", USERS)
def test_each_mode_is_proven(user: str) -> None:
    run_in_box(each_mode_is_proven, user)
