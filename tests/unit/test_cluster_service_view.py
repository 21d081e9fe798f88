"""From Services and slices to ports: what is read, what is left out, what stays the same object."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.assign import assign
from testbed.cluster.service_allocation import ServiceAllocator
from testbed.cluster.values import NetworkConfig, ServiceEndpoint, ServicePort
from testbed.cluster.view import ClusterView, cluster_state
from tests.unit.cluster_objects import edge_nodes, endpoint_slice, pod, service

BASE = assign(edge_nodes(2), NetworkConfig(), 24, [pod("a")])


def admitted(*services):
    """The Services as the store would have them."""
    assert ServiceAllocator(NetworkConfig()).admit_all(services) == {}
    return services


def ports_of(*objects):
    return cluster_state([*BASE, *objects]).service_ports


def test_a_port_has_everything_that_balancing_needs():
    [wire] = admitted(
        service(
            "web",
            type="LoadBalancer",
            externalTrafficPolicy="Local",
            internalTrafficPolicy="Local",
            sessionAffinity="ClientIP",
            ports=[{"name": "http", "port": 80, "targetPort": "http"}],
        )
    )
    piece = endpoint_slice("web", "10.244.0.9", "10.244.0.2")
    piece["ports"][0]["name"] = "http"
    piece["endpoints"][1] |= {"nodeName": "n2", "conditions": {"ready": False, "serving": True, "terminating": True}}
    assert ports_of(wire, piece) == (
        ServicePort(
            namespace="default",
            name="web",
            port_name="http",
            protocol="TCP",
            cluster_ip=IPv4Address("10.96.1.1"),
            service_port=80,
            group_number=0,
            endpoints=(
                ServiceEndpoint(IPv4Address("10.244.0.2"), 8080, "n2", ready=False, serving=True, terminating=True),
                ServiceEndpoint(IPv4Address("10.244.0.9"), 8080, "n1"),
            ),
            node_port=30086,
            load_balancer_ip=IPv4Address("198.18.0.1"),
            affinity_timeout_s=10800,
            internal_local=True,
            external_local=True,
            health_check_node_port=30087,
        ),
    )


def test_ports_are_sorted_and_each_protocol_is_its_own():
    both = [
        {"name": name, "port": number, "protocol": protocol}
        for name, number, protocol in (("u", 53, "UDP"), ("t", 53, "TCP"), ("m", 9, "TCP"))
    ]
    found = ports_of(*admitted(service("b", ports=both), service("a", "zoo"), service("a")))
    assert [(port.namespace, port.name, port.protocol, port.service_port) for port in found] == [
        ("default", "a", "TCP", 80),
        ("default", "b", "TCP", 9),
        ("default", "b", "TCP", 53),
        ("default", "b", "UDP", 53),
        ("zoo", "a", "TCP", 80),
    ]


def test_services_without_an_address_or_a_group_have_no_port():
    services = admitted(
        service("headless", clusterIP="None"), service("out", type="ExternalName", externalName="example.org")
    )
    assert ports_of(*services, service("not-admitted-yet"), endpoint_slice("headless", "10.244.0.2")) == ()


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({"ready": None}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
    ],
)
def test_conditions_that_are_absent_mean_what_the_api_says(conditions, expected):
    [wire] = admitted(service("web"))
    piece = endpoint_slice("web", "10.244.0.2")
    piece["endpoints"][0]["conditions"] = conditions
    [port] = ports_of(wire, piece)
    [endpoint] = port.endpoints
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == expected


def test_several_slices_add_up_and_the_same_endpoint_counts_once():
    [wire] = admitted(service("web"))
    moving = endpoint_slice("web", "10.244.0.2", suffix="y")
    moving["endpoints"][0]["conditions"]["ready"] = False
    other_port = endpoint_slice("web", "10.244.0.2", suffix="z", target_port=9090)
    [port] = ports_of(wire, moving, endpoint_slice("web", "10.244.0.3", "10.244.0.2"), other_port)
    assert [(str(entry.endpoint_ip), entry.target_port, entry.ready) for entry in port.endpoints] == [
        ("10.244.0.2", 8080, True),
        ("10.244.0.2", 9090, True),
        ("10.244.0.3", 8080, True),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"addressType": "IPv6"},
        {"addressType": "FQDN"},
        {"addressType": None},
        {"ports": None},
        {"ports": [{"name": "other", "protocol": "TCP", "port": 80}]},
        {"ports": [{"name": "", "protocol": "UDP", "port": 80}]},
        {"ports": [{"name": "", "protocol": "TCP"}]},
        {"ports": [{"name": "", "protocol": "TCP", "port": 99999}]},
        {"endpoints": None},
        {"endpoints": [{}, None, {"addresses": []}, {"addresses": ["x"]}, {"addresses": [None]}, {"addresses": 5}]},
        {"metadata": {"name": "web-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "other"}}},
        {"metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}},
        {"metadata": {"name": "web-x", "namespace": "default"}},
    ],
)
def test_what_does_not_belong_or_cannot_be_read_gives_no_endpoint(change):
    [wire] = admitted(service("web"))
    [port] = ports_of(wire, {**endpoint_slice("web", "10.244.0.2"), **change})
    assert port.endpoints == ()


def test_what_has_not_changed_is_the_same_object():
    view = ClusterView()
    services = admitted(service("a"), service("b"), service("c"))
    for wire in (*BASE, *services, endpoint_slice("a", "10.244.0.2"), endpoint_slice("b", "10.244.0.3")):
        view.put(wire)
    before = view.state()
    assert view.state() is before
    for wire in (*BASE, *services, endpoint_slice("a", "10.244.0.2")):
        renewed = deepcopy(wire)
        renewed["metadata"]["resourceVersion"] = "77"
        view.put(renewed)
    assert view.state() is before, "read again, and found the same"
    view.put(endpoint_slice("b", "10.244.0.4"))
    after = view.state()
    assert after.nodes is before.nodes and after.pods is before.pods
    assert [new is old for new, old in zip(after.service_ports, before.service_ports, strict=True)] == [
        True,
        False,
        True,
    ]


NAMES = st.sampled_from(["a", "b", "c"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("service"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("remove service"), NAMES),
        st.tuples(
            st.just("slice"), NAMES, st.sampled_from("xyz"), NAMES, st.sets(st.integers(1, 4)), st.integers(80, 81)
        ),
        st.tuples(st.just("remove slice"), NAMES, st.sampled_from("xyz")),
        st.tuples(st.just("look")),
    ),
    max_size=40,
)
VARIANTS = [
    {},
    {"clusterIP": "None"},
    {"ports": [{"name": "n", "port": 1}, {"name": "", "port": 80}]},
    {"type": "NodePort"},
]


@given(CHANGES)
@settings(max_examples=200, deadline=None)
def test_following_changes_equals_reading_everything_anew(changes):
    view, present = ClusterView(), {}
    for wire in BASE:
        view.put(wire)
    for act, *details in changes:
        if act == "service":
            wire = service(details[0], **deepcopy(VARIANTS[details[1]]))
            if details[1] != 2:
                admitted(wire)
            else:
                wire["spec"]["clusterIP"] = "10.96.9.9"
                wire["metadata"]["annotations"] = {"network.testbed/group-numbers": "/TCP=5"}
        elif act == "slice":
            name, suffix, service_name, numbers, target_port = details
            wire = endpoint_slice(service_name, *(f"10.0.0.{n}" for n in sorted(numbers)), target_port=target_port)
            wire["metadata"]["name"] = f"{name}-{suffix}"
        elif act == "remove service":
            gone = present.pop(("Service", details[0]), None)
            if gone:
                view.remove(gone)
            continue
        elif act == "remove slice":
            gone = present.pop(("EndpointSlice", "-".join(details)), None)
            if gone:
                view.remove(gone)
            continue
        else:
            assert view.state() == cluster_state([*BASE, *present.values()])
            continue
        present[wire["kind"], wire["metadata"]["name"]] = wire
        view.put(wire)
    assert view.state() == cluster_state([*BASE, *present.values()])
    for port in view.state().service_ports:
        assert list(port.endpoints) == sorted(port.endpoints)


def wires(count):
    services = [service(f"s{i}") for i in range(count)]
    admitted(*services)
    slices = [
        endpoint_slice(f"s{i}", *(f"10.244.{(i + n) % 4}.{(7 * i + n) % 250 + 2}" for n in range(10)))
        for i in range(count)
    ]
    return json.loads(json.dumps([*BASE, *services, *slices]))


def test_many_services_are_read_in_the_time_that_is_there():
    objects = wires(2000)
    started = time.thread_time()
    view = ClusterView()
    for wire in objects:
        view.put(wire)
    assert sum(len(port.endpoints) for port in view.state().service_ports) == 20_000
    assert time.thread_time() - started < 0.5, "a second for 10,000 would be 0.2; this leaves room for other work"


def test_one_changed_slice_among_a_thousand_services_costs_little():
    view = ClusterView()
    for wire in wires(1000):
        view.put(wire)
    view.state()

    def seconds(number):
        changed = endpoint_slice("s500", f"10.244.0.{number + 2}")
        started = time.thread_time()
        view.put(changed)
        view.state()
        return time.thread_time() - started

    assert sorted(seconds(number) for number in range(21))[10] < 0.001
