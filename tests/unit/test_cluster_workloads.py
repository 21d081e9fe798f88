"""Deployments to ReplicaSets to Pods: names, numbers, the order of scaling, rolling from one template to another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.deployment_status import deployment_status
from testbed.cluster.deployments import replica_set, rollout
from testbed.cluster.objects import object_name
from testbed.cluster.replica_sets import DELETION_COST, replica_set_status, replicas_of, scale
from testbed.cluster.templates import TEMPLATE_HASH_LABEL, new_names, template_hash
from testbed.cluster.timestamps import timestamp
from testbed.cluster.workload_rules import workload_problems
from tests.unit.cluster_objects import deployment

NOW = 1_800_000_000.0


def test_a_replica_set_carries_the_templates_hash_in_name_labels_and_selector():
    web = deployment("web", 3)
    made = replica_set(web, 3)
    digest = template_hash(web)
    assert object_name(made) == f"web-{digest}"
    assert made["spec"]["selector"]["matchLabels"] == {"app": "web", TEMPLATE_HASH_LABEL: digest}
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": "web", TEMPLATE_HASH_LABEL: digest}
    assert web == deployment("web", 3), "the Deployment is left alone"
    assert template_hash(deployment("web", 7)) == digest
    assert template_hash(deployment("web", 3, hostNetwork=True)) != digest


def test_pods_come_from_the_template_with_derived_names():
    made = replica_set(deployment("web", 2), 2)
    first, second = scale(made, [], NOW).create
    assert object_name(first) != object_name(second)
    assert object_name(first).startswith(f"{object_name(made)}-") and len(object_name(first)) == len("web-") + 16
    assert first["spec"] == made["spec"]["template"]["spec"]
    assert first["metadata"]["ownerReferences"][0]["name"] == object_name(made)
    assert scale(made, [], NOW) == scale(made, [], NOW)
    assert scale(made, [first], NOW).create == [second]


def make_pods(owner, count):
    pods = scale({**owner, "spec": {**owner["spec"], "replicas": count}}, [], NOW).create
    for wire in pods:
        wire["spec"] = {**wire["spec"], "nodeName": "n1"}
        wire["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        wire["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return pods


def test_scaling_down_takes_the_useless_first_and_then_the_newest():
    owner = replica_set(deployment("web", 1), 1)
    pods = make_pods(owner, 6)
    oldest, newest, unbound, waiting, unready, later = pods
    del unbound["spec"]["nodeName"]
    waiting["status"] = {"phase": "Pending"}
    unready["status"]["conditions"] = []
    later["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    expected = [unbound, waiting, unready, later, newest]
    assert scale(owner, pods, NOW).delete == expected
    for left in range(1, 6):
        wanted = {**owner, "spec": {**owner["spec"], "replicas": left}}
        assert scale(wanted, pods[::-1], NOW).delete == expected[: 6 - left]
    assert scale({**owner, "spec": {**owner["spec"], "replicas": 0}}, pods, NOW).delete[-1] is oldest


def test_pods_that_terminate_do_not_count_and_keep_their_names():
    owner = replica_set(deployment("web", 2), 2)
    pods = make_pods(owner, 2)
    pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    [made] = scale(owner, pods, NOW).create
    assert object_name(made) not in [object_name(wire) for wire in pods]
    assert replica_set_status(owner, pods, NOW)["replicas"] == 1


def test_a_failed_pod_is_replaced_and_those_that_follow_it_wait_ever_longer():
    owner = replica_set(deployment("web", 1), 1)
    [pod, *_] = pods = make_pods(owner, 3)
    for wire in pods:
        wire["status"] = {"phase": "Failed"}
        wire["metadata"]["creationTimestamp"] = timestamp(NOW)
    assert len(scale(owner, [pod], NOW).create) == 1
    assert scale(owner, pods[:2], NOW) == ([], [], NOW + 10)
    assert scale(owner, pods, NOW + 19.9) == ([], [], NOW + 20)
    assert len(scale(owner, pods, NOW + 20).create) == 1


def test_what_costs_least_goes_first_and_then_what_restarted_most():
    owner = replica_set(deployment("web", 1), 1)
    dear, cheap, restarted, plain = pods = make_pods(owner, 4)
    dear["metadata"]["annotations"] = {DELETION_COST: "10"}
    cheap["metadata"]["annotations"] = {DELETION_COST: "-3"}
    restarted["status"]["containerStatuses"] = [{"restartCount": 2}]
    assert scale(owner, pods, NOW).delete == [cheap, restarted, plain]


@given(st.integers(0, 40), st.integers(0, 40))
def test_names_are_unique_and_the_first_ones_stay(count, taken):
    names = new_names("web-x", count)
    assert len(set(names)) == count
    used = set(names[:taken])
    assert used.isdisjoint(new_names("web-x", count, used.__contains__))
    assert new_names("web-x", count + 3)[:count] == names


def test_status_counts_what_there_is():
    web = deployment("web", 3)
    web["metadata"]["generation"] = 4
    made = replica_set(web, 3)
    pods = make_pods(made, 3)
    pods[0]["status"]["conditions"] = []
    made["status"] = replica_set_status(made, pods, NOW)
    assert (made["status"]["replicas"], made["status"]["readyReplicas"]) == (3, 2)
    old = replica_set(deployment("web", 3, hostNetwork=True), 1)
    old["status"] = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    status = deployment_status(web, [made, old], NOW)
    del status["conditions"]
    assert status == {
        "replicas": 4,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "unavailableReplicas": 1,
        "terminatingReplicas": 0,
        "observedGeneration": 4,
    }


# Rolling


def observed(wire, replicas, available):
    wire["spec"]["replicas"] = replicas
    wire["status"] = {"replicas": replicas, "availableReplicas": available, "readyReplicas": available}
    return wire


def test_one_template_is_simply_scaled():
    web = deployment("web", 5)
    made = observed(replica_set(web, 5), 2, 2)
    assert rollout(web, []) == rollout(web, [made]) == {object_name(made): 5}


def test_a_rolling_update_adds_within_the_surge_and_removes_what_can_be_spared():
    web = deployment("web", 4)
    old = observed(replica_set(deployment("web", 4, hostNetwork=True), 4), 4, 4)
    new_name = object_name(replica_set(web, 0))
    # 25% of 4 is one more, and one fewer.
    assert rollout(web, [old]) == {object_name(old): 3, new_name: 1}
    assert rollout(web, [observed(old, 3, 3), observed(replica_set(web, 1), 1, 0)]) == {
        object_name(old): 3,
        new_name: 2,
    }


def test_old_pods_that_are_of_no_use_go_first():
    web = deployment("web", 4)
    broken = observed(replica_set(deployment("web", 4, hostNetwork=True), 4), 2, 0)
    good = observed(replica_set(deployment("web", 4, dnsPolicy="Default"), 4), 3, 3)
    made = rollout(web, [broken, good])
    assert (made[object_name(broken)], made[object_name(good)]) == (0, 3)


def test_recreate_waits_until_the_old_are_gone():
    web = deployment("web", 3)
    web["spec"]["strategy"] = {"type": "Recreate"}
    old = observed(replica_set(deployment("web", 3, hostNetwork=True), 3), 3, 3)
    new_name = object_name(replica_set(web, 0))
    assert rollout(web, [old]) == {object_name(old): 0, new_name: 0}
    old["spec"]["replicas"] = 0
    assert rollout(web, [old])[new_name] == 0, "its pods still terminate"
    assert rollout(web, [observed(old, 0, 0)])[new_name] == 3


LIMITS = st.one_of(st.integers(0, 4), st.integers(0, 100).map(lambda share: f"{share}%"))


@given(st.integers(0, 12), LIMITS, LIMITS, st.integers(0, 12), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_rolling_update_ends_and_keeps_its_limits_on_the_way(wanted, surge, unavailable, before, random):
    web = deployment("web", wanted)
    web["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    sets = {}
    old = observed(replica_set(deployment("web", wanted, hostNetwork=True), before), before, before)
    sets[object_name(old)] = old
    most = max(wanted + share(surge, wanted, up=True), before)
    lost = share(unavailable, wanted, up=False)
    if share(surge, wanted, up=True) == lost == 0:
        lost = 1
    least = min(before, wanted - lost)
    for _ in range(200):
        target = rollout(web, list(sets.values()))
        for name, replicas in target.items():
            wire = sets.setdefault(name, observed(replica_set(web, 0), 0, 0))
            available = min(wire["status"]["availableReplicas"], replicas)
            # Some of the pods that were made become available meanwhile.
            available += random.randint(min(1, replicas - available), replicas - available)
            observed(wire, replicas, available)
        assert sum(map(replicas_of, sets.values())) <= most
        assert sum(wire["status"]["availableReplicas"] for wire in sets.values()) >= least
        new = [replicas_of(wire) for name, wire in sets.items() if name != object_name(old)]
        if (new, replicas_of(old)) == ([wanted], 0):
            return
    pytest.fail(f"still {[(name, replicas_of(wire)) for name, wire in sets.items()]}")


def share(limit, total, up):
    if isinstance(limit, int):
        return limit
    hundredths = int(limit[:-1]) * total
    return (hundredths + 99) // 100 if up else hundredths // 100


# Refusals


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": "3"}, "spec.replicas"),
        ({"template": None}, "spec.template.spec"),
        ({"selector": None}, "spec.selector"),
        ({"selector": {"matchLabels": {"app": "other"}}}, "spec.selector.matchLabels"),
        (
            {"selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{}]}},
            "spec.selector.matchExpressions[0].key",
        ),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}},
            "spec.selector.matchExpressions",
        ),
        ({"strategy": {"rollingUpdate": {"maxSurge": "some"}}}, "spec.strategy.rollingUpdate.maxSurge"),
    ],
)
def test_what_is_wrong_with_a_deployment_is_named(change, field):
    web = deployment("web")
    web["spec"] |= change
    assert field in [problem.field for problem in workload_problems(web)]


def test_a_sound_deployment_has_no_problem():
    assert list(workload_problems(deployment("web"))) == []
