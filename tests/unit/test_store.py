"""The object store: versions, concurrency, watches that replay to the list."""

from __future__ import annotations

import calendar
import threading
import time
from copy import deepcopy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.cluster.kinds import CONFIG_MAP, KINDS, NODE, POD, kind_of
from testbed.cluster.objects import resource_version
from testbed.cluster.status import AlreadyExists, ApiError, BadRequest, Conflict, Expired, Invalid, NotFound
from testbed.cluster.store import Store, merge_patch
from tests.unit.cluster_objects import config_map, pod


@pytest.fixture
def store():
    return Store()


def types_and_names(events):
    return [(event.type, event.object["metadata"]["name"]) for event in events]


# Writing


def test_create_completes_the_metadata_and_leaves_the_argument_alone(store):
    manifest = pod("a")
    before = deepcopy(manifest)
    stored = store.create(manifest)
    assert manifest == before
    metadata = stored["metadata"]
    assert (metadata["namespace"], metadata["generation"], metadata["resourceVersion"]) == ("default", 1, "1")
    assert len(metadata["uid"]) == 36
    stamp = time.strptime(metadata["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    assert abs(calendar.timegm(stamp) - time.time()) < 60
    manifest["spec"]["containers"][0]["image"] = "changed later"
    assert store.get(POD, "a") == stored
    assert stored["spec"]["containers"][0]["image"] == "busybox"


def test_versions_count_up_over_all_kinds(store):
    versions = [resource_version(store.create(wire)) for wire in (pod("a"), config_map("a"), pod("b"))]
    assert versions == [1, 2, 3]
    assert resource_version(store.delete(POD, "a")) == 4
    assert store.resource_version == 4


def test_names_are_unique_per_kind_and_namespace(store):
    store.create(pod("a"))
    store.create(pod("a", "shop"))
    store.create(config_map("a"))
    with pytest.raises(AlreadyExists, match='pods "a" already exists'):
        store.create(pod("a", "default"))


def test_replace_needs_the_version_that_was_read(store):
    first = store.create(config_map("a", v="1"))
    second = store.replace({**first, "data": {"v": "2"}})
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    with pytest.raises(Conflict, match="the object has been modified"):
        store.replace({**first, "data": {"v": "3"}})
    # Without a version it overwrites, as in Kubernetes.
    assert store.replace(config_map("a", v="4"))["data"] == {"v": "4"}


def test_an_object_that_was_made_anew_is_not_the_one_that_was_read(store):
    first = store.create(pod("a"))
    store.delete(POD, "a")
    store.create(pod("a"))
    del first["metadata"]["resourceVersion"]
    with pytest.raises(Conflict, match="the object is another one"):
        store.replace(first)


def test_generation_counts_changes_of_the_spec_only(store):
    store.create(pod("a"))
    assert store.patch(POD, "a", {"status": {"phase": "Running"}})["metadata"]["generation"] == 1
    assert store.patch(POD, "a", {"spec": {"nodeName": "n1"}})["metadata"]["generation"] == 2


def test_a_write_that_changes_nothing_makes_no_version_and_no_event(store):
    created = store.create(config_map("a", v="1"))
    with store.watch(CONFIG_MAP) as watch:
        assert store.replace(config_map("a", v="1")) == created
        assert store.patch(CONFIG_MAP, "a", {"data": {"v": "1"}}) == created
        assert store.resource_version == 1
        assert watch.next(0) == ()


def test_what_identifies_an_object_cannot_be_written(store):
    created = store.create(pod("a"))
    for field in ("creationTimestamp", "generation"):
        changed = store.patch(POD, "a", {"metadata": {field: None, "labels": {"l": field}}})
        assert changed["metadata"][field] == created["metadata"][field]
    for patch in ({"metadata": {"name": "b"}}, {"metadata": {"namespace": "shop"}}, {"kind": "Node"}):
        with pytest.raises(BadRequest, match="a patch cannot change"):
            store.patch(POD, "a", patch)
    with pytest.raises(BadRequest, match="resourceVersion should not be set"):
        store.create({**pod("b"), "metadata": {"name": "b", "resourceVersion": "1"}})


def test_what_is_not_there(store):
    for act in (
        lambda: store.get(POD, "a"),
        lambda: store.replace(pod("a")),
        lambda: store.patch(POD, "a", {}),
        lambda: store.delete(POD, "a"),
    ):
        with pytest.raises(NotFound, match='pods "a" not found'):
            act()


@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": None},
        {"metadata": []},
        {"metadata": {}},
        {"metadata": {"name": "Upper"}},
        {"metadata": {"name": "a/b"}},
        {"metadata": {"name": "a", "namespace": ""}},
        {"metadata": {"name": "a", "namespace": 5}},
        {"metadata": {"name": "a", "labels": ["x"]}},
        {"metadata": {"name": "a", "annotations": {"x": 1}}},
        {"spec": []},
        {"status": "x"},
        {"spec": {"address": object()}},
    ],
)
def test_malformed_objects_are_refused_and_nothing_is_stored(store, broken):
    with pytest.raises(Invalid) as caught:
        store.create({**pod("a"), **broken})
    assert caught.value.status()["code"] == 422
    assert store.list(POD).items == []


def test_kinds_that_are_not_served_are_refused(store):
    for wire in ({"apiVersion": "v1", "kind": "Pot"}, {"apiVersion": "v2", "kind": "Pod"}, {}, {"kind": ["Pod"]}):
        with pytest.raises(BadRequest, match="no kind"):
            store.create(wire)


def test_nodes_have_no_namespace(store):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "namespace": "shop"}}
    assert "namespace" not in store.create(node)["metadata"]
    assert store.get(NODE, "n1")["metadata"]["name"] == "n1"


def test_every_kind_has_its_own_path_and_type():
    assert len({kind.path() for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert kind_of({"apiVersion": kind.api_version, "kind": kind.name}) is kind
    assert POD.path("shop", "a") == "/api/v1/namespaces/shop/pods/a"
    assert NODE.path("shop", "n1") == "/api/v1/nodes/n1"


# The examples of RFC 7396, appendix A, whose results are objects.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target, patch, result):
    before = deepcopy(target)
    assert merge_patch(target, patch) == result
    assert target == before


# Watching


def test_a_watch_returns_what_came_together_together(store):
    with store.watch(POD) as watch:
        store.create(pod("a"))
        store.create(config_map("other"))
        store.patch(POD, "a", {"spec": {"nodeName": "n1"}})
        store.delete(POD, "a")
        events = watch.next(0)
        assert types_and_names(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert [resource_version(event.object) for event in events] == [1, 3, 4]
        assert watch.resource_version == 4
        assert watch.next(0) == ()


def test_a_watch_waits_and_wakes_at_once(store):
    seen = []

    def follow():
        with store.watch(POD, 0) as watch:
            events = watch.next(5)
            seen.append((time.perf_counter(), events))

    thread = threading.Thread(target=follow)
    thread.start()
    written = time.perf_counter()
    store.create(pod("a"))
    thread.join(5)
    [(when, events)] = seen
    assert types_and_names(events) == [("ADDED", "a")]
    assert when - written < 0.5, "woken, not timed out"


def test_changes_of_other_kinds_move_the_version_but_wake_nobody(store):
    with store.watch(NODE) as watch:
        store.create(pod("a"))
        assert watch.next(0) == ()
        assert watch.resource_version == 1


def test_closing_ends_a_waiting_reader(store):
    watch = store.watch(POD)
    results = []
    thread = threading.Thread(target=lambda: results.append(watch.next(30)))
    thread.start()
    watch.close()
    thread.join(5)
    assert results == [()] and watch.closed


def test_history_is_a_window_and_its_loss_is_said(store):
    small = Store(history=4)
    slow = small.watch(POD)
    for index in range(20):
        small.create(pod(f"w{index}"))
    with pytest.raises(Expired, match="too old resource version: 0"):
        slow.next(0)
    with pytest.raises(Expired):
        small.watch(POD, 1)
    with small.watch(POD, 16) as watch:
        assert types_and_names(watch.next(0)) == [("ADDED", f"w{index}") for index in range(16, 20)]
    # Another kind's window is its own: nothing that concerns nodes was lost.
    with small.watch(NODE, 1) as watch:
        assert watch.next(0) == ()


def test_old_changes_are_let_go_but_for_the_newest(store, monkeypatch):
    def change(times):
        for index in range(times):
            store.patch(POD, "web", {"metadata": {"labels": {"step": f"{len(versions)}.{index}"}}})
            versions.append(store.resource_version)

    versions = []
    store.create(pod("web"))
    change(3000)
    assert len(store.watch(POD, versions[0]).next(0)) == 2999, "no minute has passed"
    monkeypatch.setattr("testbed.cluster.store._KEPT_S", 0.0)
    change(3000)
    with pytest.raises(Expired):
        store.watch(POD, versions[-300])
    assert len(store.watch(POD, versions[-100]).next(0)) == 99


def test_a_version_this_store_never_had_is_expired(store):
    with pytest.raises(Expired):
        store.watch(POD, 7)


def test_a_selecting_watch_sees_objects_enter_and_leave(store):
    with store.watch(POD, matches=lambda wire: wire["spec"].get("nodeName") == "n1") as watch:
        store.create(pod("elsewhere", nodeName="n2"))
        store.create(pod("a"))
        store.patch(POD, "a", {"spec": {"nodeName": "n1"}})
        store.patch(POD, "a", {"status": {"phase": "Running"}})
        left = store.patch(POD, "a", {"spec": {"nodeName": "n2"}})
        store.delete(POD, "a")
        added, modified, deleted = watch.next(0)
    assert types_and_names((added, modified, deleted)) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    # The object as it last matched, at the version at which it ceased to.
    assert deleted.object["spec"]["nodeName"] == "n1"
    assert resource_version(deleted.object) == resource_version(left)


def test_a_watch_of_several_kinds_keeps_the_order_of_writing(store):
    store.create(pod("before"))
    objects, watch = store.follow([NODE, POD])
    assert [wire["metadata"]["name"] for wire in objects] == ["before"]
    store.create(pod("a"))
    store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    store.create(config_map("other"))
    store.delete(POD, "a")
    assert types_and_names(watch.next(0)) == [("ADDED", "a"), ("ADDED", "n1"), ("DELETED", "a")]
    assert watch.next(0) == ()


def test_a_reader_that_says_when_it_is_done_can_be_waited_for(store):
    watch = store.watch([POD, NODE])
    assert watch.wait_handled(0), "nothing has happened"
    store.create(pod("a"))
    assert not watch.wait_handled(0.01)
    watch.next(0)
    assert not watch.wait_handled(0.01), "read, but not dealt with"
    done = threading.Event()
    waiter = threading.Thread(target=lambda: watch.wait_handled(5) and done.set())
    waiter.start()
    watch.handled()
    waiter.join(5)
    assert done.is_set()


# Deleting


RUNNING = {"status": {"phase": "Running"}}


def test_a_running_pod_terminates_until_it_is_said_to_have_ended(store):
    store.create({**pod("a"), **RUNNING})
    with store.watch(POD) as watch:
        terminating = store.delete(POD, "a")
        assert terminating["metadata"]["deletionGracePeriodSeconds"] == 30
        ends = calendar.timegm(time.strptime(terminating["metadata"]["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ"))
        assert abs(ends - time.time() - 30) < 5
        # Again, or with more time: nothing new. With less: sooner.
        assert store.delete(POD, "a", grace_period_s=60) is terminating
        assert store.delete(POD, "a", grace_period_s=5)["metadata"]["deletionGracePeriodSeconds"] == 5
        # What is written meanwhile, even without the mark, does not bring it back.
        assert "deletionTimestamp" in store.replace({**pod("a", nodeName="n2"), **RUNNING})["metadata"]
        store.delete(POD, "a", grace_period_s=0)
        assert [event.type for event in watch.next(0)] == ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
    with pytest.raises(NotFound):
        store.get(POD, "a")


def test_the_pods_own_grace_period_holds(store):
    store.create({**pod("a", terminationGracePeriodSeconds=3), **RUNNING})
    assert store.delete(POD, "a")["metadata"]["deletionGracePeriodSeconds"] == 3


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed", None])
def test_a_pod_of_which_nothing_runs_goes_at_once(store, phase):
    store.create({**pod("a", nodeName="n1"), "status": {"phase": phase} if phase else None})
    store.delete(POD, "a")
    assert store.list(POD).items == []


def test_nobody_can_mark_an_object_as_terminating_by_writing(store):
    marked = pod("a")
    marked["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert "deletionTimestamp" not in store.create(marked)["metadata"]
    assert "deletionTimestamp" not in store.replace(marked)["metadata"]


# Owners, status, admission


def test_an_owner_without_uid_is_the_object_that_has_the_name(store):
    owner = store.create(config_map("owner", "shop"))
    owned = pod("a", "shop")
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"},
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone"},
    ]
    first, second = store.create(owned)["metadata"]["ownerReferences"]
    assert first["uid"] == owner["metadata"]["uid"]
    assert "uid" not in second


def test_an_object_replaced_by_one_without_status_keeps_its_own(store):
    store.create({**pod("a"), **RUNNING})
    assert store.replace(pod("a", nodeName="n1"))["status"] == {"phase": "Running"}
    assert store.replace({**pod("a"), "status": {"phase": "Failed"}})["status"] == {"phase": "Failed"}


def test_admission_sees_every_write_before_it_happens_and_can_refuse():
    seen = []

    def admission(kind, old, new):
        names = [wire and wire["metadata"]["name"] for wire in (old, new)]
        seen.append((kind.name, *names))
        if new is not None:
            if new["spec"].get("nodeName") == "bad":
                raise Invalid("no")
            new["spec"]["seen"] = True

    store = Store(admission=admission)
    assert store.create(pod("a"))["spec"]["seen"] is True
    assert store.patch(POD, "a", {"spec": {"seen": None}}) is store.get(POD, "a"), "completed, so nothing changes"
    for act in (lambda: store.create(pod("b", nodeName="bad")), lambda: store.replace(pod("a", nodeName="bad"))):
        with pytest.raises(Invalid):
            act()
    assert store.resource_version == 1
    store.delete(POD, "a")
    assert seen == [
        ("Pod", None, "a"),
        ("Pod", "a", "a"),
        ("Pod", None, "b"),
        ("Pod", "a", "a"),
        ("Pod", "a", None),
    ]


class StoreMachine(RuleBasedStateMachine):
    """Random writes; a replayed watch from any point gives the list, and versions only grow."""

    names = st.sampled_from(["a", "b", "c"])
    namespaces = st.sampled_from(["default", "shop"])

    @initialize()
    def begin(self):
        self.store = Store(history=1000)
        self.version = 0
        self.snapshots = [({}, 0)]

    def write(self, act):
        try:
            result = act()
        except ApiError as error:
            assert error.code in (404, 409)
            assert self.store.resource_version == self.version
            return
        changed = self.store.resource_version > self.version
        assert resource_version(result) == self.version + 1 if changed else resource_version(result) <= self.version
        self.version = self.store.resource_version

    @rule(name=names, namespace=namespaces)
    def create(self, name, namespace):
        self.write(lambda: self.store.create(pod(name, namespace)))

    @rule(name=names, namespace=namespaces, value=st.sampled_from(["n1", "n2"]))
    def patch(self, name, namespace, value):
        self.write(lambda: self.store.patch(POD, name, {"spec": {"nodeName": value}}, namespace))

    @rule(name=names, namespace=namespaces, version=st.none() | st.integers(1, 9))
    def replace(self, name, namespace, version):
        wire = pod(name, namespace)
        if version is not None:
            wire["metadata"]["resourceVersion"] = str(version)
        self.write(lambda: self.store.replace(wire))

    @rule(name=names, namespace=namespaces)
    def delete(self, name, namespace):
        self.write(lambda: self.store.delete(POD, name, namespace))

    @rule(name=names)
    def other_kind(self, name):
        self.write(lambda: self.store.create(config_map(name)))

    @rule()
    def snapshot(self):
        self.snapshots.append((self.listed(), self.store.resource_version))

    def listed(self):
        return {self.key(wire): wire for wire in self.store.list(POD).items}

    @staticmethod
    def key(wire):
        return wire["metadata"]["namespace"], wire["metadata"]["name"]

    @invariant()
    def every_replay_equals_the_list(self):
        for objects, version in self.snapshots:
            replayed = dict(objects)
            with self.store.watch(POD, version) as watch:
                events = watch.next(0)
            versions = [resource_version(event.object) for event in events]
            assert versions == sorted(set(versions)) and all(later > version for later in versions)
            for event in events:
                assert (self.key(event.object) in replayed) == (event.type != "ADDED")
                if event.type == "DELETED":
                    del replayed[self.key(event.object)]
                else:
                    replayed[self.key(event.object)] = event.object
            assert replayed == self.listed()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_writers_in_many_threads_lose_nothing(store):
    store.create(config_map("counter", value="0"))

    def count_up():
        for _ in range(50):
            while True:
                read = store.get(CONFIG_MAP, "counter")
                try:
                    store.replace({**read, "data": {"value": str(int(read["data"]["value"]) + 1)}})
                    break
                except Conflict:
                    continue

    with store.watch(CONFIG_MAP) as watch:
        threads = [threading.Thread(target=count_up) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        values = [int(event.object["data"]["value"]) for event in watch.next(0)]
    assert values == list(range(1, 201))


def test_creating_is_cheap():
    def seconds():
        store = Store()
        watches = [store.watch(POD) for _ in range(3)]
        pods = [pod(f"w{index}") for index in range(1000)]
        started = time.thread_time()
        for wire in pods:
            store.create(wire)
        elapsed = time.thread_time() - started
        assert all(len(watch.next(0)) == 1000 for watch in watches)
        return elapsed

    assert min(seconds() for _ in range(3)) < 0.1, "100 us a pod is several times what it takes"
