"""Nodes that fall silent, are cordoned and tainted: their state, their pods, and where the scheduler puts others."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

from testbed.cluster.kinds import DEPLOYMENT, LEASE, NAMESPACE, NODE, POD
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.namespaces import create_namespaces
from testbed.cluster.node_fit import matches_node, tolerated_s, untolerated
from testbed.cluster.node_heartbeat import LEASE_NAMESPACE, node_heartbeat
from testbed.cluster.objects import object_name
from testbed.cluster.pod_facts import condition, is_ready, is_terminating
from testbed.network.heartbeats import Heartbeats
from tests.unit.cluster_objects import daemon_set, deployment, pod, service, stateful_set
from tests.unit.living_cluster import Cluster

QUICK = LoopSettings(node_grace_s=0.5, eviction_after_s=0.4)


class Hearts:
    """Nodes that say every now and then that they are alive."""

    def __init__(self, store, *nodes):
        self.store, self.alive = store, set(nodes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self):
        for name in self.alive:
            node_heartbeat(self.store, name)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _beat(self):
        while not self._stop.wait(0.05):
            for name in list(self.alive):
                node_heartbeat(self.store, name)


@contextmanager
def cluster_of(*manifests, settings=QUICK):
    with Cluster(manifests, settings=settings) as cluster, Hearts(cluster.store, "n1", "n2", "n3") as hearts:
        cluster.run_pods()
        yield cluster, hearts


def until(happened):
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def state(cluster, name):
    return condition(cluster.store.get(NODE, name), "Ready").get("status")


def pods_on(cluster, name):
    return [wire for wire in cluster.pods() if wire["spec"].get("nodeName") == name and not is_terminating(wire)]


def test_a_node_that_says_nothing_is_lost_with_its_endpoints_and_its_pods_are_made_elsewhere():
    with cluster_of(deployment("web", 6), service("web"), stateful_set("db", 3), daemon_set("agent")) as (
        cluster,
        hearts,
    ):
        assert [state(cluster, f"n{i}") for i in (1, 2, 3)] == ["True"] * 3
        lost = {object_name(wire) for wire in pods_on(cluster, "n2")}
        web = {name for name in lost if name.startswith("web-")}
        assert web
        hearts.alive.discard("n2")
        until(lambda: state(cluster, "n2") == "Unknown")
        taints = cluster.store.get(NODE, "n2")["spec"]["taints"]
        assert {(taint["key"], taint["effect"]) for taint in taints} == {
            ("node.kubernetes.io/unreachable", "NoSchedule"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
        }
        until(lambda: not any(is_ready(wire) for wire in cluster.pods() if object_name(wire) in lost))

        def ready_endpoints():
            entries = [entry for wire in cluster.slices("web") for entry in wire["endpoints"]]
            return {entry["targetRef"]["name"] for entry in entries if entry["conditions"]["ready"]}

        until(lambda: not ready_endpoints() & web)
        # After a while they are deleted, though nobody there ends them, and others run elsewhere.
        until(lambda: all(is_terminating(wire) for wire in cluster.pods() if object_name(wire) in web))
        until(lambda: len([wire for wire in cluster.pods(app="web") if not is_terminating(wire)]) == 6)
        assert [object_name(wire).partition("-")[0] for wire in pods_on(cluster, "n2")] == ["agent"], "daemons stay"
        stateful = [wire for wire in cluster.pods(app="db") if object_name(wire) in lost]
        assert stateful and len(cluster.pods(app="db")) == 3, "there is never a second pod of one name"
        assert ("NodeNotReady", "Node n2 status is now: NodeNotReady") in cluster.events(NODE, "n2")
        name = min(web)
        assert ("NodeNotReady", "Node is not ready") in cluster.events(POD, name)
        assert ("TaintManagerEviction", f"Marking for deletion Pod default/{name}") in cluster.events(POD, name)
        hearts.alive.add("n2")
        until(lambda: state(cluster, "n2") == "True")
        until(lambda: "taints" not in cluster.store.get(NODE, "n2")["spec"])
        cluster.run_pods()
        assert len(cluster.pods(app="web")) == 6 and all(map(is_ready, cluster.pods()))


def test_a_node_that_comes_back_in_time_keeps_its_pods_and_they_are_ready_again():
    with cluster_of(deployment("web", 3), settings=LoopSettings(0.5, 60)) as (cluster, hearts):
        before = {wire["metadata"]["uid"] for wire in cluster.pods()}
        [mine] = pods_on(cluster, "n1")
        hearts.alive.discard("n1")
        until(lambda: not is_ready(cluster.store.get(POD, object_name(mine))))
        hearts.alive.add("n1")
        until(lambda: is_ready(cluster.store.get(POD, object_name(mine))))
        assert {wire["metadata"]["uid"] for wire in cluster.pods()} == before


def test_when_nobody_answers_nobody_is_evicted():
    with cluster_of(deployment("web", 3)) as (cluster, hearts):
        before = {wire["metadata"]["uid"] for wire in cluster.pods()}
        hearts.alive.clear()
        until(lambda: [state(cluster, f"n{i}") for i in (1, 2, 3)] == ["Unknown"] * 3)
        time.sleep(2 * QUICK.eviction_after_s)
        cluster.settle()
        assert {wire["metadata"]["uid"] for wire in cluster.pods() if not is_terminating(wire)} == before
        hearts.alive.add("n1")
        until(lambda: not pods_on(cluster, "n2") and not pods_on(cluster, "n3"))


def test_nodes_without_heartbeats_are_left_alone_and_heartbeats_change_no_node():
    with Cluster([deployment("web", 3)], settings=QUICK) as cluster:
        cluster.run_pods()
        node_heartbeat(cluster.store, "n1")
        until(lambda: state(cluster, "n1") == "True")
        cluster.settle()
        version = cluster.store.newest_versions([NODE])["Node"]
        node_heartbeat(cluster.store, "n1")
        cluster.settle()
        assert cluster.store.newest_versions([NODE])["Node"] == version
        assert cluster.store.get(LEASE, "n1", LEASE_NAMESPACE)["spec"]["holderIdentity"] == "n1"
        assert state(cluster, "n2") is None and len(pods_on(cluster, "n2")) == 1


def conditions(cluster, name):
    return {each["type"]: each for each in cluster.store.get(NODE, name)["status"]["conditions"]}


def lease(cluster, name):
    return cluster.store.get(LEASE, name, LEASE_NAMESPACE)["spec"]


def test_heartbeats_are_missed_when_a_lease_is_over_and_a_node_that_is_heard_again_reports():
    with Cluster([deployment("web", 3)], settings=LoopSettings(eviction_after_s=60)) as cluster:
        cluster.run_pods()
        runs = threading.Event()
        runs.set()
        hearts = Heartbeats(cluster.store, ("n1", "n2", "n3"), runs.is_set, renew_every_s=0.05, report_every_s=60)
        hearts.start()
        try:
            until(lambda: all(state(cluster, name) == "True" for name in ("n1", "n2", "n3")))
            assert lease(cluster, "n1")["leaseDurationSeconds"] == 40
            first = lease(cluster, "n1")["renewTime"]
            until(lambda: lease(cluster, "n1")["renewTime"] > first)
            heard = conditions(cluster, "n1")
            assert {name: each["status"] for name, each in heard.items()} == {
                **dict.fromkeys(("MemoryPressure", "DiskPressure", "PIDPressure"), "False"),
                "Ready": "True",
            }

            hearts.silence("n1", 1)
            last = lease(cluster, "n1")["renewTime"]
            until(lambda: state(cluster, "n1") == "Unknown")
            assert lease(cluster, "n1")["renewTime"] == last and state(cluster, "n2") == "True"
            missed = conditions(cluster, "n1")
            assert {each["reason"] for each in missed.values()} == {"NodeStatusUnknown"}
            assert {each["status"] for each in missed.values()} == {"Unknown"}
            assert missed["Ready"]["lastHeartbeatTime"] == heard["Ready"]["lastHeartbeatTime"]

            hearts.resume("n1")
            until(lambda: state(cluster, "n1") == "True")
            assert [name for name, each in conditions(cluster, "n1").items() if each["status"] == "True"] == ["Ready"]
            assert conditions(cluster, "n1")["Ready"]["lastHeartbeatTime"] > heard["Ready"]["lastHeartbeatTime"]

            hearts.silence("n1")  # cut off: not even a last time
            last, other = lease(cluster, "n1")["renewTime"], lease(cluster, "n2")["renewTime"]
            until(lambda: lease(cluster, "n2")["renewTime"] > other)
            assert (lease(cluster, "n1")["renewTime"], lease(cluster, "n1")["leaseDurationSeconds"]) == (last, 40)
            hearts.resume("n1")
            until(lambda: lease(cluster, "n1")["renewTime"] > last)

            runs.clear()  # the kubelet has died, and nobody speaks for it
            hearts.stop()
            final = lease(cluster, "n3")["renewTime"]
            hearts._beat()
            assert lease(cluster, "n3")["renewTime"] == final
        finally:
            hearts.stop()


def test_conditions_are_posted_again_and_a_deleted_node_takes_its_lease_along():
    with Cluster() as cluster:
        hearts = Heartbeats(cluster.store, ("n1", "n2"), lambda: True, renew_every_s=0.05, report_every_s=0.5)
        hearts.start()
        try:
            until(lambda: state(cluster, "n1") == "True")
            first = conditions(cluster, "n1")["Ready"]
            until(lambda: conditions(cluster, "n1")["Ready"]["lastHeartbeatTime"] > first["lastHeartbeatTime"])
            assert conditions(cluster, "n1")["Ready"]["lastTransitionTime"] == first["lastTransitionTime"]
            known = cluster.store.get(NODE, "n1")
            cluster.store.delete(NODE, "n1")
            until(lambda: not [each for each in cluster.store.list(LEASE).items if object_name(each) == "n1"])
            renewed = lease(cluster, "n2")["renewTime"]
            until(lambda: lease(cluster, "n2")["renewTime"] > renewed)
            assert [object_name(each) for each in cluster.store.list(LEASE).items] == ["n2"]
            # Who makes the Node again by its name has all that its kubelet knows of it.
            cluster.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}}})
            until(lambda: state(cluster, "n1") == "True")
            again = cluster.store.get(NODE, "n1")
            assert again["spec"] == known["spec"] and again["status"]["addresses"] == known["status"]["addresses"]
            assert again["metadata"]["annotations"] == known["metadata"]["annotations"]
            assert again["metadata"]["labels"] == {**known["metadata"].get("labels", {}), "a": "b"}
            create_namespaces(cluster.store)
            before = {each["metadata"]["uid"] for each in cluster.store.list(LEASE).items}
            cluster.store.delete(NAMESPACE, LEASE_NAMESPACE)
            until(lambda: {each["metadata"]["uid"] for each in cluster.store.list(LEASE).items} - before)
        finally:
            hearts.stop()


def test_a_cordoned_node_keeps_its_pods_and_gets_no_more():
    with Cluster([deployment("web", 3)]) as cluster:
        cluster.run_pods()
        cluster.store.patch(NODE, "n1", {"spec": {"unschedulable": True}})
        cluster.store.patch(DEPLOYMENT, "web", {"spec": {"replicas": 9}})
        cluster.run_pods()
        assert len(pods_on(cluster, "n1")) == 1 and len(cluster.pods()) == 9
        [taint] = cluster.store.get(NODE, "n1")["spec"]["taints"]
        assert (taint["key"], taint["effect"]) == ("node.kubernetes.io/unschedulable", "NoSchedule")
        cluster.store.patch(NODE, "n1", {"spec": {"unschedulable": None}})
        cluster.settle()
        assert "taints" not in cluster.store.get(NODE, "n1")["spec"]
        cluster.store.patch(DEPLOYMENT, "web", {"spec": {"replicas": 12}})
        cluster.run_pods()
        assert len(pods_on(cluster, "n1")) > 1


def test_a_taint_drives_out_what_does_not_tolerate_it():
    tolerant = deployment("tolerant", 3, tolerations=[{"key": "maintenance", "operator": "Exists"}])
    with Cluster([deployment("web", 3), tolerant]) as cluster:
        cluster.run_pods()
        taint = {"key": "maintenance", "value": "now", "effect": "NoExecute"}
        cluster.store.patch(NODE, "n3", {"spec": {"taints": [taint]}})
        cluster.run_pods()
        assert {wire["metadata"]["labels"]["app"] for wire in pods_on(cluster, "n3")} == {"tolerant"}
        assert len(cluster.pods(app="web")) == 3


def test_a_pod_that_fits_nowhere_is_told_why_of_every_node():
    with Cluster(nodes=3, node_cidr_mask_size=29) as cluster:
        cluster.store.patch(NODE, "n1", {"spec": {"unschedulable": True}})
        cluster.store.patch(NODE, "n2", {"spec": {"taints": [{"key": "gpu", "value": "a", "effect": "NoSchedule"}]}})
        cluster.settle()
        for index in range(5):
            cluster.store.create(pod(f"p{index}"))
        cluster.settle()
        message = (
            "0/3 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {gpu: a}, "
            "1 node(s) were unschedulable. "
            "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, "
            "2 Preemption is not helpful for scheduling."
        )
        assert ("FailedScheduling", message) in cluster.events(POD, "p4")
        assert condition(cluster.store.get(POD, "p4"), "PodScheduled")["message"] == message
        assert ("Scheduled", "Successfully assigned default/p0 to n3") in cluster.events(POD, "p0")


def test_two_pods_with_one_host_port_are_on_two_nodes():
    web = deployment("web", 3)
    web["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    with Cluster([web], nodes=3) as cluster:
        cluster.run_pods()
        assert {wire["spec"]["nodeName"] for wire in cluster.pods()} == {"n1", "n2", "n3"}
        cluster.store.patch(DEPLOYMENT, "web", {"spec": {"replicas": 4}})
        cluster.settle()
        [waiting] = [wire for wire in cluster.pods() if not wire["spec"].get("nodeName")]
        message = "0/3 nodes are available: 3 node(s) didn't have free ports for the requested pod ports. "
        assert condition(waiting, "PodScheduled")["message"].startswith(message)
        cluster.store.delete(POD, object_name(pods_on(cluster, "n2")[0]))
        cluster.run_pods()
        assert pods_on(cluster, "n2")


def test_the_pods_of_a_node_that_is_deleted_go_with_it():
    with Cluster([deployment("web", 3)]) as cluster:
        cluster.run_pods()
        cluster.store.delete(NODE, "n1")
        cluster.run_pods()
        assert {wire["spec"]["nodeName"] for wire in cluster.pods()} == {"n2", "n3"} and len(cluster.pods()) == 3


def affinity(*terms):
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    ("spec", "matches"),
    [
        ({}, True),
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        (affinity(), False),
        (affinity({}), False),
        (affinity({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd", "x"]}]}), True),
        (affinity({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}), False),
        (affinity({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["7"]}]}), True),
        (affinity({"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["8"]}]}), False),
        (affinity({"matchExpressions": [{"key": "none", "operator": "Gt", "values": ["1"]}]}), False),
        (affinity({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}), True),
        (affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), False),
        (
            affinity(
                {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
            ),
            True,
        ),
    ],
)
def test_selectors_and_affinity_say_on_which_nodes_a_pod_may_be(spec, matches):
    assert matches_node(spec, "n1", {"disk": "ssd", "cores": "8"}) is matches


TAINT = {"key": "a", "value": "b", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("toleration", "stays_s"),
    [
        ({"operator": "Exists"}, None),
        ({"key": "a", "operator": "Exists"}, None),
        ({"key": "a", "value": "b"}, None),
        ({"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 7}, 7.0),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, 0.0),
        ({"key": "a", "value": "c"}, 0.0),
        ({"key": "b", "operator": "Exists"}, 0.0),
        ({"value": "b"}, 0.0),
    ],
)
def test_tolerations_say_how_long_a_pod_stays(toleration, stays_s):
    spec = {"tolerations": [toleration]}
    assert tolerated_s(spec, TAINT, 60) == stays_s
    assert list(untolerated(spec, [TAINT], ("NoExecute",))) == ([TAINT] if stays_s == 0.0 else [])
