"""The DNS records of Services and pods, against the specification's sections, and incremental against anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.dns_records import (
    SCHEMA_RECORD,
    DnsRecords,
    Record,
    pod_records,
    service_records,
)

Wire = dict[str, Any]


def service(name: str = "web", namespace: str = "shop", **spec: Any) -> Wire:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": "10.96.3.4", **spec},
    }


def headless(name: str = "ring", namespace: str = "shop", **spec: Any) -> Wire:
    return service(name, namespace, clusterIP="None", **spec)


def endpoint(*addresses: str, hostname: str | None = None, **conditions: bool) -> Wire:
    return {"addresses": list(addresses), "conditions": conditions, **({"hostname": hostname} if hostname else {})}


def endpoint_slice(
    endpoints: Iterable[Wire],
    of: str | None = "ring",
    name: str = "ring-1",
    ports: Iterable[Wire] = (),
    family: str = "IPv4",
) -> Wire:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": of} if of else {},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def pod(name: str, *addresses: str, namespace: str = "shop", phase: str = "Running") -> Wire:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "status": {"phase": phase, "podIP": addresses[0], "podIPs": [{"ip": text} for text in addresses]}
        if addresses
        else {"phase": "Pending"},
    }


def lines(records: Iterable[Record]) -> set[str]:
    return {" ".join(record) for record in records}


class TestClusterIP:
    def test_an_address_a_pointer_and_the_named_ports(self) -> None:
        ports = [
            {"name": "http", "port": 80, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]
        assert lines(service_records(service(ports=ports), ())) == {
            "web.shop.svc.cluster.local A 10.96.3.4",
            "4.3.96.10.in-addr.arpa PTR web.shop.svc.cluster.local",
            "_http._tcp.web.shop.svc.cluster.local SRV 0 100 80 web.shop.svc.cluster.local",
            "_dns._udp.web.shop.svc.cluster.local SRV 0 100 53 web.shop.svc.cluster.local",
        }

    def test_a_port_without_a_name_has_no_service_record(self) -> None:
        found = service_records(service(ports=[{"port": 80}]), ())
        assert {record.type for record in found} == {"A", "PTR"}

    def test_its_endpoints_have_no_records(self) -> None:
        with_slice = service_records(service(), [endpoint_slice([endpoint("10.244.1.2")], of="web")])
        assert with_slice == service_records(service(), ())

    @pytest.mark.parametrize("cluster_ip", ["", None])
    def test_a_service_without_an_address_yet_has_no_name(self, cluster_ip: str | None) -> None:
        assert not service_records(service(clusterIP=cluster_ip, ports=[{"name": "http", "port": 80}]), ())

    def test_both_families_of_a_dual_stack_service(self) -> None:
        found = lines(service_records(service(clusterIPs=["10.96.3.4", "fd00::12"]), ()))
        assert "web.shop.svc.cluster.local AAAA fd00::12" in found
        nibbles = "2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"
        assert f"{nibbles} PTR web.shop.svc.cluster.local" in found


class TestHeadless:
    def test_every_ready_endpoint_has_an_address_a_name_and_ports(self) -> None:
        slices = [
            endpoint_slice(
                [endpoint("10.244.1.2", hostname="a", ready=True), endpoint("10.244.2.3", ready=True)],
                ports=[{"name": "peer", "port": 7000, "protocol": "TCP"}, {"port": 9, "name": ""}],
            )
        ]
        ring = "ring.shop.svc.cluster.local"
        assert lines(service_records(headless(), slices)) == {
            f"{ring} A 10.244.1.2",
            f"{ring} A 10.244.2.3",
            f"a.{ring} A 10.244.1.2",
            f"10-244-2-3.{ring} A 10.244.2.3",
            f"_peer._tcp.{ring} SRV 0 100 7000 a.{ring}",
            f"_peer._tcp.{ring} SRV 0 100 7000 10-244-2-3.{ring}",
            f"2.1.244.10.in-addr.arpa PTR a.{ring}",
            f"3.2.244.10.in-addr.arpa PTR 10-244-2-3.{ring}",
        }

    def test_a_port_number_is_the_slices_own(self) -> None:
        """Pods may give one named targetPort different numbers; then they are in different slices."""
        slices = [
            endpoint_slice([endpoint("10.244.1.2")], name="ring-1", ports=[{"name": "peer", "port": 7000}]),
            endpoint_slice([endpoint("10.244.1.3")], name="ring-2", ports=[{"name": "peer", "port": 7001}]),
        ]
        found = {record.data for record in service_records(headless(), slices) if record.type == "SRV"}
        ring = "ring.shop.svc.cluster.local"
        assert found == {f"0 100 7000 10-244-1-2.{ring}", f"0 100 7001 10-244-1-3.{ring}"}

    def test_several_addresses_of_one_hostname(self) -> None:
        slices = [endpoint_slice([endpoint("10.244.1.2", hostname="a"), endpoint("10.244.1.3", hostname="a")])]
        found = lines(service_records(headless(), slices))
        assert {text for text in found if text.startswith("a.")} == {
            "a.ring.shop.svc.cluster.local A 10.244.1.2",
            "a.ring.shop.svc.cluster.local A 10.244.1.3",
        }

    def test_who_is_not_ready_is_not_there(self) -> None:
        slices = [endpoint_slice([endpoint("10.244.1.2", ready=False), endpoint("10.244.1.3", ready=True)])]
        assert {record.data for record in service_records(headless(), slices) if record.type == "A"} == {"10.244.1.3"}

    def test_an_unknown_condition_is_ready(self) -> None:
        assert service_records(headless(), [endpoint_slice([endpoint("10.244.1.2")])])

    def test_not_ready_addresses_are_published_on_demand(self) -> None:
        slices = [endpoint_slice([endpoint("10.244.1.2", ready=False)])]
        assert service_records(headless(publishNotReadyAddresses=True), slices)

    @pytest.mark.parametrize("slices", [[], [endpoint_slice([endpoint("10.244.1.2", ready=False)])]])
    def test_without_ready_endpoints_the_name_does_not_exist(self, slices: list[Wire]) -> None:
        assert not service_records(headless(ports=[{"name": "peer", "port": 1}]), slices)

    def test_addresses_of_the_other_family(self) -> None:
        slices = [endpoint_slice([endpoint("fd00::1"), endpoint("fd00::")], family="IPv6")]
        found = lines(service_records(headless(), slices))
        assert "fd00--1.ring.shop.svc.cluster.local AAAA fd00::1" in found
        assert "fd00--0.ring.shop.svc.cluster.local AAAA fd00::" in found

    def test_what_is_no_address_or_no_label_is_passed_over(self) -> None:
        endpoints = [endpoint("no address"), endpoint("10.244.1.2", hostname="not a label"), endpoint("10.244.1.3")]
        slices = [endpoint_slice(endpoints), endpoint_slice([endpoint("db.example")], family="FQDN")]
        assert {record.data for record in service_records(headless(), slices) if record.type == "A"} == {"10.244.1.3"}


class TestExternalName:
    def test_an_alias_and_nothing_else(self) -> None:
        outside = service(type="ExternalName", clusterIP=None, externalName="DB.Example.com.", ports=[])
        slices = [endpoint_slice([endpoint("10.244.1.2")], of="web")]
        assert lines(service_records(outside, slices)) == {"web.shop.svc.cluster.local CNAME db.example.com"}

    @pytest.mark.parametrize("target", ["", "two words", "a..b", "x" * 64 + ".example"])
    def test_what_is_no_name_makes_no_alias(self, target: str) -> None:
        assert not service_records(service(type="ExternalName", externalName=target), ())


class TestPods:
    def test_a_name_for_every_address(self) -> None:
        assert lines(pod_records(pod("a", "10.244.1.2", "fd00::5"))) == {
            "10-244-1-2.shop.pod.cluster.local A 10.244.1.2",
            "fd00--5.shop.pod.cluster.local AAAA fd00::5",
        }

    def test_without_an_address_or_after_its_end_it_has_none(self) -> None:
        assert not pod_records(pod("a"))
        assert not pod_records(pod("a", "10.244.1.2", phase="Succeeded"))


class TestChanges:
    def test_the_first_changes_are_everything(self) -> None:
        records = DnsRecords()
        records.put(service())
        changes = records.changes()
        assert not changes.removed
        assert set(records.records()) == set(changes.added) | {SCHEMA_RECORD}
        assert " ".join(SCHEMA_RECORD) == "dns-version.cluster.local TXT 1.1.0"

    def test_only_the_difference(self) -> None:
        records = DnsRecords()
        records.put(headless())
        records.put(endpoint_slice([endpoint("10.244.1.2"), endpoint("10.244.1.3")]))
        records.changes()
        records.put(endpoint_slice([endpoint("10.244.1.2"), endpoint("10.244.1.4")]))
        changes = records.changes()
        assert {record.data for record in changes.removed if record.type == "A"} == {"10.244.1.3"}
        assert {record.data for record in changes.added if record.type == "A"} == {"10.244.1.4"}
        assert records.changes() == ([], [])

    def test_a_record_that_two_pods_share_stays_until_the_last_one_goes(self) -> None:
        records = DnsRecords()
        for name in ("a", "b"):
            records.put(pod(name, "192.168.1.11"))
        assert len(records.changes().added) == 1
        records.remove(pod("a"))
        assert records.changes() == ([], [])
        records.remove(pod("b"))
        assert len(records.changes().removed) == 1

    def test_what_cannot_be_read_has_no_records_and_does_no_harm(self) -> None:
        records = DnsRecords()
        records.put(service("odd", ports=[{"name": "http"}]))
        records.put(headless())
        records.put({**endpoint_slice([]), "endpoints": ["no endpoint"]})
        records.put({**pod("a", "10.244.1.2"), "status": {"podIPs": ["no entry"]}})
        records.put(service())
        assert {record.data for record in records.changes().added if record.type == "A"} == {"10.96.3.4"}

    def test_a_slice_may_come_before_its_service_and_change_its_service(self) -> None:
        records = DnsRecords()
        records.put(endpoint_slice([endpoint("10.244.1.2")], of="ring"))
        records.put(headless("ring"))
        records.put(headless("other"))
        assert {record.owner for record in records.changes().added if record.type == "A"} == {
            "ring.shop.svc.cluster.local",
            "10-244-1-2.ring.shop.svc.cluster.local",
        }
        records.put(endpoint_slice([endpoint("10.244.1.2")], of="other"))
        changes = records.changes()
        assert all("ring" in " ".join(record) for record in changes.removed)
        assert all("other" in " ".join(record) for record in changes.added)


_ADDRESSES = st.sampled_from(["10.244.1.2", "10.244.1.3", "10.244.2.2", "192.168.1.11"])
_NAMES = st.sampled_from(["web", "ring", "other"])
_ENDPOINTS = st.builds(
    lambda address, hostname, ready: endpoint(address, hostname=hostname, ready=ready),
    _ADDRESSES,
    st.sampled_from([None, "a", "b"]),
    st.booleans(),
)
_PORTS = st.lists(st.sampled_from([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]))
_OBJECTS = st.one_of(
    st.builds(
        lambda name, spec, ports: service(name, **spec, ports=ports),
        _NAMES,
        st.sampled_from(
            [
                {},
                {"clusterIP": "None"},
                {"clusterIP": "None", "publishNotReadyAddresses": True},
                {"clusterIP": "10.96.0.7"},
                {"type": "ExternalName", "externalName": "ring.shop.svc.cluster.local"},
            ]
        ),
        _PORTS,
    ),
    st.builds(
        lambda endpoints, of, name, ports: endpoint_slice(endpoints, of, name, ports),
        st.lists(_ENDPOINTS, max_size=4),
        st.one_of(st.none(), _NAMES),
        st.sampled_from(["s1", "s2", "s3"]),
        _PORTS,
    ),
    st.builds(lambda name, address: pod(name, address), st.sampled_from(["a", "b"]), _ADDRESSES),
)


def _key(wire: Mapping[str, Any]) -> tuple[str, str]:
    return wire["kind"], wire["metadata"]["name"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), _OBJECTS), max_size=25))
def test_applied_changes_equal_records_computed_anew(steps: list[tuple[bool, bool, Wire]]) -> None:
    followed, objects = DnsRecords(), {}
    applied = {SCHEMA_RECORD}
    for removes, asks, wire in steps:
        if removes:
            known = objects.pop(_key(wire), None)
            if known is not None:
                followed.remove(known)
        else:
            objects[_key(wire)] = wire
            followed.put(wire)
        if asks:
            _apply(applied, followed)
    _apply(applied, followed)
    anew = DnsRecords()
    for wire in objects.values():
        anew.put(wire)
    anew.changes()
    assert applied == set(followed.records()) == set(anew.records())


def _apply(applied: set[Record], followed: DnsRecords) -> None:
    changes = followed.changes()
    assert applied.issuperset(changes.removed)
    applied.difference_update(changes.removed)
    assert applied.isdisjoint(changes.added)
    applied.update(changes.added)
