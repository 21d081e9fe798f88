"""Which node a pod runs on."""

from __future__ import annotations

from collections import Counter

import pytest

from testbed.cluster.assign import assign, assign_pod
from testbed.cluster.scheduler import NodeLoad, Unschedulable, choose_node
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import edge_nodes, pod


def loads(**pod_counts):
    return {name: NodeLoad(name, {"name": name}, 10, pod_count=count) for name, count in pod_counts.items()}


def test_the_least_loaded_node_wins_and_the_first_by_natural_name_among_equals():
    assert choose_node(pod("a"), loads(n10=1, n2=1, n1=2)) == "n2"
    assert choose_node(pod("a"), loads(n10=0, n2=1)) == "n10"


def test_pods_spread_evenly():
    objects = assign(edge_nodes(4), NetworkConfig(), 24, [pod(f"w{i}") for i in range(10)])
    spread = Counter(wire["spec"]["nodeName"] for wire in objects if wire["kind"] == "Pod")
    assert spread == {"n1": 3, "n2": 3, "n3": 2, "n4": 2}


def test_node_name_is_honoured_even_on_a_loaded_or_cordoned_node():
    nodes = loads(n1=9, n2=0)
    nodes["n1"].unschedulable = True
    assert choose_node(pod("a", nodeName="n1"), nodes) == "n1"


def test_a_selector_narrows_the_choice_to_nodes_that_carry_all_its_labels():
    nodes = loads(n1=0, n2=5, n3=7)
    nodes["n2"].labels = {"disk": "ssd", "zone": "a"}
    nodes["n3"].labels = {"disk": "ssd", "zone": "b"}
    assert choose_node(pod("a", nodeSelector={"disk": "ssd"}), nodes) == "n2"
    assert choose_node(pod("a", nodeSelector={"disk": "ssd", "zone": "b"}), nodes) == "n3"
    with pytest.raises(Unschedulable) as caught:
        choose_node(pod("a", nodeSelector={"disk": "hdd"}), nodes)
    assert (caught.value.field, caught.value.value, caught.value.allowed) == (
        "spec.nodeSelector",
        "disk=hdd",
        "disk=ssd",
    )


def test_zone_and_hostname_can_be_selected():
    objects = assign(
        edge_nodes(4, locations=2),
        NetworkConfig(),
        24,
        [
            pod("z", nodeSelector={"topology.kubernetes.io/zone": "leaf2"}),
            pod("h", nodeSelector={"kubernetes.io/hostname": "n3"}),
        ],
    )
    assert {wire["metadata"]["name"]: wire["spec"]["nodeName"] for wire in objects if wire["kind"] == "Pod"} == {
        "h": "n3",
        "z": "n2",
    }


def test_cordoned_nodes_are_skipped():
    objects = assign(edge_nodes(2), NetworkConfig(), 24, [])
    cordoned = next(wire for wire in objects if wire["metadata"]["name"] == "n1")
    cordoned["spec"]["unschedulable"] = True
    assert assign_pod(objects, pod("a"))["spec"]["nodeName"] == "n2"
    nodes = loads(n1=0)
    nodes["n1"].unschedulable = True
    with pytest.raises(Unschedulable, match="every node that could take the pod is marked unschedulable"):
        choose_node(pod("a"), nodes)


def test_a_full_node_takes_only_pods_that_need_no_address():
    nodes = loads(n1=0, n2=5)
    nodes["n1"].free_addresses = 0
    assert choose_node(pod("a"), nodes) == "n2"
    assert choose_node(pod("a", hostNetwork=True), nodes) == "n1"
    assert choose_node(pod("a", hostNetwork=True, nodeName="n1"), nodes) == "n1"


def test_an_empty_cluster():
    with pytest.raises(Unschedulable, match="the cluster has no node"):
        choose_node(pod("a"), {})
