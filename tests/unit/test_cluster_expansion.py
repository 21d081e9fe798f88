"""Manifests of all kinds: complete objects, or every problem with the manifest that it is about."""

from __future__ import annotations

import json
import time
from copy import deepcopy

import pytest

from testbed.cluster.assign import AssignmentError, assign
from testbed.cluster.kinds import KINDS
from testbed.cluster.objects import object_name
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from testbed.cluster.view import cluster_state
from tests.unit.cluster_objects import config_map, deployment, edge_nodes, endpoint_slice, pod, service

CONFIG = NetworkConfig()
NOT_FOUND = "is not a label of spec.template, so the pods would not be found"


def complete(*manifests, nodes=2):
    return assign(edge_nodes(nodes), CONFIG, 24, manifests)


def problems_of(*manifests):
    with pytest.raises(AssignmentError) as caught:
        complete(*manifests)
    return [(found.index, found.kind, found.name, found.field, found.reason) for found in caught.value.problems]


def of_kind(objects, kind):
    return [wire for wire in objects if wire["kind"] == kind]


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def test_everything_that_follows_is_there_and_sorted_owners_first():
    manifests = [service("web"), deployment("web", 2), namespace("shop"), config_map("settings"), pod("alone")]
    before = deepcopy(manifests)
    objects = complete(*manifests)
    assert manifests == before
    kinds = [wire["kind"] for wire in objects]
    order = [kind.name for kind in KINDS]
    assert kinds == sorted(kinds, key=order.index)
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "ConfigMap": 3,
        "Namespace": 1,
        "Node": 2,
        "Deployment": 1,
        "ReplicaSet": 1,
        "Pod": 3,
        "Service": 1,
        "EndpointSlice": 1,
    }
    [port] = cluster_state(objects).service_ports
    assert len(port.endpoints) == 2 and not port.cluster_endpoints, "known, and not ready yet"


def test_in_a_store_owners_are_found_by_name():
    store = Store()
    stored = {
        (wire["kind"], object_name(wire)): store.create(wire) for wire in complete(deployment("web", 1), service("web"))
    }
    uids = {wire["metadata"]["uid"] for wire in stored.values()}
    owned = [wire for wire in stored.values() if "ownerReferences" in wire["metadata"]]
    assert sorted(wire["kind"] for wire in owned) == ["EndpointSlice", "Pod", "ReplicaSet"]
    assert all(wire["metadata"]["ownerReferences"][0]["uid"] in uids for wire in owned)


def test_equal_manifests_give_identical_bytes_whatever_the_order_of_services():
    services = [service(f"s{i}", type="NodePort", selector={"app": "web"}) for i in range(5)]
    one = complete(deployment("web", 3), *services)
    assert json.dumps(one) == json.dumps(complete(deployment("web", 3), *services))


def test_slices_of_people_are_kept_beside_the_clusters():
    objects = complete(service("web"), deployment("web"), endpoint_slice("web", "192.0.2.1"))
    assert {"web-x"} < {object_name(wire) for wire in of_kind(objects, "EndpointSlice")}
    [port] = cluster_state(objects).service_ports
    assert {str(endpoint.endpoint_ip) for endpoint in port.endpoints} == {"192.0.2.1", "10.244.0.2"}


def test_endpoints_of_people_are_mirrored():
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5432}]}],
    }
    [port] = cluster_state(complete(endpoints, service("db", selector=None))).service_ports
    assert [str(endpoint.endpoint_ip) for endpoint in port.cluster_endpoints] == ["192.0.2.1"]


def test_every_problem_is_found_at_once_and_says_which_manifest():
    bad_selector = deployment("mismatch")
    bad_selector["spec"]["selector"]["matchLabels"]["app"] = "other"
    found = problems_of(
        service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]),
        pod("lost", nodeName="n9"),
        service("b", "shop", type="NodePort", ports=[{"port": 0, "nodePort": 30001}]),
        service("c", "shop", type="NodePort", ports=[{"port": 80, "nodePort": 30001}], clusterIP="192.0.2.1"),
        bad_selector,
        deployment("picky", 5, nodeSelector={"disk": "ssd"}),
        service("a"),
        {"apiVersion": "v1", "kind": "Bogus", "metadata": {"name": "s"}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n7"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {}},
        service("d", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]),
    )
    assert found == [
        (1, "Pod", "default/lost", "spec.nodeName", "the cluster has no such node"),
        (2, "Service", "shop/b", "spec.ports[0].port", "is not a port"),
        (3, "Service", "shop/c", "spec.clusterIP", "lies outside serviceCIDR 10.96.0.0/12"),
        (4, "Deployment", "default/mismatch", "spec.selector.matchLabels", NOT_FOUND),
        (5, "Deployment", "default/picky", "spec.template.spec.nodeSelector", "no node carries these labels"),
        (6, "Service", "default/a", "metadata.name", "two objects of the kind Service have this name"),
        (7, "Bogus", "", "kind", "no kind 'Bogus' is registered for version 'v1'"),
        (8, "Node", "n7", "kind", "Nodes come from the topology"),
        (9, "Service", "", "metadata.name", "a Service needs a name"),
        (10, "Service", "default/d", "spec.ports[0].nodePort", "is taken by Service default/a"),
    ]


def test_a_deployment_that_does_not_fit_is_one_problem():
    with pytest.raises(AssignmentError) as caught:
        assign(edge_nodes(1), CONFIG, 29, [deployment("web", 50)])
    [problem] = caught.value.problems
    assert (problem.kind, problem.field) == ("Deployment", "spec.template.spec.nodeName")
    assert problem.reason == "the pod CIDR is too small: no address left on n1"


def test_pods_alone_give_what_they_always_gave():
    objects = complete(pod("b"), pod("a"))
    assert [(wire["kind"], object_name(wire)) for wire in objects] == [
        ("ConfigMap", "cluster-network"),
        ("ConfigMap", "controller-status"),
        ("Node", "n1"),
        ("Node", "n2"),
        ("Pod", "a"),
        ("Pod", "b"),
    ]


def test_ten_thousand_services_are_quick():
    manifests = [deployment(f"d{i}", 4) for i in range(50)]
    manifests += [service(f"s{i}", selector={"app": f"d{i % 50}"}) for i in range(10_000)]
    started = time.thread_time()
    objects = complete(*manifests)
    assert time.thread_time() - started < 5, "a second is what it takes"
    assert len(of_kind(objects, "EndpointSlice")) == 10_000
