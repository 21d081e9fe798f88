"""Addresses, names and bridge ports: unique, contained, stable; and what is refused."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster import identity
from testbed.cluster.assign import AssignmentError, EdgeNode, assign, assign_pod
from testbed.cluster.objects import natural_key
from testbed.cluster.values import NetworkConfig
from testbed.cluster.view import cluster_state
from tests.unit.cluster_objects import edge_nodes, pod

CONFIG = NetworkConfig()
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


def pods_of(objects):
    return [wire for wire in objects if wire["kind"] == "Pod"]


def node_of(objects, name):
    return next(wire for wire in objects if wire["kind"] == "Node" and wire["metadata"]["name"] == name)


def problems_of(*args):
    with pytest.raises(AssignmentError) as caught:
        assign(*args)
    return caught.value.problems


def test_a_node_gets_its_pod_cidr_addresses_labels_and_identity():
    [_, _, node] = assign([EdgeNode("n1", IPv4Address("192.168.7.1"), {"disk": "ssd"}, "leaf3")], CONFIG, 24, [])
    assert node == {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "n1",
            "labels": {
                "disk": "ssd",
                "kubernetes.io/hostname": "n1",
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": "leaf3",
            },
            "annotations": {
                "network.testbed/datapath-id": "0000000000000001",
                "network.testbed/gateway-ip": "10.244.0.1",
                "network.testbed/gateway-mac": "0a:58:0a:f4:00:01",
                "network.testbed/masquerade-ip": "10.244.0.254",
                "network.testbed/vtep-mac": "0e:01:00:00:00:01",
            },
        },
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.168.7.1"}, {"type": "Hostname", "address": "n1"}],
            "allocatable": {"pods": "252"},
            "capacity": {"pods": "252"},
        },
    }


def test_a_pod_gets_its_node_addresses_and_attachment():
    manifest = pod("web", labels_untouched=True)
    before = deepcopy(manifest)
    [assigned] = pods_of(assign(edge_nodes(1), CONFIG, 24, [manifest]))
    assert manifest == before
    assert assigned["metadata"] == {
        "name": "web",
        "namespace": "default",
        "annotations": {
            "network.testbed/pod-mac": "0a:58:0a:f4:00:02",
            "network.testbed/interface": identity.interface_name("default", "web"),
            "network.testbed/of-port": "10",
        },
    }
    assert assigned["spec"] == {**manifest["spec"], "nodeName": "n1"}
    assert assigned["status"] == {
        "phase": "Pending",
        "hostIP": "192.168.1.11",
        "podIP": "10.244.0.2",
        "podIPs": [{"ip": "10.244.0.2"}],
    }


def test_the_settings_are_objects_too():
    config = replace(CONFIG, mode="routed", vni=7, underlay_mtu_bytes=9000)
    settings_map, status = assign([], config, 24, [])
    assert (status["metadata"]["name"], status["data"]) == ("controller-status", {})
    assert settings_map["data"] == {
        "mode": "routed",
        "clusterCIDR": "10.244.0.0/16",
        "serviceCIDR": "10.96.0.0/12",
        "vni": "7",
        "mtu": "9000",
        "proxy": "openflow",
        "loadBalancerCIDR": "198.18.0.0/24",
    }
    assert cluster_state([settings_map]).config == config


def test_a_host_network_pod_has_its_nodes_address_and_no_attachment():
    objects = assign(edge_nodes(1), CONFIG, 29, [pod("agent", hostNetwork=True), *(pod(f"p{i}") for i in range(4))])
    [agent, *others] = pods_of(objects)
    assert agent["status"]["podIP"] == agent["status"]["hostIP"] == "192.168.1.11"
    assert "annotations" not in agent["metadata"]
    # It takes no address from the pod CIDR: a /29 has four left beside the gateway and what masks
    # clients, and all four fit.
    assert [wire["status"]["podIP"] for wire in others] == [f"10.244.0.{i}" for i in range(2, 6)]
    assert [attached.name for attached in cluster_state(objects).pods] == [f"p{i}" for i in range(4)]


def test_pod_cidrs_follow_the_natural_order_of_names_whatever_the_given_order():
    nodes = edge_nodes(12)
    objects = assign(nodes[::-1], CONFIG, 24, [])
    assert [node_of(objects, f"n{i}")["spec"]["podCIDR"] for i in (1, 2, 10, 12)] == [
        "10.244.0.0/24",
        "10.244.1.0/24",
        "10.244.9.0/24",
        "10.244.11.0/24",
    ]
    assert objects == assign(nodes, CONFIG, 24, [])


def test_equal_input_gives_identical_bytes():
    def text():
        return json.dumps(assign(edge_nodes(7, 3), CONFIG, 26, [pod(f"w{i}") for i in range(100)]))

    assert text() == text()


def test_ipv6_clusters_have_the_same_rules():
    config = replace(CONFIG, cluster_cidr=IPv6Network("fd00:10::/56"), service_cidr=IPv6Network("fd00:96::/112"))
    objects = assign([EdgeNode("n1", IPv6Address("fd00::1"))], config, 64, [pod("a")])
    state = cluster_state(objects)
    assert (str(state.nodes[0].pod_cidr), str(state.pods[0].pod_ip)) == ("fd00:10::/64", "fd00:10::2")


@st.composite
def clusters(draw):
    nodes = edge_nodes(draw(st.integers(1, 12)), draw(st.integers(1, 3)))
    pinned = st.none() | st.sampled_from([node.name for node in nodes])
    keys = draw(
        st.lists(st.tuples(st.sampled_from(["default", "shop", "kube-system"]), NAMES), unique=True, max_size=60)
    )
    pods = []
    for namespace, name in keys:
        spec = {"hostNetwork": True} if draw(st.integers(0, 9)) == 0 else {}
        if node_name := draw(pinned):
            spec["nodeName"] = node_name
        pods.append(pod(name, namespace, **spec))
    return nodes, pods


@given(clusters())
@settings(max_examples=60, deadline=None)
def test_everything_that_is_given_out_is_unique_and_contained(cluster):
    nodes, pods = cluster
    state = cluster_state(assign(nodes, CONFIG, 24, pods))
    addresses = [attached.pod_ip for attached in state.pods]
    addresses += [address for node in state.nodes for address in (node.gateway_ip, node.masquerade_ip)]
    assert len(set(addresses)) == len(addresses)
    macs = [attached.pod_mac for attached in state.pods]
    macs += [mac for node in state.nodes for mac in (node.gateway_mac, node.vtep_mac)] + [identity.VIRTUAL_ROUTER_MAC]
    assert len(set(macs)) == len(macs)
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, unicast"
    interfaces = [attached.interface for attached in state.pods]
    assert len(set(interfaces)) == len(interfaces)
    assert all(len(interface) <= 15 for interface in interfaces)
    reserved = {identity.GATEWAY_PEER, identity.TUNNEL_INTERFACE, identity.BRIDGE, identity.MANAGEMENT_INTERFACE}
    assert not reserved & set(interfaces)
    ports = [(attached.node_name, attached.of_port) for attached in state.pods]
    assert len(set(ports)) == len(ports)
    assert all(identity.FIRST_POD_OF_PORT <= of_port <= identity.MAX_OF_PORT for _, of_port in ports)
    assert len({node.datapath_id for node in state.nodes}) == len(nodes)
    for node, other in permutations(state.nodes, 2):
        assert not node.pod_cidr.overlaps(other.pod_cidr)
    for attached in state.pods:
        node = state.node_by_name[attached.node_name]
        assert attached.pod_ip in node.pod_cidr and node.pod_cidr.subnet_of(CONFIG.cluster_cidr)
        assert attached.pod_ip not in (node.pod_cidr.network_address, node.pod_cidr.broadcast_address)


@given(clusters(), st.data())
@settings(max_examples=40, deadline=None)
def test_all_at_once_equals_one_after_the_other_and_adding_moves_nobody(cluster, data):
    nodes, pods = cluster
    split = data.draw(st.integers(0, len(pods)))
    objects = list(assign(nodes, CONFIG, 24, pods[:split]))
    for manifest in pods[split:]:
        objects.append(assign_pod(objects, manifest))
    at_once = assign(nodes, CONFIG, 24, pods)
    assert sorted(map(json.dumps, objects)) == sorted(map(json.dumps, at_once))


@given(clusters(), st.data())
@settings(max_examples=40, deadline=None)
def test_what_a_deleted_pod_had_is_given_out_again(cluster, data):
    nodes, pods = cluster
    objects = list(assign(nodes, CONFIG, 24, [*pods, pod("going-away")]))
    gone = next(wire for wire in objects if wire["metadata"]["name"] == "going-away")
    objects.remove(gone)
    successor = assign_pod(objects, pod("successor", nodeName=gone["spec"]["nodeName"]))
    assert successor["status"] == gone["status"]
    of_port = identity.POD_OF_PORT
    assert successor["metadata"]["annotations"][of_port] == gone["metadata"]["annotations"][of_port]


def test_the_lowest_free_address_is_taken():
    objects = assign(edge_nodes(1), CONFIG, 24, [pod(f"w{i}") for i in range(5)])
    left = [wire for wire in objects if wire["metadata"]["name"] not in ("w1", "w3")]
    assert assign_pod(left, pod("next"))["status"]["podIP"] == "10.244.0.3"


def test_an_interface_name_that_is_taken_gives_way_to_the_next(monkeypatch):
    monkeypatch.setattr(identity, "interface_name", lambda namespace, name, attempt=0: f"same-{attempt}")
    pods = pods_of(assign(edge_nodes(2), CONFIG, 24, [pod("a"), pod("b"), pod("c")]))
    assert [wire["metadata"]["annotations"][identity.POD_INTERFACE] for wire in pods] == ["same-0", "same-1", "same-2"]


def test_interface_names_differ_where_only_namespace_attempt_or_the_end_of_the_name_does():
    long = "a-very-long-pod-name-"
    names = [
        identity.interface_name(namespace, long + end, attempt)
        for namespace in ("default", "shop")
        for end in ("1", "2")
        for attempt in (0, 1)
    ]
    assert len(set(names)) == 8
    assert all(len(name) == 15 and name.startswith("a-very-") for name in names)


def test_the_time_grows_with_the_number_of_pods_and_no_faster():
    def seconds(count):
        """Processor time, which other work on the machine adds little to; the best of three."""
        pods = [pod(f"w{i}") for i in range(count)]

        def once():
            started = time.thread_time()
            assign(edge_nodes(20), CONFIG, 22, pods)
            return time.thread_time() - started

        return min(once() for _ in range(3))

    few, many = seconds(300), seconds(3000)
    assert many < 30 * few, "ten times the pods; a step that looks at all pods before would make it a hundred"
    assert seconds(1000) < 0.1


# Refusals


def test_every_problem_is_found_at_once_and_says_which_manifest():
    manifests = [
        pod("a", nodeName="n7"),
        pod("b", nodeSelector={"disk": "ssd"}),
        pod("fine"),
        pod("fine"),
        pod("Not A Name"),
        pod("d", nodeName="n1", nodeSelector={"kubernetes.io/hostname": "n2"}),
        {**pod("e"), "metadata": None},
        {**pod("e"), "spec": None},
    ]
    problems = problems_of(edge_nodes(2), CONFIG, 24, manifests)
    assert [(problem.index, problem.name, problem.field, problem.value, problem.reason) for problem in problems] == [
        (0, "default/a", "spec.nodeName", "n7", "the cluster has no such node"),
        (1, "default/b", "spec.nodeSelector", "disk=ssd", "no node carries these labels"),
        (3, "default/fine", "metadata.name", "default/fine", "two Pods have this name"),
        (4, "Not A Name", "metadata.name", "Not A Name", "a Pod needs a name"),
        (5, "default/d", "spec.nodeSelector", "kubernetes.io/hostname=n2", "node n1 does not carry these labels"),
        (6, "", "metadata.name", "", "a Pod needs a name"),
        (7, "default/e", "spec", "", "a Pod needs a spec with containers"),
    ]
    assert problems[0].allowed == "n1, n2"


def test_the_same_name_in_another_namespace_is_another_pod():
    assert len(pods_of(assign(edge_nodes(1), CONFIG, 24, [pod("a"), pod("a", "shop")]))) == 2
    [problem] = problems_of(edge_nodes(1), CONFIG, 24, [pod("a"), pod("a", "default")])
    assert problem.reason == "two Pods have this name"


def test_a_pod_cidr_that_is_full():
    [problem] = problems_of(edge_nodes(2), CONFIG, 29, [pod(f"w{i}") for i in range(9)])
    assert (problem.name, problem.index) == ("default/w8", 8)
    assert problem.reason == "the pod CIDR is too small: no address left on n1, n2"
    [problem] = problems_of(edge_nodes(2), CONFIG, 29, [pod(f"w{i}", nodeName="n2") for i in range(5)])
    assert (problem.name, problem.reason) == ("default/w4", "the pod CIDR is too small: no address left on n2")


def test_a_cluster_cidr_too_small_for_the_nodes_is_one_problem_not_one_for_each_pod():
    config = replace(CONFIG, cluster_cidr=IPv4Network("10.244.0.0/23"))
    [problem] = problems_of(edge_nodes(3), config, 24, [pod("a"), pod("b")])
    assert (problem.kind, problem.field, problem.value) == ("Network", "clusterCIDR", "10.244.0.0/23")
    assert problem.reason == "the CIDR is too small: it holds 2 pod CIDRs of /24, the cluster has 3 nodes"
    [problem] = problems_of(edge_nodes(1), config, 22, [])
    assert "holds 0 pod CIDRs of /22" in problem.reason


def test_nodes_that_clash():
    twice = [*edge_nodes(1), EdgeNode("n1", IPv4Address("192.168.1.99"))]
    assert [problem.reason for problem in problems_of(twice, CONFIG, 24, [])] == ["two nodes have this name"]
    same = [EdgeNode(name, IPv4Address("192.168.1.1")) for name in ("n1", "n2")]
    assert [problem.reason for problem in problems_of(same, CONFIG, 24, [])] == [
        "nodes n1 and n2 have the same address"
    ]
    inside = [EdgeNode("n1", IPv4Address("10.244.3.1"))]
    [problem] = problems_of(inside, CONFIG, 24, [])
    assert problem.reason == "the node's address lies inside clusterCIDR 10.244.0.0/16"


def test_assign_pod_refuses_as_assign_does_and_names_the_pod():
    objects = assign(edge_nodes(1), CONFIG, 24, [pod("a")])
    with pytest.raises(AssignmentError, match=r"Pod default/a: metadata.name: two Pods have this name") as caught:
        assign_pod(objects, pod("a"))
    assert caught.value.exit_status == 2


@given(st.lists(st.text("n012-", max_size=5)))
def test_natural_order_is_a_total_order_that_counts(names):
    assert sorted(["n10", "n2", "n1"], key=natural_key) == ["n1", "n2", "n10"]
    assert sorted(sorted(names), key=natural_key) == sorted(sorted(names, reverse=True), key=natural_key)
