"""Pods that follow each other under one name while the kubelet still has to do with the one before.

The processes' parent answers when the test lets it, so that things happen in the order that is meant.
"""

from __future__ import annotations

import threading
import time

from testbed.cluster.admission import cluster_admission
from testbed.cluster.assign import assign
from testbed.cluster.kinds import EVENT, POD
from testbed.cluster.store import Event, Store
from testbed.cluster.values import NetworkConfig
from testbed.network.containers import ContainerProcess
from testbed.network.kubelet import Kubelet, Machinery
from testbed.network.place import Place
from testbed.network.pods.probes import Verdict
from testbed.network.pods.runner import PodRunner
from testbed.spec.endpoints import EndpointRef
from tests.unit.cluster_objects import edge_nodes

CONFIG = NetworkConfig()
NODES = ("n1", "n2")


class Parent:
    """In the place of the processes' parent: keeps who has asked, and whom it was to end."""

    def __init__(self):
        self.asked, self.ended = [], []

    def make_sandbox(self, key, place, started, ended):
        self.asked.append((started, ended))

    def signal(self, processes, number, *, group=False):
        self.ended += processes

    def forget(self, key, names):
        pass


class Cluster:
    """A kubelet whose thread is the test's own."""

    def __init__(self, monkeypatch, tmp_path):
        monkeypatch.setattr("testbed.network.pods.runner.FOLDERS", tmp_path)
        monkeypatch.setattr(Place, "remove", lambda place: None)
        monkeypatch.setattr(
            PodRunner, "_start", lambda runner, run: run.cannot_start("Waiting", "", None)
        )  # containers are no part of this
        self.parent = Parent()
        self.store = Store(admission=cluster_admission(CONFIG))
        for wire in assign(edge_nodes(2), CONFIG, 24, []):
            self.store.create(wire)
        places = {EndpointRef("node", "", name): Place(name, name, {"/etc/hosts": ""}) for name in NODES}
        machinery = Machinery(CONFIG, dict.fromkeys(NODES, Named()), None, {}, places, self.parent, None)
        self.kubelet = Kubelet(self.store, machinery)
        self.changes = self.store.watch(POD)
        self.processes = {}

    def make(self, name="web", node="n1", **spec):
        """A pod as the scheduler leaves it; the kubelet has not heard of it yet."""
        body = {"hostNetwork": True, "nodeName": node, "containers": [{"name": "main", "image": "pause"}], **spec}
        status = {"phase": "Pending", "podIP": "192.168.1.11"}
        made = self.store.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body, "status": status}
        )
        return made["metadata"]["uid"]

    def delete(self, name="web"):
        self.store.delete(POD, name, grace_period_s=0)

    def hear(self):
        """The kubelet hears at once of all that was written since, and does what is to be done."""
        events = self.changes.next(0)
        self.kubelet.post(lambda: self.kubelet._objects_changed(events))
        self.work()

    def work(self):
        """One round of the kubelet's thread."""
        self.kubelet.post(lambda: None)
        for task in self.kubelet._next_tasks():
            self.kubelet._attempt(task)
        self.kubelet._add_arrived()
        self.kubelet._look_at_touched()

    def runner(self, name="web"):
        return self.kubelet._pods.get(f"default/{name}")

    def answer(self, number):
        """The parent has made the namespaces that it was asked for so many requests ago."""
        self.processes[number] = ContainerProcess(1000 + number)
        self.parent.asked[number][0](self.processes[number], "")
        self.work()

    def end(self, number):
        """The process has ended that keeps these namespaces."""
        self.processes[number].ended(-9)
        self.parent.asked[number][1](-9)
        self.work()
        self.work()


class Named:
    name = "n1"


def test_a_pod_that_is_deleted_while_its_namespaces_are_made_ends_with_them(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    first = cluster.make()
    cluster.hear()
    assert cluster.runner().stage == "making"
    cluster.delete()
    second = cluster.make()
    cluster.hear()
    # There is a process on its way that nobody would end if the pod were over already.
    assert cluster.runner().uid == first and len(cluster.parent.asked) == 1
    cluster.answer(0)
    assert [process.pid for process in cluster.parent.ended[:1]] == [1000]
    cluster.end(0)
    assert cluster.runner().uid == second and len(cluster.parent.asked) == 2


def test_of_two_that_wait_for_a_name_the_later_gets_it(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make()
    missing = [{"name": "files", "configMap": {"name": "nobody"}}]
    cluster.make("other", volumes=missing)
    cluster.hear()
    cluster.answer(0)
    cluster.delete()
    cluster.make()
    cluster.hear()
    # Another pod ends: whoever waits is looked at again, just when the one that waits is replaced.
    cluster.delete("other")
    cluster.hear()
    cluster.delete()
    latest = cluster.make()
    cluster.hear()
    cluster.end(0)
    assert cluster.runner().uid == latest
    assert {runner.uid for runner in cluster.kubelet._pods.values()} == {latest}


def test_one_that_was_deleted_while_it_waited_is_not_made(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make()
    cluster.hear()
    cluster.answer(0)
    cluster.delete()
    cluster.make()
    cluster.hear()
    cluster.delete()
    cluster.store.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "main"}]}}
    )
    cluster.hear()
    cluster.end(0)
    assert cluster.runner() is None and len(cluster.parent.asked) == 1, "the scheduler has not placed the third yet"


def test_a_pod_that_cannot_be_made_does_not_stand_in_the_way_of_the_next(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.kubelet._fail(cluster.store.get(POD, cluster.make() and "web"), "no room")
    cluster.hear()
    assert cluster.runner() is None and cluster.kubelet.failures
    cluster.delete()
    second = cluster.make()
    cluster.hear()
    assert cluster.runner().uid == second and not cluster.kubelet.failures


def test_what_a_silent_node_has_missed_ends_no_later_pod(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make(node="n2")
    cluster.hear()
    cluster.answer(0)
    cluster.kubelet.silence("n2")
    cluster.delete()
    second = cluster.make(node="n1")
    cluster.hear()
    cluster.end(0)
    assert cluster.runner().uid == second
    cluster.kubelet.resume("n2")
    cluster.work()
    assert cluster.runner().stage == "making" and cluster.store.get(POD, "web")["metadata"]["uid"] == second


def test_what_is_said_late_of_a_pod_is_not_taken_for_its_successors(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    first = cluster.make()
    cluster.hear()
    before = cluster.runner()
    cluster.answer(0)
    cluster.delete()
    second = cluster.make()
    cluster.hear()
    cluster.end(0)
    runner = cluster.runner()
    assert runner.uid == second
    taken = []
    monkeypatch.setattr(runner, "take", taken.append)
    for uid in (first, second):
        cluster.kubelet._verdict(Verdict("default/web", uid, "main", 1, "liveness", False, "refused", True))
    cluster.work()
    assert [verdict.uid for verdict in taken] == [second]
    # A timer of the first pod is over in the moment in which the second has something to do.
    worked = []
    monkeypatch.setattr(runner, "work", lambda: worked.append(runner))
    cluster.kubelet.touched(runner)
    cluster.kubelet.touched(before)
    cluster.work()
    assert worked == [runner]


def test_an_older_state_of_a_pod_is_not_taken_for_a_newer(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make()
    cluster.hear()
    cluster.store.patch(POD, "web", {"metadata": {"labels": {"step": "one"}}})
    [late] = cluster.changes.next(0)
    cluster.store.patch(POD, "web", {"metadata": {"labels": {"step": "two"}}})
    cluster.kubelet._report(cluster.runner())  # what it writes comes back with everything that was written before
    assert cluster.runner().pod["metadata"]["labels"] == {"step": "two"}
    cluster.kubelet._objects_changed([Event("MODIFIED", late.object)])
    assert cluster.runner().pod["metadata"]["labels"] == {"step": "two"}


def test_one_who_has_missed_changes_sees_everything_anew(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make("gone")
    first = cluster.make()
    cluster.hear()
    assert cluster.runner().uid == first
    cluster.answer(0)
    cluster.answer(1)
    cluster.delete("gone")
    cluster.delete()
    second = cluster.make()
    third = cluster.make("new")
    events = cluster.kubelet._all_anew()
    cluster.kubelet.post(lambda: cluster.kubelet._objects_changed(events))
    cluster.work()
    for number in (0, 1):
        cluster.end(number)
    assert cluster.runner("gone") is None
    assert (cluster.runner().uid, cluster.runner("new").uid) == (second, third)


def test_what_ends_before_it_is_heard_of_is_made_again_and_an_earlier_end_is_no_later_ones(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make()
    cluster.hear()
    started, ended = cluster.parent.asked[0]
    process = ContainerProcess(1000)
    process.ended(-9)  # its parent has died just after it had answered
    started(process, "")
    ended(-9)
    cluster.work()
    cluster.work()
    assert len(cluster.parent.asked) == 2 and cluster.runner().stage == "making"
    cluster.answer(1)
    ended(-9)
    cluster.work()
    assert cluster.runner().stage == "up" and len(cluster.parent.asked) == 2


def test_a_wait_of_a_million_years_ends_nobody(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    happened = []
    cluster.kubelet.at(time.monotonic() + 1e12, lambda: happened.append("never"))
    cluster.kubelet.at(time.monotonic() + 0.05, lambda: happened.append("soon"))
    while not happened:
        for task in cluster.kubelet._next_tasks():
            task()
    threading.Timer(0.05, cluster.kubelet.post, [lambda: happened.append("now")]).start()
    [task] = cluster.kubelet._next_tasks()
    task()
    assert happened == ["soon", "now"]


def test_one_pods_trouble_is_not_the_others(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    cluster.make("odd")
    cluster.make()
    cluster.hear()
    cluster.answer(0)
    cluster.answer(1)

    def trouble(grace_s):
        raise TypeError("odd")

    monkeypatch.setattr(cluster.runner("odd"), "end", trouble)
    cluster.delete("odd")
    cluster.delete()
    cluster.hear()
    assert cluster.runner().stage == "ending"


def test_the_parent_is_started_again_at_once_and_then_more_slowly(monkeypatch, tmp_path):
    cluster = Cluster(monkeypatch, tmp_path)
    revived = []
    cluster.parent.revive = lambda: revived.append(time.monotonic())
    cluster.kubelet._parent_lost()
    assert len(revived) == 1
    waits = []
    cluster.make()
    cluster.hear()
    for number in range(3):
        died = time.monotonic()
        cluster.kubelet._parent_lost()
        cluster.parent.asked[number][0](None, "the parent does not run")
        cluster.work()
        timer = min(cluster.kubelet._timers)
        waits.append(round(timer.due - died, 1))
        cluster.kubelet._timers.clear()
        timer.act()
        cluster.work()
        assert len(cluster.parent.asked) == number + 2, "pods wait no longer than the parent"
    assert waits == [0.5, 1.0, 2.0] and len(revived) == 4
    told = [event for event in cluster.store.list(EVENT).items if event["involvedObject"]["name"] == "n1"]
    assert {event["reason"]: event["count"] for event in told} == {"ComponentDied": 4, "ComponentRestarted": 4}
