"""From objects to ClusterState: what is read, what is left out, and that following events equals reading anew."""

from __future__ import annotations

from copy import deepcopy
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.assign import assign
from testbed.cluster.values import NetworkConfig, NodeNetwork, PodNetwork
from testbed.cluster.view import ClusterView, StateError, cluster_state
from tests.unit.cluster_objects import config_map, edge_nodes, pod

OBJECTS = assign(edge_nodes(3), NetworkConfig(), 24, [pod(f"w{i}") for i in range(7)])


def named(name):
    return deepcopy(next(wire for wire in OBJECTS if wire["metadata"]["name"] == name))


def test_nodes_and_pods_are_read_back_as_values():
    state = cluster_state(OBJECTS)
    assert state.node_by_name["n2"] == NodeNetwork(
        name="n2",
        node_ip=IPv4Address("192.168.1.12"),
        pod_cidr=IPv4Network("10.244.1.0/24"),
        gateway_ip=IPv4Address("10.244.1.1"),
        gateway_mac="0a:58:0a:f4:01:01",
        vtep_mac="0e:01:00:00:00:02",
        datapath_id=2,
        masquerade_ip=IPv4Address("10.244.1.254"),
    )
    read = state.pod_by_key["default/w4"]
    assert isinstance(read, PodNetwork)
    assert (read.node_name, read.pod_ip, read.of_port) == ("n2", IPv4Address("10.244.1.3"), 11)
    assert [attached.name for attached in state.pods_by_node["n1"]] == ["w0", "w3", "w6"]


def test_the_order_of_objects_and_objects_of_other_kinds_do_not_matter():
    other = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    assert cluster_state([other, config_map("cluster-network"), *reversed(OBJECTS)]) == cluster_state(OBJECTS)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("spec", "nodeName"),
        ("status", "podIP"),
        ("metadata", "annotations"),
    ],
)
def test_incomplete_pods_are_left_out(part, field):
    incomplete = named("w4")
    del incomplete[part][field]
    others = [wire for wire in OBJECTS if wire["metadata"]["name"] != "w4"]
    assert cluster_state([*others, incomplete]) == cluster_state(others)


@pytest.mark.parametrize("garbage", ["x", "", None, "999.1.1.1", {}])
def test_unreadable_values_make_an_object_incomplete_not_an_error(garbage):
    broken_pod, broken_node = named("w4"), named("n3")
    broken_pod["status"]["podIP"] = garbage
    broken_node["spec"]["podCIDR"] = garbage
    others = [wire for wire in OBJECTS if wire["metadata"]["name"] not in ("w4", "n3")]
    state = cluster_state([*others, broken_pod, broken_node])
    assert "default/w4" not in state.pod_by_key
    assert [node.name for node in state.nodes] == ["n1", "n2"]
    # The pods of a node that is not there cannot be reached either.
    assert not [attached for attached in state.pods if attached.node_name == "n3"]


def test_settings_that_are_missing_or_unreadable_are_an_error_that_says_what():
    with pytest.raises(StateError, match="no ConfigMap kube-system/cluster-network"):
        cluster_state(wire for wire in OBJECTS if wire["kind"] != "ConfigMap")
    for field, value in [("mode", "hybrid"), ("clusterCIDR", "10.244/8"), ("vni", "one"), ("mtu", None)]:
        settings_map = named("cluster-network")
        settings_map["data"][field] = value
        if value is None:
            del settings_map["data"][field]
        with pytest.raises(StateError, match="cluster-network"):
            cluster_state([*OBJECTS, settings_map])


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_following_events_equals_reading_all_objects_anew(data):
    view = ClusterView()
    present = {wire["metadata"]["name"]: wire for wire in OBJECTS}
    for wire in OBJECTS:
        view.put(wire)
    for _ in range(data.draw(st.integers(1, 15))):
        wire = named(data.draw(st.sampled_from([w["metadata"]["name"] for w in OBJECTS if w["kind"] != "ConfigMap"])))
        name = wire["metadata"]["name"]
        change = data.draw(st.sampled_from(["remove", "put", "break", "move"]))
        if change == "remove":
            if name in present:
                view.remove(present.pop(name))
            continue
        if change == "break":
            wire["metadata"]["annotations"] = {}
        if change == "move" and wire["kind"] == "Pod":
            wire["spec"]["nodeName"] = data.draw(st.sampled_from(["n1", "n2", "n3", "n4"]))
        present[name] = wire
        view.put(wire)
    assert view.state() == cluster_state(present.values())


def test_a_view_whose_settings_are_deleted_has_no_state():
    view = ClusterView()
    for wire in OBJECTS:
        view.put(wire)
    view.remove(named("cluster-network"))
    with pytest.raises(StateError):
        view.state()
