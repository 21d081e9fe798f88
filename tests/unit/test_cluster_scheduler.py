"""Which node a pod runs on."""

from __future__ import annotations

from collections import Counter

import pytest

from testbed.cluster.assign import AssignmentError, assign, assign_pod
from testbed.cluster.kinds import NODE, POD
from testbed.cluster.objects import object_name
from testbed.cluster.pod_requests import pod_requests
from testbed.cluster.scheduler import NodeLoad, Unschedulable, choose_node
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import edge_nodes, pod
from tests.unit.living_cluster import Cluster


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


def asking(name, requests=None, limits=None, init=(), **spec):
    wire = pod(name, **spec)
    resources = {"requests": requests or {}, "limits": limits or {}}
    wire["spec"]["containers"][0]["resources"] = resources
    if init:
        wire["spec"]["initContainers"] = list(init)
    return wire


def test_a_node_takes_no_more_than_it_has():
    nodes = loads(n1=0, n2=3)
    nodes["n1"].allocatable = nodes["n2"].allocatable = {"cpu": 2000, "memory": 1 << 30}
    nodes["n1"].requested["cpu"] = 1600
    assert choose_node(asking("a", {"cpu": "400m"}), nodes) == "n1"
    assert choose_node(asking("a", {"cpu": "401m"}), nodes) == "n2"
    assert choose_node(asking("a", {"ephemeral-storage": "1Ti"}), nodes) == "n1"  # neither says how much it has
    with pytest.raises(Unschedulable) as caught:
        choose_node(asking("a", {"cpu": "3", "memory": "2Gi", "nvidia.com/gpu": "1"}), nodes)
    assert caught.value.message == (
        "0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory, 2 Insufficient nvidia.com/gpu. "
        "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    )


def test_a_cordoned_node_is_called_so_whichever_of_its_marks_is_there():
    nodes = loads(n1=0, n2=0, n3=0)
    nodes["n1"].unschedulable = True
    nodes["n2"].taints = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    nodes["n3"].unschedulable, nodes["n3"].taints = True, nodes["n2"].taints
    with pytest.raises(Unschedulable) as caught:
        choose_node(pod("a"), nodes)
    assert caught.value.message == (
        "0/3 nodes are available: 3 node(s) were unschedulable. "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )


# https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers,
# https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
@pytest.mark.parametrize(
    ("spec", "needed"),
    [
        ([{"cpu": "250m"}, {"cpu": "0.5", "memory": "64Mi"}], {"cpu": 750, "memory": 64 << 20}),
        ([{"cpu": "1"}, ("init", {"cpu": "3"}), ("init", {"cpu": "2"})], {"cpu": 3000}),
        ([{"cpu": "1"}, ("sidecar", {"cpu": "1"}), ("init", {"cpu": "2"})], {"cpu": 3000}),
        ([{"cpu": "1"}, ("init", {"cpu": "2"}), ("sidecar", {"cpu": "1"})], {"cpu": 2000}),
        ([{"cpu": "1"}, {"limits": {"cpu": "2", "memory": "1k"}}], {"cpu": 3000, "memory": 1000}),
        ([{"cpu": "0.1m"}], {"cpu": 1}),
        ([{}], {}),
    ],
)
def test_what_a_pod_needs_at_one_time(spec, needed):
    containers: dict[str, list[object]] = {"containers": [], "initContainers": []}
    for entry in spec:
        kind, requests = entry if isinstance(entry, tuple) else ("", entry)
        resources = requests if "limits" in requests else {"requests": requests}
        policy = {"restartPolicy": "Always"} if kind == "sidecar" else {}
        containers["initContainers" if kind else "containers"].append({"resources": resources, **policy})
    assert pod_requests(containers) == needed
    with_overhead = pod_requests({**containers, "overhead": {"cpu": "7m"}})
    assert with_overhead.get("cpu", 0) == needed.get("cpu", 0) + 7


def test_what_a_pod_had_is_free_when_it_has_ended_or_gone():
    with Cluster(nodes=1) as cluster:
        cluster.store.patch(NODE, "n1", {"status": {"allocatable": {"cpu": "1"}}})
        for name in ("first", "second", "third"):
            cluster.store.create(asking(name, {"cpu": "700m"}, restartPolicy="Never"))
            cluster.run_pods()
        assert running(cluster) == ["first"]
        assert any("Insufficient cpu" in message for _, message in cluster.events(POD, "second"))
        cluster.end("first")
        cluster.run_pods()
        assert running(cluster) == ["second"]
        cluster.store.delete(POD, "second")
        cluster.run_pods()
        assert running(cluster) == ["third"]
        cluster.store.create(asking("fourth", {"cpu": "300m"}))
        cluster.store.create(asking("fifth", {"cpu": "1"}))
        cluster.run_pods()
        assert running(cluster) == ["fourth", "third"]
        cluster.store.patch(NODE, "n1", {"status": {"allocatable": {"cpu": "2"}}})
        cluster.run_pods()
        assert running(cluster) == ["fifth", "fourth", "third"]


def running(cluster):
    return [object_name(wire) for wire in cluster.pods() if wire["status"]["phase"] == "Running"]


def test_a_request_that_is_no_quantity_is_said_to_be_none():
    with pytest.raises(AssignmentError, match=r"spec\.containers: 'lots' is not a quantity"):
        assign(edge_nodes(1), NetworkConfig(), 24, [asking("a", {"cpu": "lots"})])
