"""Events: what the cluster tells of what it did."""

from __future__ import annotations

from typing import Any

from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import EVENT
from testbed.cluster.store import Store

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"containers": []},
}


def events(store: Store) -> list[tuple[str, str, int]]:
    return [(wire["reason"], wire["message"], wire["count"]) for wire in store.list(EVENT).items]


def test_an_event_names_its_object_and_who_says_it() -> None:
    store = Store()
    EventRecorder(store, "kubelet").record(store.create(POD), "Normal", "Started", "Started container web")
    (event,) = store.list(EVENT).items
    assert event["metadata"]["namespace"] == "shop"
    assert event["involvedObject"]["kind"] == "Pod" and event["involvedObject"]["name"] == "web"
    assert event["involvedObject"]["uid"] and event["source"] == {"component": "kubelet"}


def test_objects_of_long_names_have_events() -> None:
    """Kubernetes allows 253 characters, and an Event's name is longer than its object's."""
    store, names = Store(), ["a" * 253, "b" * 235 + ".cut-here", "d" * 236]
    for name in names:
        named = store.create({**POD, "metadata": {"name": name, "namespace": "shop"}})
        EventRecorder(store, "kubelet").record(named, "Normal", "Started", "Started container web")
    assert [wire["involvedObject"]["name"] for wire in store.list(EVENT).items] == names


def test_the_same_again_is_counted() -> None:
    store = Store()
    recorder, pod = EventRecorder(store, "kubelet"), store.create(POD)
    for _ in range(3):
        recorder.record(pod, "Warning", "BackOff", "Back-off restarting failed container")
    recorder.record(pod, "Normal", "Killing", "Stopping container web")
    assert sorted(events(store)) == [
        ("BackOff", "Back-off restarting failed container", 3),
        ("Killing", "Stopping container web", 1),
    ]


def test_an_event_that_somebody_deleted_is_said_anew() -> None:
    store = Store()
    recorder, pod = EventRecorder(store, "kubelet"), store.create(POD)
    recorder.record(pod, "Normal", "Pulled", "Container image is there")
    store.delete(EVENT, store.list(EVENT).items[0]["metadata"]["name"], "shop")
    recorder.record(pod, "Normal", "Pulled", "Container image is there")
    assert events(store) == [("Pulled", "Container image is there", 1)]


def test_what_differs_only_in_its_message_is_combined_after_a_while() -> None:
    store = Store()
    recorder, owner = EventRecorder(store, "replicaset-controller"), store.create(POD)
    for number in range(40):
        recorder.record(owner, "Normal", "SuccessfulCreate", f"Created pod: web-{number}")
    recorder.record(owner, "Normal", "SuccessfulDelete", "Deleted pod: web-1")
    found = events(store)
    assert len(found) == 27
    assert ("SuccessfulCreate", "(combined from similar events): Created pod: web-39", 15) in found
    recorder.record(owner, "Normal", "SuccessfulCreate", "Created pod: web-3")
    assert ("SuccessfulCreate", "Created pod: web-3", 2) in events(store)


def test_events_of_an_object_are_listed_in_the_order_in_which_they_came() -> None:
    store = Store()
    owner = store.create(POD)
    recorders = [EventRecorder(store, component) for component in ("kubelet", "default-scheduler")]
    for number in range(20):
        recorders[number % 2].record(owner, "Normal", f"Step{number}", "text")
    assert [reason for reason, _, _ in events(store)] == [f"Step{number}" for number in range(20)]
