"""The loops against a store, with a kubelet that starts and ends pods at once."""

from __future__ import annotations

import statistics
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.cluster.endpoint_slices import endpoint_slices
from testbed.cluster.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    KINDS,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE,
)
from testbed.cluster.objects import object_name, uses_host_network
from testbed.cluster.services import MANAGED_BY_LABEL
from testbed.cluster.status import ApiError
from testbed.cluster.view import ClusterView, cluster_state
from testbed.errors import RunError
from tests.unit.cluster_objects import daemon_set, deployment, endpoint_slice, job, pod, service, stateful_set
from tests.unit.living_cluster import Cluster


def labelled(name, namespace="default", **spec):
    wire = pod(name, namespace, **spec)
    wire["metadata"]["labels"] = {"app": "web"}
    return wire


def readiness(slices):
    return {
        endpoint["targetRef"]["name"]: endpoint["conditions"]["ready"]
        for wire in slices
        for endpoint in wire["endpoints"]
    }


def test_what_was_computed_when_the_manifests_were_checked_is_what_the_loops_would_make():
    manifests = [deployment("web", 5), service("web"), service("db", clusterIP="None"), labelled("alone")]
    manifests += [stateful_set("db", 3), daemon_set("agent"), job("sum", completions=4, parallelism=2)]
    kinds = ("Pod", "EndpointSlice", "ReplicaSet", "ControllerRevision")
    with Cluster(manifests) as cluster:
        before = {object_name(wire): wire for wire in cluster.objects() if wire["kind"] in kinds}
        cluster.settle()
        after = {object_name(wire): wire for wire in cluster.objects() if wire["kind"] in kinds}
        assert len(after) == len(before) == 5 + 1 + 3 + 3 + 2 + 2 + 1 + 2
        for name, wire in before.items():
            assert after[name] is wire or (wire["kind"] == "ReplicaSet" and after[name]["spec"] == wire["spec"])
        assert cluster.store.get(DEPLOYMENT, "web")["status"]["replicas"] == 5


def test_slices_follow_a_pods_readiness_termination_and_end():
    with Cluster([service("web"), labelled("a"), labelled("b")]) as cluster:
        cluster.settle()
        assert readiness(cluster.slices("web")) == {"a": False, "b": False}
        cluster.run_pods()
        assert readiness(cluster.slices("web")) == {"a": True, "b": True}
        cluster.ready("b", ready=False)
        cluster.settle()
        assert readiness(cluster.slices("web")) == {"a": True, "b": False}
        cluster.store.delete(POD, "a")
        cluster.settle()
        [terminating] = [
            e for wire in cluster.slices("web") for e in wire["endpoints"] if e["targetRef"]["name"] == "a"
        ]
        assert terminating["conditions"] == {"ready": False, "serving": True, "terminating": True}
        cluster.run_pods()
        assert readiness(cluster.slices("web")) == {"b": False}


def test_slices_follow_labels_and_selectors():
    with Cluster([service("web"), labelled("a"), labelled("b")]) as cluster:
        cluster.store.patch(POD, "a", {"metadata": {"labels": {"app": "other"}}})
        cluster.settle()
        assert set(readiness(cluster.slices("web"))) == {"b"}
        cluster.store.patch(SERVICE, "web", {"spec": {"selector": {"app": "other"}}})
        cluster.settle()
        assert set(readiness(cluster.slices("web"))) == {"a"}
        cluster.store.delete(SERVICE, "web")
        cluster.settle()
        assert cluster.slices("web") == []


def test_slices_of_people_stay_and_damaged_ones_of_the_cluster_are_mended():
    with Cluster([service("web"), labelled("a")]) as cluster:
        cluster.settle()
        [made] = cluster.slices("web")
        cluster.store.create(endpoint_slice("web", "192.0.2.1"))
        cluster.store.delete(ENDPOINT_SLICE, object_name(made))
        cluster.settle()
        assert {object_name(wire) for wire in cluster.slices("web")} == {object_name(made), "web-x"}
        cluster.store.patch(ENDPOINT_SLICE, object_name(made), {"endpoints": []})
        cluster.store.delete(SERVICE, "web")
        cluster.settle()
        assert [object_name(wire) for wire in cluster.slices("web")] == ["web-x"]


def test_endpoints_of_people_are_mirrored_as_long_as_they_are_there():
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5432}]}],
    }
    with Cluster([service("db", selector=None)]) as cluster:
        cluster.store.create(endpoints)
        cluster.settle()
        [port] = cluster_state(cluster.objects()).service_ports
        assert [(str(entry.endpoint_ip), entry.target_port) for entry in port.endpoints] == [("192.0.2.1", 5432)]
        cluster.store.delete(ENDPOINTS, "db")
        cluster.settle()
        assert cluster.slices("db") == []


def test_pods_are_bound_each_to_addresses_of_its_own():
    with Cluster(nodes=2) as cluster:
        for index in range(20):
            cluster.store.create(pod(f"p{index}", hostNetwork=index % 5 == 0))
        cluster.store.create(pod("pinned", nodeName="n2"))
        cluster.settle()
        state = cluster_state(cluster.objects())
        assert len(state.pods) == 17 and len({wire.pod_ip for wire in state.pods}) == 17
        assert state.pod_by_key["default/pinned"].node_name == "n2"
        assert all(wire["status"]["podIP"] for wire in cluster.pods())
        spread = [sum(wire["spec"]["nodeName"] == name for wire in cluster.pods()) for name in ("n1", "n2")]
        assert max(spread) - min(spread) <= 1
        gone = cluster.store.delete(POD, "p1")
        cluster.store.create(pod("successor", nodeName=gone["spec"]["nodeName"]))
        cluster.settle()
        assert cluster.store.get(POD, "successor")["status"]["podIP"] == gone["status"]["podIP"]


def test_a_pod_that_finds_no_place_says_so_and_gets_the_first_that_becomes_free():
    with Cluster(nodes=1, node_cidr_mask_size=29) as cluster:
        for index in range(5):
            cluster.store.create(pod(f"p{index}"))
        cluster.settle()
        [condition] = cluster.store.get(POD, "p4")["status"]["conditions"]
        assert condition["reason"] == "Unschedulable"
        assert condition["message"] == (
            "0/1 nodes are available: 1 Too many pods. "
            "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        )
        cluster.store.delete(POD, "p2")
        cluster.settle()
        assert cluster.store.get(POD, "p4")["status"]["podIP"] == "10.244.0.4"
        cluster.store.create(pod("picky", nodeSelector={"disk": "ssd"}))
        cluster.store.delete(POD, "p0")
        cluster.settle()
        assert "nodeName" not in cluster.store.get(POD, "picky")["spec"]
        cluster.store.patch(NODE, "n1", {"metadata": {"labels": {"disk": "ssd"}}})
        cluster.settle()
        assert cluster.store.get(POD, "picky")["spec"]["nodeName"] == "n1"


def test_a_deployment_is_scaled_up_and_down_and_deleted_with_all_that_is_its():
    with Cluster([deployment("web", 3), service("web")]) as cluster:
        cluster.run_pods()
        first = {object_name(wire) for wire in cluster.pods()}
        for replicas in (7, 2, 0, 4):
            cluster.store.patch(DEPLOYMENT, "web", {"spec": {"replicas": replicas}})
            cluster.run_pods()
            assert sorted(readiness(cluster.slices("web")).values()) == [True] * replicas
            status = cluster.store.get(DEPLOYMENT, "web")["status"]
            assert (status["replicas"], status["readyReplicas"]) == (replicas, replicas)
            assert status["observedGeneration"] == cluster.store.get(DEPLOYMENT, "web")["metadata"]["generation"]
        assert first <= {object_name(wire) for wire in cluster.pods()}, "names are derived: the first ones come first"
        cluster.store.delete(DEPLOYMENT, "web")
        cluster.run_pods()
        assert cluster.pods() == cluster.store.list(REPLICA_SET).items == cluster.slices("web") == []


def test_a_new_template_rolls_out_while_enough_pods_stay_ready():
    with Cluster([deployment("web", 4), service("web")]) as cluster:
        cluster.run_pods()
        fewest = []
        with cluster.store.watch(ENDPOINT_SLICE) as watch:
            template = {"template": {"metadata": {"labels": {"version": "2"}}}}
            cluster.store.patch(DEPLOYMENT, "web", {"spec": template})
            cluster.run_pods()
            for event in watch.next(0):
                fewest.append(sum(readiness([event.object]).values()))
        assert len(cluster.pods(version="2")) == len(cluster.pods()) == 4
        assert min(fewest) >= 3


def test_a_deleted_pod_of_a_deployment_is_replaced():
    with Cluster([deployment("web", 2)]) as cluster:
        cluster.run_pods()
        cluster.store.delete(POD, object_name(cluster.pods()[0]))
        cluster.run_pods()
        assert len(cluster.pods()) == 2


def test_objects_that_make_no_sense_disturb_nobody():
    with Cluster([service("web"), labelled("a")]) as cluster:
        for spec in (None, {"containers": "x"}, {"containers": [{"ports": 5}]}, {"containers": [None]}):
            broken = {**labelled("broken"), "spec": spec, "status": {"podIP": "10.0.0.1", "conditions": ["?"]}}
            cluster.store.create(broken)
            cluster.settle()
            cluster.store.delete(POD, "broken", grace_period_s=0)
        cluster.run_pods()
        assert readiness(cluster.slices("web")) == {"a": True}


def test_more_changes_than_the_store_keeps_are_caught_up_with():
    with Cluster([service("web")], history=4) as cluster:
        # While the loops cannot read, everything happens at once.
        held = threading.Event()
        original = cluster.loops._work
        cluster.loops._work = lambda: (held.wait(5), original())[1]
        for index in range(60):
            cluster.store.create(labelled(f"p{index}"))
        held.set()
        cluster.run_pods()
        assert len(readiness(cluster.slices("web"))) == 60
        assert all(wire["spec"]["nodeName"] for wire in cluster.pods())


def test_loops_that_do_not_run_are_not_waited_for():
    cluster = Cluster()
    with pytest.raises(RunError, match="do not run"):
        cluster.loops.wait_settled(5)
    with cluster:
        cluster.settle()
    with pytest.raises(RunError, match="do not run"):
        cluster.loops.wait_settled(5)


def test_a_failure_of_the_loops_comes_out_where_they_are_waited_for():
    with Cluster() as cluster:

        def fail():
            raise MemoryError("out of luck")

        cluster.loops._work = fail
        cluster.store.create(labelled("a"))
        with pytest.raises(RunError, match="out of luck"):
            cluster.loops.wait_settled(5)


# Whatever happens

NUMBERS = st.integers(0, 5)
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]), max_size=2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), NUMBERS, LABELS, st.booleans()),
        st.tuples(st.just("ready"), NUMBERS, st.booleans()),
        st.tuples(st.just("relabel"), NUMBERS, LABELS),
        st.tuples(st.just("delete pod"), NUMBERS, st.booleans()),
        st.tuples(st.just("service"), NUMBERS, LABELS, st.booleans()),
        st.tuples(st.just("delete service"), NUMBERS),
        st.tuples(st.just("slice"), NUMBERS, st.integers(0, 3)),
        st.tuples(st.just("deployment"), NUMBERS, st.integers(0, 4)),
        st.tuples(st.just("delete deployment"), NUMBERS),
        st.tuples(st.just("settle")),
    ),
    min_size=1,
    max_size=30,
)


def take(cluster, step):
    store, (act, *details) = cluster.store, step
    name = f"x{details[0]}" if details else ""
    if act == "pod":
        wire = pod(name, "default", hostNetwork=details[2])
        wire["metadata"]["labels"] = details[1]
        store.create(wire)
    elif act == "ready":
        cluster.ready(name, ready=details[1])
    elif act == "relabel":
        store.patch(POD, name, {"metadata": {"labels": {"app": None, "tier": None, **details[1]}}})
    elif act == "delete pod":
        store.delete(POD, name, grace_period_s=0 if details[1] else None)
    elif act == "service":
        wire = service(name, selector=details[1], **({"clusterIP": "None"} if details[2] else {}))
        try:
            store.create(wire)
        except ApiError:
            store.patch(SERVICE, name, {"spec": {"selector": {"app": None, "tier": None, **details[1]}}})
    elif act == "delete service":
        store.delete(SERVICE, name)
    elif act == "slice":
        wire = endpoint_slice(name, *(f"192.0.2.{n + 1}" for n in range(details[1])))
        try:
            store.create(wire)
        except ApiError:
            store.replace(wire)
    elif act == "deployment":
        wire = deployment(name, details[1])
        wire["spec"]["template"]["metadata"]["labels"]["tier"] = "a"
        try:
            store.create(wire)
        except ApiError:
            store.patch(DEPLOYMENT, name, {"spec": {"replicas": details[1]}})
    elif act == "delete deployment":
        store.delete(DEPLOYMENT, name)
    else:
        cluster.settle()


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_everything_follows(steps):
    with Cluster(nodes=2) as cluster:
        objects, watch = cluster.store.follow(KINDS)
        view = ClusterView()
        for wire in objects:
            view.put(wire)
        for step in steps:
            try:
                take(cluster, step)
            except ApiError as error:
                assert error.code in (404, 409)
            for event in watch.next(0):
                (view.remove if event.type == "DELETED" else view.put)(event.object)
            view.state()
        cluster.settle()
        for event in watch.next(0):
            (view.remove if event.type == "DELETED" else view.put)(event.object)
        state = cluster_state(cluster.objects())
        # Incremental equals from nothing.
        assert view.state() == state
        # Every pod has its own address.
        assert len({wire.pod_ip for wire in state.pods}) == len(state.pods)
        assert len(state.pods) == sum(not uses_host_network(wire) for wire in cluster.pods())
        # Every Service with a selector has the slices that its pods make.
        for wire in cluster.store.list(SERVICE).items:
            made = [s for s in cluster.slices(object_name(wire)) if MANAGED_BY_LABEL in s["metadata"]["labels"]]
            assert contents(made) == contents(endpoint_slices(wire, cluster.pods()))
        owners = {object_name(wire) for wire in cluster.store.list(SERVICE).items}
        for wire in cluster.store.list(ENDPOINT_SLICE).items:
            labels = wire["metadata"]["labels"]
            assert MANAGED_BY_LABEL not in labels or labels["kubernetes.io/service-name"] in owners
        # Every Deployment has the pods that it asks for, and no pod is nobody's.
        for wire in cluster.store.list(DEPLOYMENT).items:
            owned = [p for p in cluster.pods(app=object_name(wire)) if "deletionTimestamp" not in p["metadata"]]
            assert len(owned) == wire["spec"]["replicas"] == wire["status"]["replicas"]
        alive = {wire["metadata"]["uid"] for wire in cluster.objects()}
        for wire in cluster.objects():
            owned_by = {reference["uid"] for reference in wire["metadata"].get("ownerReferences", ())}
            assert owned_by <= alive or "deletionTimestamp" in wire["metadata"]


def contents(slices):
    """Every endpoint with its ports, wherever it is."""
    found = [(wire["ports"], endpoint) for wire in slices for endpoint in wire["endpoints"]]
    return sorted(map(str, found))


def test_a_changed_pod_reaches_its_slice_in_little_time():
    manifests = [service(f"s{i}", selector={"app": f"s{i}"}) for i in range(1000)]
    manifests += [deployment(f"s{i}", 5) for i in range(20)]
    with Cluster(manifests, nodes=4) as cluster:
        cluster.settle()
        times_s = []
        with cluster.store.watch(ENDPOINT_SLICE) as watch:
            for wire in cluster.pods()[:40]:
                started = time.perf_counter()
                cluster.ready(object_name(wire))
                assert watch.next(5)
                times_s.append(time.perf_counter() - started)
                cluster.settle()
                watch.next(0)
    assert statistics.median(times_s) < 0.005, "a half to one millisecond on an idle machine"
