"""Endpoints objects: what a Service's slices say, in the older form, and when they are written."""

from __future__ import annotations

from typing import Any

from testbed.cluster.endpoint_slices import MANAGED_BY
from testbed.cluster.endpoints_loop import MAX_ADDRESSES, EndpointsLoop, endpoints_of
from testbed.cluster.kinds import ENDPOINT_SLICE, ENDPOINTS, SERVICE
from testbed.cluster.store import Store


def service(**fields: Any) -> dict[str, Any]:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}], **fields}
    metadata = {"name": "web", "namespace": "shop", "labels": {"tier": "front"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def endpoint(address: str, ready: bool = True, terminating: bool = False) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": ready and not terminating, "serving": ready, "terminating": terminating},
        "nodeName": "n1",
        "targetRef": {"kind": "Pod", "name": f"pod-{address}", "namespace": "shop"},
    }


def slice_of(name: str, *endpoints: dict[str, Any], port: int = 8080, port_name: str = "") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": MANAGED_BY}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": port_name, "protocol": "TCP", "port": port}],
        "endpoints": list(endpoints),
    }


def addresses(wire: dict[str, Any], field: str = "addresses") -> list[list[str]]:
    return [[entry["ip"] for entry in subset.get(field, [])] for subset in wire.get("subsets", [])]


def test_addresses_of_all_slices_stand_in_the_order_of_their_numbers() -> None:
    made = endpoints_of(service(), [slice_of("b", endpoint("10.0.0.10")), slice_of("a", endpoint("10.0.0.9"))])
    assert addresses(made) == [["10.0.0.9", "10.0.0.10"]]
    assert made["subsets"][0]["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert made["subsets"][0]["addresses"][0] == {
        "ip": "10.0.0.9",
        "nodeName": "n1",
        "targetRef": {"kind": "Pod", "name": "pod-10.0.0.9", "namespace": "shop"},
    }
    assert made["metadata"] == {"name": "web", "namespace": "shop", "labels": {"tier": "front"}}


def test_pods_that_are_not_ready_stand_apart_and_those_that_end_not_at_all() -> None:
    wire = slice_of(
        "a", endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False), endpoint("10.0.0.3", terminating=True)
    )
    made = endpoints_of(service(), [wire])
    assert addresses(made) == [["10.0.0.1"]]
    assert addresses(made, "notReadyAddresses") == [["10.0.0.2"]]


def test_pods_with_other_ports_are_a_subset_of_their_own() -> None:
    made = endpoints_of(
        service(), [slice_of("a", endpoint("10.0.0.1"), port_name="http"), slice_of("b", endpoint("10.0.0.2"), port=81)]
    )
    assert addresses(made) == [["10.0.0.2"], ["10.0.0.1"]]
    assert [subset["ports"][0]["port"] for subset in made["subsets"]] == [81, 8080]
    assert made["subsets"][1]["ports"][0]["name"] == "http"


def test_a_service_without_endpoints_and_a_headless_one() -> None:
    made = endpoints_of(service(clusterIP="None"), [])
    assert "subsets" not in made
    assert made["metadata"]["labels"] == {"tier": "front", "service.kubernetes.io/headless": ""}


def test_more_than_a_thousand_addresses_are_cut_and_it_is_said() -> None:
    many = [endpoint(f"10.0.{number // 250}.{number % 250}") for number in range(MAX_ADDRESSES + 5)]
    made = endpoints_of(service(), [slice_of("a", *many)])
    assert len(made["subsets"][0]["addresses"]) == MAX_ADDRESSES
    assert made["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}


class Follower:
    """A store and the loop, told of every change as Loops tells it."""

    def __init__(self) -> None:
        self.store = Store()
        self.loop = EndpointsLoop(self.store)
        _, self.watch = self.store.follow((SERVICE, ENDPOINT_SLICE, ENDPOINTS))

    def settle(self) -> int:
        """Tell the loop of everything until it writes no more; how many changes there were."""
        changes = 0
        while events := self.watch.next(0.0):
            changes += len(events)
            for event in events:
                (self.loop.remove if event.type == "DELETED" else self.loop.put)(event.object)
            self.loop.work()
        return changes

    def endpoints(self) -> list[dict[str, Any]]:
        return list(self.store.list(ENDPOINTS).items)


def test_the_loop_follows_slices_and_services() -> None:
    cluster = Follower()
    cluster.store.create(service())
    cluster.settle()
    assert [addresses(wire) for wire in cluster.endpoints()] == [[]]
    cluster.store.create(slice_of("a", endpoint("10.0.0.1")))
    cluster.settle()
    assert [addresses(wire) for wire in cluster.endpoints()] == [[["10.0.0.1"]]]
    cluster.store.delete(ENDPOINT_SLICE, "a", "shop")
    cluster.settle()
    assert [addresses(wire) for wire in cluster.endpoints()] == [[]]
    cluster.store.delete(SERVICE, "web", "shop")
    cluster.settle()
    assert cluster.endpoints() == []


def test_what_a_person_changed_or_deleted_is_put_right_and_nothing_is_written_twice() -> None:
    cluster = Follower()
    cluster.store.create(service())
    cluster.store.create(slice_of("a", endpoint("10.0.0.1")))
    cluster.settle()
    (right,) = cluster.endpoints()
    cluster.store.replace({**right, "subsets": []})
    assert cluster.settle() == 2  # the person's, and the loop's
    assert addresses(cluster.endpoints()[0]) == [["10.0.0.1"]]
    cluster.store.delete(ENDPOINTS, "web", "shop")
    cluster.settle()
    assert addresses(cluster.endpoints()[0]) == [["10.0.0.1"]]


def test_endpoints_of_a_service_without_selector_are_a_persons_own() -> None:
    cluster = Follower()
    cluster.store.create(service(selector=None))
    own = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "shop"}}
    own["subsets"] = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]
    cluster.store.create(own)
    cluster.settle()
    assert addresses(cluster.endpoints()[0]) == [["192.0.2.1"]]
