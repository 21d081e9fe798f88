"""What Services are given, what they keep, and what is refused."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.admission import cluster_admission
from testbed.cluster.identity import GROUP_NUMBERS
from testbed.cluster.kinds import SERVICE
from testbed.cluster.objects import object_name
from testbed.cluster.service_allocation import ServiceAllocator, ServiceRefused
from testbed.cluster.services import group_numbers, group_numbers_text, parse_group_numbers
from testbed.cluster.status import ApiError, Invalid
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import service

CONFIG = NetworkConfig()


@pytest.fixture
def store():
    return Store(admission=cluster_admission(CONFIG))


def port(name, number, protocol="TCP", **more):
    return {"name": name, "port": number, "protocol": protocol, **more}


def refused_fields(store, wire):
    """What the API says about a Service that it refuses: field and reason."""
    before = store.resource_version
    with pytest.raises(Invalid) as caught:
        store.create(wire)
    assert store.resource_version == before
    assert caught.value.details["name"].endswith(wire["metadata"]["name"])
    return {cause["field"]: cause["message"] for cause in caught.value.details["causes"]}


# What they are given


def test_a_plain_service_gets_an_address_and_kubernetes_defaults(store):
    stored = store.create(service("web"))
    assert stored["spec"] == {
        "selector": {"app": "web"},
        "type": "ClusterIP",
        "clusterIP": "10.96.1.1",
        "clusterIPs": ["10.96.1.1"],
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert stored["metadata"]["annotations"] == {GROUP_NUMBERS: "/TCP=0"}
    assert stored["status"] == {"loadBalancer": {}}


def test_addresses_come_from_above_the_part_that_is_left_to_people(store):
    # KEP-3070: of a /12 the first 256 addresses, of node ports the first 86, are given out last.
    assert store.create(service("a"))["spec"]["clusterIP"] == "10.96.1.1"
    assert store.create(service("b"))["spec"]["clusterIP"] == "10.96.1.2"
    assert store.create(service("c", clusterIP="10.96.0.50"))["spec"]["clusterIP"] == "10.96.0.50"
    assert store.create(service("d", type="NodePort"))["spec"]["ports"][0]["nodePort"] == 30086
    small = Store(admission=cluster_admission(replace(CONFIG, service_cidr=IPv4Network("10.96.0.0/24"))))
    assert small.create(service("a"))["spec"]["clusterIP"] == "10.96.0.17"


def test_a_used_up_service_cidr_is_said_and_what_is_deleted_is_free_again():
    store = Store(admission=cluster_admission(replace(CONFIG, service_cidr=IPv4Network("10.96.0.0/29"))))
    # Of six addresses the first is the API server's.
    for index in range(5):
        store.create(service(f"s{index}"))
    assert refused_fields(store, service("s6")) == {"spec.clusterIP": "serviceCIDR 10.96.0.0/29 is used up"}
    gone = store.delete(SERVICE, "s2")
    assert store.create(service("s7"))["spec"]["clusterIP"] == gone["spec"]["clusterIP"]


def test_a_node_port_for_every_port_and_one_for_the_same_port_of_two_protocols(store):
    ports = [port("dns", 53, "UDP"), port("dns-tcp", 53), port("metrics", 9153, nodePort=30005)]
    stored = store.create(service("dns", type="NodePort", ports=ports))
    assert [entry["nodePort"] for entry in stored["spec"]["ports"]] == [30086, 30086, 30005]
    assert stored["spec"]["externalTrafficPolicy"] == "Cluster"


def test_a_load_balancer_gets_an_address_of_the_pool_and_a_health_check_port_with_the_policy_local(store):
    first = store.create(service("a", type="LoadBalancer", externalTrafficPolicy="Local"))
    assert first["status"] == {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}
    assert (first["spec"]["ports"][0]["nodePort"], first["spec"]["healthCheckNodePort"]) == (30086, 30087)
    second = store.create(service("b", type="LoadBalancer", loadBalancerIP="198.18.0.9"))
    assert second["status"]["loadBalancer"]["ingress"] == [{"ip": "198.18.0.9"}]
    assert "healthCheckNodePort" not in second["spec"]
    without = store.create(service("c", type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in without["spec"]["ports"][0]


def test_headless_and_external_name_services_need_nothing(store):
    headless = store.create(service("db", clusterIP="None", ports=None))
    assert (headless["spec"]["clusterIP"], headless["spec"]["clusterIPs"]) == ("None", ["None"])
    assert "annotations" not in headless["metadata"]
    external = store.create(service("out", type="ExternalName", externalName="example.org"))
    assert "clusterIP" not in external["spec"] and "annotations" not in external["metadata"]


def test_affinity_has_kubernetes_timeout(store):
    stored = store.create(service("a", sessionAffinity="ClientIP"))
    assert stored["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_the_reserved_addresses_are_for_their_services_only(store):
    assert refused_fields(store, service("a", clusterIP="10.96.0.1")) == {
        "spec.clusterIP": "is reserved for Service default/kubernetes"
    }
    assert refused_fields(store, service("a", clusterIP="10.96.0.10")) == {
        "spec.clusterIP": "is reserved for Service kube-system/kube-dns"
    }
    dns = service("kube-dns", "kube-system", clusterIP="10.96.0.10")
    assert store.create(dns)["spec"]["clusterIP"] == "10.96.0.10"
    store.delete(SERVICE, "kube-dns", "kube-system")
    assert "reserved" in refused_fields(store, service("a", clusterIP="10.96.0.10"))["spec.clusterIP"]


def test_ipv6_clusters():
    config = replace(CONFIG, service_cidr=IPv6Network("fd00:96::/108"), load_balancer_cidr=IPv6Network("fd00:1b::/112"))
    stored = Store(admission=cluster_admission(config)).create(service("a", type="LoadBalancer"))
    assert stored["spec"]["ipFamilies"] == ["IPv6"]
    assert stored["spec"]["clusterIP"] == "fd00:96::101"
    assert stored["status"]["loadBalancer"]["ingress"] == [{"ip": "fd00:1b::1"}]


@given(st.dictionaries(st.tuples(st.from_regex(r"[a-z0-9-]{0,9}", fullmatch=True), st.just("UDP")), st.integers(0)))
def test_group_numbers_are_read_back(numbers):
    assert parse_group_numbers(group_numbers_text(numbers)) == numbers


# What is refused


def test_a_collision_names_both(store):
    store.create(service("first", "shop", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    store.create(service("second", clusterIP="10.96.7.7"))
    store.create(service("third", type="LoadBalancer", loadBalancerIP="198.18.0.77"))
    clash = service("late", type="LoadBalancer", loadBalancerIP="198.18.0.77", ports=[{"port": 80, "nodePort": 30001}])
    clash["spec"]["clusterIP"] = "10.96.7.7"
    assert refused_fields(store, clash) == {
        "spec.ports[0].nodePort": "is taken by Service shop/first",
        "spec.clusterIP": "is taken by Service default/second",
        "spec.loadBalancerIP": "is taken by Service default/third",
    }


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"clusterIP": "192.0.2.1"}, "spec.clusterIP", "lies outside serviceCIDR 10.96.0.0/12 (got 192.0.2.1)"),
        ({"clusterIP": "10.96.0.0"}, "spec.clusterIP", "is no address for a host"),
        ({"clusterIP": "ten"}, "spec.clusterIP", "is not an IP address (got ten)"),
        ({"clusterIP": "None", "type": "NodePort"}, "spec.clusterIP", "cannot be None"),
        ({"type": "Fancy"}, "spec.type", "allowed: ClusterIP, NodePort, LoadBalancer, ExternalName"),
        ({"type": "ExternalName"}, "spec.externalName", "is not a domain name"),
        ({"ports": []}, "spec.ports", "at least one port"),
        ({"ports": {}}, "spec.ports", "at least one port"),
        ({"ports": "80"}, "spec.ports", "must be a list"),
        ({"ports": [None]}, "spec.ports[0]", "must be a mapping"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port", "is not a port (got 0); allowed: 1-65535"),
        ({"ports": [{"port": True}]}, "spec.ports[0].port", "is not a port"),
        ({"ports": [{}]}, "spec.ports[0].port", "(got nothing)"),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, "spec.ports[0].protocol", "allowed: TCP, UDP, SCTP"),
        ({"ports": [{"port": 1, "targetPort": "Web!"}]}, "spec.ports[0].targetPort", "is not a port (got Web!)"),
        ({"ports": [{"port": 1, "targetPort": 70000}]}, "spec.ports[0].targetPort", "is not a port (got 70000)"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "spec.ports[1].name", "is required"),
        ({"ports": [port("a", 1), port("a", 2)]}, "spec.ports[1].name", "is the same as that of spec.ports[0]"),
        ({"ports": [port("a", 1), port("b", 1)]}, "spec.ports[1].port", "is the same as that of spec.ports[0]"),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, "spec.ports[0].nodePort", "not for Services of the type Cl"),
        (
            {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
            "spec.ports[0].nodePort",
            "is out of range (got 80); allowed: 30000-32767",
        ),
        (
            {"type": "NodePort", "ports": [port("a", 1, nodePort=30001), port("b", 2, nodePort=30001)]},
            "spec.ports[1].nodePort",
            "is the same as that of spec.ports[0]",
        ),
        ({"sessionAffinity": "Cookie"}, "spec.sessionAffinity", "allowed: None, ClientIP"),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "is out of range (got 86401); allowed: 1-86400",
        ),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy", "NodePort and LoadBalancer only"),
        ({"internalTrafficPolicy": "Nearby"}, "spec.internalTrafficPolicy", "allowed: Cluster, Local"),
        ({"type": "NodePort", "healthCheckNodePort": 30000}, "spec.healthCheckNodePort", "LoadBalancer with"),
        ({"type": "LoadBalancer", "loadBalancerIP": "10.0.0.1"}, "spec.loadBalancerIP", "outside loadBalancerCIDR"),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies", "the cluster has one IP version"),
        ({"ipFamilyPolicy": "RequireDualStack"}, "spec.ipFamilyPolicy", "allowed: SingleStack, PreferDualStack"),
        ({"selector": ["app"]}, "spec.selector", "must map labels to text"),
    ],
)
def test_bad_fields_are_named_with_what_is_allowed(store, spec, field, reason):
    found = refused_fields(store, service("web", **spec))
    assert reason in found[field]
    # Nothing of it stays: the same node ports, addresses and names are free.
    assert store.create(service("web"))["metadata"]["annotations"] == {GROUP_NUMBERS: "/TCP=0"}


def test_every_problem_of_a_service_is_told_at_once(store):
    wire = service("web", type="NodePort", sessionAffinity="x", ports=[{"port": 0, "nodePort": 1}])
    assert set(refused_fields(store, wire)) == {"spec.sessionAffinity", "spec.ports[0].port", "spec.ports[0].nodePort"}


def test_a_name_that_is_no_dns_label(store):
    assert "beginning with a letter" in refused_fields(store, service("1web"))["metadata.name"]


# Changing


def test_a_manifest_put_again_changes_nothing(store):
    manifest = service("web", type="LoadBalancer", externalTrafficPolicy="Local", ports=[port("a", 1), port("b", 2)])
    stored = store.create(manifest)
    assert store.replace(manifest) is stored


def test_ports_that_stay_keep_their_numbers_and_new_ones_get_free_ones(store):
    store.create(service("web", type="NodePort", ports=[port("a", 1), port("b", 2)]))
    store.create(service("other"))
    changed = store.replace(service("web", type="NodePort", ports=[port("c", 3), port("b", 22)]))
    assert group_numbers(changed) == {("c", "TCP"): 3, ("b", "TCP"): 1}
    assert [entry["nodePort"] for entry in changed["spec"]["ports"]] == [30088, 30087]
    # What "a" had is free.
    assert group_numbers(store.create(service("next"))) == {("", "TCP"): 0}


def test_the_cluster_ip_cannot_be_changed(store):
    store.create(service("web"))
    for other in ("10.96.3.3", "None"):
        with pytest.raises(Invalid, match=r"spec.clusterIP: cannot be changed from 10\.96\.1\.1"):
            store.patch(SERVICE, "web", {"spec": {"clusterIP": other}})


def test_changing_the_type_back_and_forth_gives_back_what_is_not_needed(store):
    store.create(service("web", type="LoadBalancer", externalTrafficPolicy="Local"))
    plain = store.patch(SERVICE, "web", {"spec": {"type": "ClusterIP"}})
    assert set(plain["spec"]) == set(store.create(service("plain"))["spec"])
    assert plain["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert plain["status"] == {"loadBalancer": {}}
    taker = store.create(service("taker", type="LoadBalancer", externalTrafficPolicy="Local"))
    assert taker["status"]["loadBalancer"]["ingress"] == [{"ip": "198.18.0.1"}]
    assert (taker["spec"]["ports"][0]["nodePort"], taker["spec"]["healthCheckNodePort"]) == (30086, 30087)
    external = store.patch(SERVICE, "web", {"spec": {"type": "ExternalName", "externalName": "example.org"}})
    assert "clusterIP" not in external["spec"] and "annotations" not in external["metadata"]
    assert store.create(service("next"))["spec"]["clusterIP"] == "10.96.1.1"


def test_a_node_port_can_be_changed_and_the_health_check_goes_with_its_policy(store):
    store.create(service("a", type="LoadBalancer", externalTrafficPolicy="Local"))
    changed = store.patch(SERVICE, "a", {"spec": {"ports": [{"port": 80, "nodePort": 30500}]}})
    assert changed["spec"]["ports"][0]["nodePort"] == 30500
    changed = store.patch(SERVICE, "a", {"spec": {"externalTrafficPolicy": "Cluster"}})
    assert "healthCheckNodePort" not in changed["spec"]
    taker = store.create(service("b", type="NodePort", ports=[port("x", 1), port("y", 2)]))
    assert [entry["nodePort"] for entry in taker["spec"]["ports"]] == [30086, 30087]


def test_a_change_that_is_refused_leaves_everything_as_it_was(store):
    store.create(service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    before = store.create(service("b", type="NodePort"))
    with pytest.raises(Invalid, match="taken by Service default/a"):
        store.patch(SERVICE, "b", {"spec": {"ports": [port("x", 1, nodePort=30001), port("y", 2)]}})
    assert store.get(SERVICE, "b") is before
    store.delete(SERVICE, "b")
    assert store.create(service("c", type="NodePort"))["spec"]["ports"][0]["nodePort"] == 30086


def test_nobody_can_choose_group_numbers_that_are_another_s(store):
    store.create(service("a"))
    thief = service("b")
    thief["metadata"]["annotations"] = {GROUP_NUMBERS: "/TCP=0"}
    assert group_numbers(store.create(thief)) == {("", "TCP"): 1}
    stored = store.patch(SERVICE, "b", {"metadata": {"annotations": {GROUP_NUMBERS: "/TCP=7"}}})
    assert group_numbers(stored) == {("", "TCP"): 1}


def test_complete_objects_come_through_unchanged(store):
    """What was allocated when the manifests were checked is what the store of the running cluster has."""
    services = [service(f"s{i}", type=kind) for i, kind in enumerate(["ClusterIP", "NodePort", "LoadBalancer"])]
    allocator = ServiceAllocator(CONFIG)
    assert allocator.admit_all(services) == {}
    for wire in reversed(services):
        stored = store.create(wire)
        assert (stored["spec"], stored["status"]) == (wire["spec"], wire["status"])
        assert stored["metadata"]["annotations"] == wire["metadata"]["annotations"]


def test_together_nobody_loses_what_they_ask_for_to_somebody_who_does_not_care():
    services = [
        service("any", type="NodePort"),
        service("picky", type="NodePort", clusterIP="10.96.1.1", ports=[{"port": 80, "nodePort": 30086}]),
        service("late", clusterIP="10.96.1.1"),
    ]
    refused = ServiceAllocator(CONFIG).admit_all(services)
    assert {index: [problem.reason for problem in error.problems] for index, error in refused.items()} == {
        2: ["is taken by Service default/picky"]
    }
    assert services[0]["spec"]["clusterIP"] == "10.96.1.2"
    assert services[0]["spec"]["ports"][0]["nodePort"] == 30087


# Whatever happens


TYPES = st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
PORTS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abc"), "port": st.integers(1, 3), "protocol": st.sampled_from(["TCP", "UDP"])},
        optional={"nodePort": st.integers(30084, 30089)},
    ),
    max_size=3,
)
SPECS = st.fixed_dictionaries(
    {"type": TYPES, "ports": PORTS},
    optional={
        "clusterIP": st.sampled_from(["None", "10.96.0.17", "10.96.0.18", "10.96.0.3"]),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
        "externalName": st.just("example.org"),
        "loadBalancerIP": st.sampled_from(["198.18.0.1", "198.18.0.2"]),
    },
)
SMALL = replace(CONFIG, service_cidr=IPv4Network("10.96.0.0/27"), load_balancer_cidr=IPv4Network("198.18.0.0/29"))


def held(wire):
    """Everything that no two Services may have."""
    spec = wire["spec"]
    if spec.get("clusterIP", "None") != "None":
        yield spec["clusterIP"]
    yield from {entry["nodePort"] for entry in spec.get("ports", ()) if "nodePort" in entry}
    if "healthCheckNodePort" in spec:
        yield spec["healthCheckNodePort"]
    yield from (entry["ip"] for entry in wire["status"]["loadBalancer"].get("ingress", ()))
    yield from (f"group {number}" for number in group_numbers(wire).values())


@given(st.lists(st.tuples(st.sampled_from(["create", "replace", "patch", "delete"]), st.integers(0, 5), SPECS)))
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_nothing_is_given_out_twice_and_nothing_is_lost(steps):
    store = Store(admission=cluster_admission(SMALL))
    for act, number, spec in steps:
        wire = service(f"s{number}", **deepcopy(spec))
        try:
            if act == "create":
                store.create(wire)
            elif act == "replace":
                store.replace(wire)
            elif act == "patch":
                store.patch(SERVICE, f"s{number}", {"spec": spec})
            else:
                store.delete(SERVICE, f"s{number}")
        except ApiError as error:
            assert error.code in (404, 409, 422)
        everything = [value for stored in store.list(SERVICE).items for value in held(stored)]
        assert len(set(everything)) == len(everything)
    for stored in store.list(SERVICE).items:
        store.delete(SERVICE, object_name(stored))
    # All of it is free again: the first Service gets what the first always gets.
    fresh = store.create(service("fresh", type="LoadBalancer", externalTrafficPolicy="Local"))
    assert list(held(fresh)) == ["10.96.0.17", 30086, 30087, "198.18.0.1", "group 0"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "clusterIP",
                        "ports",
                        "port",
                        "type",
                        "selector",
                        "sessionAffinity",
                        "sessionAffinityConfig",
                        "clusterIPs",
                        "ipFamilies",
                        "externalTrafficPolicy",
                        "nodePort",
                        "loadBalancerIP",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_spec_is_stored_or_refused(spec):
    store = Store(admission=cluster_admission(SMALL))
    store.create(service("web"))
    for act in (
        lambda: store.create({**service("a"), "spec": spec}),
        lambda: store.patch(SERVICE, "web", {"spec": spec}),
    ):
        try:
            act()
        except ApiError as error:
            assert error.code == 422


def test_ten_thousand_are_quick():
    services = [service(f"s{i}") for i in range(10_000)]
    started = time.thread_time()
    assert ServiceAllocator(CONFIG).admit_all(services) == {}
    assert time.thread_time() - started < 2, "40 us each is what it takes"
    assert len({wire["spec"]["clusterIP"] for wire in services}) == 10_000


def test_a_refusal_reads_as_a_sentence():
    with pytest.raises(ServiceRefused, match=r"^spec.ports: a Service needs at least one port$"):
        ServiceAllocator(CONFIG).admit(service("a", ports=[]))
