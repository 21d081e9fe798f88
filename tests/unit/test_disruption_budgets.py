"""PodDisruptionBudgets: what they count, and which evictions they refuse."""

from __future__ import annotations

import threading

import pytest

from testbed.cluster.disruption_budgets import budget_status
from testbed.cluster.disruption_loop import DisruptionLoop
from testbed.cluster.eviction import count_eviction
from testbed.cluster.kinds import DEPLOYMENT, POD, POD_DISRUPTION_BUDGET
from testbed.cluster.objects import object_name
from testbed.cluster.status import ApiError, Invalid, TooManyRequests
from testbed.cluster.store import Store
from testbed.cluster.timestamps import timestamp
from tests.unit.cluster_objects import deployment, pod
from tests.unit.living_cluster import Cluster

NOW_S = 1_000_000.0


def budget(name="web", app="web", **spec):
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": app}}, **spec},
    }


def ready_pod(name, ready=True):
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {**pod(name), "status": {"phase": "Running", "conditions": conditions}}


def counted(wire, pods, scale=10):
    status = budget_status(wire, pods, lambda _: ("uid", scale), NOW_S)
    return tuple(status[name] for name in ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"))


# k8s.io/kubernetes/pkg/controller/disruption/disruption_test.go: percentages are rounded up, of either limit.
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 2}, (3, 2, 2, 0)),
        ({"minAvailable": 1}, (3, 1, 2, 1)),
        ({"minAvailable": "15%"}, (10, 2, 2, 0)),
        ({"minAvailable": "10%"}, (10, 1, 2, 1)),
        ({"maxUnavailable": 9}, (10, 1, 2, 1)),
        ({"maxUnavailable": "81%"}, (10, 1, 2, 1)),
        ({"maxUnavailable": "80%"}, (10, 2, 2, 0)),
        ({"maxUnavailable": "100%"}, (10, 0, 2, 2)),
        ({"maxUnavailable": 20}, (10, 0, 2, 2)),
        ({}, (3, 1, 2, 1)),
    ],
)
def test_how_many_pods_may_go(spec, expected):
    pods = [ready_pod("a"), ready_pod("b"), ready_pod("c", ready=False)]
    assert counted(budget(**spec), pods) == expected


def test_a_pod_that_is_being_evicted_is_not_healthy_any_more():
    wire = {
        **budget(minAvailable=1),
        "status": {"disruptedPods": {"a": timestamp(NOW_S - 1), "gone": timestamp(NOW_S)}},
    }
    status = budget_status(wire, [ready_pod("a"), ready_pod("b")], lambda _: None, NOW_S)
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (1, 0)
    assert list(status["disruptedPods"]) == ["a"]
    wire["status"]["disruptedPods"]["a"] = timestamp(NOW_S - 121)  # it was not, after all
    assert budget_status(wire, [ready_pod("a"), ready_pod("b")], lambda _: None, NOW_S)["currentHealthy"] == 2


def test_evictions_are_refused_until_there_are_enough_pods_again():
    with Cluster([deployment("web", 3)]) as cluster:
        cluster.run_pods()
        store = cluster.store
        store.create(budget(maxUnavailable=1))
        cluster.settle()
        first, second = cluster.pods()[:2]
        count_eviction(store, first)
        cluster.settle()
        status = store.get(POD_DISRUPTION_BUDGET, "web")["status"]
        assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (3, 2, 0)
        with pytest.raises(TooManyRequests) as refused:
            count_eviction(store, second)
        [cause] = refused.value.status()["details"]["causes"]
        assert cause["message"] == "The disruption budget web needs 2 healthy pods and has 2 currently"
        store.delete(POD, object_name(first))
        cluster.run_pods()
        count_eviction(store, store.get(POD, object_name(second)), dry_run=True)
        count_eviction(store, store.get(POD, object_name(second)))
        store.patch(DEPLOYMENT, "web", {"spec": {"replicas": 2}})
        cluster.run_pods()
        assert store.get(POD_DISRUPTION_BUDGET, "web")["status"]["expectedPods"] == 2


def test_a_budget_that_has_not_been_counted_refuses():
    store = Store()
    store.create(budget(minAvailable=0))
    labelled = ready_pod("a")
    labelled["metadata"]["labels"] = {"app": "web"}
    with pytest.raises(TooManyRequests) as refused:
        count_eviction(store, store.create(labelled))
    [cause] = refused.value.status()["details"]["causes"]
    assert cause["message"] == "The disruption budget web is still being processed by the server."


def test_pods_that_serve_nobody_can_go():
    with Cluster([deployment("web", 2), pod("alone")]) as cluster:
        store = cluster.store
        store.create(budget(minAvailable=2))
        for wire in cluster.pods():  # Pending
            count_eviction(store, wire)
        cluster.run_pods()
        one, other = cluster.pods(app="web")
        cluster.ready(object_name(one), ready=False)
        cluster.settle()
        with pytest.raises(TooManyRequests):  # fewer than desired are well, so even one that is not stays
            count_eviction(store, store.get(POD, object_name(one)))
        store.patch(POD_DISRUPTION_BUDGET, "web", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
        count_eviction(store, store.get(POD, object_name(one)))
        with pytest.raises(TooManyRequests):
            count_eviction(store, store.get(POD, object_name(other)))
        count_eviction(store, store.get(POD, "alone"))


def test_two_budgets_for_a_pod_are_one_too_many():
    with Cluster([deployment("web", 1)]) as cluster:
        cluster.run_pods()
        for name in ("a", "b"):
            cluster.store.create(budget(name, minAvailable=0))
        with pytest.raises(ApiError, match="more than one PodDisruptionBudget") as refused:
            count_eviction(cluster.store, cluster.pods()[0])
        assert refused.value.code == 500


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"minAvailable": 1, "maxUnavailable": 1}, "spec"),
        ({"minAvailable": "101%"}, "spec.minAvailable"),
        ({"maxUnavailable": -1}, "spec.maxUnavailable"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}, "matchExpressions"),
        ({"unhealthyPodEvictionPolicy": "Never"}, "unhealthyPodEvictionPolicy"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(spec, field):
    with Cluster() as cluster, pytest.raises(Invalid, match=field):
        cluster.store.create(budget(**spec))


def test_owners_that_go_round_end_no_loop():
    """A ReplicaSet that is its own controller, as ``kubectl patch`` can make one."""
    own = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}]
    replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": {"replicas": 4}}
    replica_set["metadata"] = {"name": "web", "namespace": "default", "uid": "u", "ownerReferences": own}
    store = Store()
    loop = DisruptionLoop(store, lambda: NOW_S)
    kept = ready_pod("a")
    kept["metadata"] = {**kept["metadata"], "ownerReferences": own, "labels": {"app": "web"}}
    for wire in (replica_set, kept, store.create(budget(maxUnavailable="50%"))):
        loop.put(wire)
    work = threading.Thread(target=loop.work, daemon=True)
    work.start()
    work.join(5)
    assert not work.is_alive()
    assert store.get(POD_DISRUPTION_BUDGET, "web")["status"]["desiredHealthy"] == 2
