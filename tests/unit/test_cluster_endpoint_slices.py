"""Slices match pods, as Kubernetes' rules have it, and change no more than they must."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.endpoint_slices import MANAGED_BY, MAX_ENDPOINTS, endpoint_slices, mirrored_slices
from testbed.cluster.objects import object_name
from testbed.cluster.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from tests.unit.cluster_objects import endpoint_slice, pod, service


def running(name, address, ready=True, labels=None, ports=(), phase="Running", terminating=False, **spec):
    """A pod on node n1."""
    wire = pod(name, "default", nodeName="n1", **spec)
    wire["metadata"]["labels"] = {"app": "web"} if labels is None else labels
    wire["spec"]["containers"][0]["ports"] = [
        {"name": port_name, "containerPort": number, "protocol": protocol} for port_name, number, protocol in ports
    ]
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    wire["status"] = {"phase": phase, "conditions": conditions, "podIP": address}
    if terminating:
        wire["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return wire


def addresses(slices):
    return sorted(endpoint["addresses"][0] for wire in slices for endpoint in wire["endpoints"])


def test_a_pod_becomes_an_endpoint():
    [made] = endpoint_slices(service("web"), [running("a", "10.244.0.2")])
    assert made["metadata"]["labels"] == {SERVICE_NAME_LABEL: "web", MANAGED_BY_LABEL: MANAGED_BY}
    assert made["metadata"]["name"].startswith("web-") and len(made["metadata"]["name"]) == 9
    assert (made["addressType"], made["ports"]) == ("IPv4", [{"name": "", "protocol": "TCP", "port": 80}])
    assert made["endpoints"] == [
        {
            "addresses": ["10.244.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "name": "a", "namespace": "default"},
            "nodeName": "n1",
        }
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [("ready", "serving")]),
        ({"ready": False}, [()]),
        ({"terminating": True}, [("serving", "terminating")]),
        ({"terminating": True, "ready": False}, [("terminating",)]),
        ({"phase": "Succeeded"}, []),
        ({"phase": "Failed"}, []),
        ({"address": ""}, []),
        ({"labels": {"app": "other"}}, []),
        ({"labels": {"app": "web", "more": "x"}}, [("ready", "serving")]),
    ],
)
def test_which_pods_are_endpoints_and_in_what_condition(change, expected):
    arguments = {"address": "10.244.0.2", **change}
    made = endpoint_slices(service("web"), [running("a", **arguments)])
    conditions = [endpoint["conditions"] for wire in made for endpoint in wire["endpoints"]]
    assert [tuple(name for name, value in entry.items() if value) for entry in conditions] == expected


def test_not_ready_addresses_are_published_when_asked_for():
    web = service("web", publishNotReadyAddresses=True)
    [made] = endpoint_slices(web, [running("a", "10.244.0.2", ready=False, terminating=True)])
    assert made["endpoints"][0]["conditions"] == {"ready": True, "serving": False, "terminating": True}


def test_a_named_target_port_is_each_pods_own_number():
    web = service("web", ports=[{"name": "http", "port": 80, "targetPort": "http"}, {"name": "raw", "port": 9}])
    pods = [
        running("a", "10.0.0.1", ports=[("http", 8080, "TCP")]),
        running("b", "10.0.0.2", ports=[("http", 9090, "TCP")]),
        running("c", "10.0.0.3", ports=[("http", 8080, "TCP")]),
        running("d", "10.0.0.4", ports=[("http", 7070, "UDP")]),
    ]
    made = {
        tuple((entry["name"], entry["port"]) for entry in wire["ports"]): addresses([wire])
        for wire in endpoint_slices(web, pods)
    }
    assert made == {
        (("http", 8080), ("raw", 9)): ["10.0.0.1", "10.0.0.3"],
        (("http", 9090), ("raw", 9)): ["10.0.0.2"],
        (("raw", 9),): ["10.0.0.4"],  # its port of that name is of another protocol
    }


def test_a_hostname_is_told_to_the_service_that_is_the_pods_subdomain():
    pods = [running("a", "10.0.0.1", hostname="first", subdomain="web"), running("b", "10.0.0.2", hostname="second")]
    [made] = endpoint_slices(service("web", clusterIP="None"), pods)
    assert [endpoint.get("hostname") for endpoint in made["endpoints"]] == ["first", None]
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_a_headless_service_without_ports_still_has_endpoints():
    [made] = endpoint_slices(service("web", clusterIP="None", ports=None), [running("a", "10.0.0.1")])
    assert (made["ports"], addresses([made])) == ([], ["10.0.0.1"])


@pytest.mark.parametrize("spec", [{"selector": None}, {"selector": {}}, {"type": "ExternalName"}])
def test_without_selector_there_is_nothing_to_keep(spec):
    assert endpoint_slices(service("web", **spec), [running("a", "10.0.0.1")]) == []


def test_a_full_slice_is_followed_by_another_and_a_gap_is_filled_first():
    pods = [running(f"p{i:03}", f"10.0.{i // 250}.{i % 250 + 1}") for i in range(2 * MAX_ENDPOINTS + 1)]
    before = endpoint_slices(service("web"), pods)
    assert sorted(len(wire["endpoints"]) for wire in before) == [1, MAX_ENDPOINTS, MAX_ENDPOINTS]
    assert len({object_name(wire) for wire in before}) == 3
    changed = [wire for wire in pods if wire["metadata"]["name"] != "p050"]
    after = endpoint_slices(service("web"), changed, before)
    assert sum(new is not old for new, old in zip(after, before, strict=True)) == 1
    again = endpoint_slices(service("web"), [*changed, running("new", "10.0.9.9")], after)
    assert sum(new is not old for new, old in zip(again, after, strict=True)) == 1
    assert max(len(wire["endpoints"]) for wire in again) == MAX_ENDPOINTS


def test_slices_of_other_makers_are_left_alone_and_their_names_avoided():
    [derived] = endpoint_slices(service("web"), [running("a", "10.0.0.1")])
    foreign = endpoint_slice("web", "192.0.2.1", suffix=object_name(derived).removeprefix("web-"))
    [made] = endpoint_slices(service("web"), [running("a", "10.0.0.1")], [foreign])
    assert object_name(made) != object_name(foreign)
    assert addresses([made]) == ["10.0.0.1"]


def test_equal_input_gives_equal_slices():
    pods = [running(f"p{i}", f"10.0.0.{i + 1}") for i in range(5)]
    assert endpoint_slices(service("web"), pods) == endpoint_slices(service("web"), reversed(deepcopy(pods)))


def test_endpoints_that_a_person_wrote_are_mirrored():
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db", "namespace": "default"},
        "subsets": [
            {
                "addresses": [{"ip": "192.0.2.1", "nodeName": "n3"}],
                "notReadyAddresses": [{"ip": "192.0.2.2"}],
                "ports": [{"name": "sql", "port": 5432}],
            },
            {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"name": "sql", "port": 6432}]},
        ],
    }
    db = service("db", selector=None)
    made = mirrored_slices(db, endpoints)
    found = {
        (endpoint["addresses"][0], endpoint.get("nodeName"), endpoint["conditions"]["ready"], wire["ports"][0]["port"])
        for wire in made
        for endpoint in wire["endpoints"]
    }
    assert found == {
        ("192.0.2.1", "n3", True, 5432),
        ("192.0.2.2", None, False, 5432),
        ("192.0.2.3", None, True, 6432),
    }
    again = mirrored_slices(db, deepcopy(endpoints), made)
    assert all(new is old for new, old in zip(again, made, strict=True))
    # With a selector the Service's endpoints are its pods.
    assert mirrored_slices(service("db"), endpoints) == []


PODS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.booleans(),
        st.booleans(),
        st.sampled_from([(), (("http", 8080, "TCP"),), (("http", 9090, "TCP"),)]),
        st.sampled_from(["web", "other"]),
    ),
    unique_by=lambda entry: entry[0],
    max_size=12,
)


@given(st.lists(PODS, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_slices_that_follow_changes_hold_what_slices_from_nothing_hold(rounds):
    web = service("web", ports=[{"port": 80, "targetPort": "http"}])
    existing = []
    for entries in rounds:
        pods = [
            running(f"p{number}", f"10.0.0.{number + 1}", ready, {"app": app}, ports, terminating=terminating)
            for number, ready, terminating, ports, app in entries
        ]
        made = endpoint_slices(web, pods, existing)
        assert contents(made) == contents(endpoint_slices(web, pods))
        assert len({object_name(wire) for wire in made}) == len(made)
        assert all(0 < len(wire["endpoints"]) <= MAX_ENDPOINTS for wire in made)
        selected = {wire["metadata"]["name"] for wire in pods if wire["metadata"]["labels"]["app"] == "web"}
        assert selected == {endpoint["targetRef"]["name"] for wire in made for endpoint in wire["endpoints"]}
        existing = made


def contents(slices):
    """Every endpoint with its ports, wherever it is."""
    return sorted(
        (endpoint["addresses"][0], str(wire["ports"]), str(endpoint))
        for wire in slices
        for endpoint in wire["endpoints"]
    )
