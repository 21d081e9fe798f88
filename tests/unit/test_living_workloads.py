"""StatefulSets, DaemonSets, Jobs and Deployments by the loops, with a kubelet that starts and ends pods at once."""

from __future__ import annotations

import time

import pytest

from testbed.cluster.deployments import REVISION
from testbed.cluster.kinds import (
    CONTROLLER_REVISION,
    DAEMON_SET,
    DEPLOYMENT,
    EVENT,
    JOB,
    NETWORK_POLICY,
    NODE,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
)
from testbed.cluster.objects import object_name
from testbed.cluster.pod_facts import annotations_of, condition
from testbed.cluster.status import Invalid
from tests.unit.cluster_objects import daemon_set, deployment, job, pod, service, stateful_set
from tests.unit.living_cluster import Cluster


def names(pods):
    return sorted(map(object_name, pods))


def template(version):
    return {"spec": {"template": {"metadata": {"labels": {"version": version}}}}}


def wait_for(cluster, happened):
    """Until something is so that comes with time."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    cluster.settle()


# StatefulSets


@pytest.mark.parametrize("planned", [True, False])
def test_a_stateful_sets_pods_come_and_go_one_by_one_in_order(planned):
    manifest = stateful_set("db", 3)
    with Cluster([manifest, service("db")] if planned else [], living=True) as cluster:
        if not planned:
            cluster.store.create(manifest)
        seen = []
        for _ in range(3):
            cluster.settle()
            seen.append(names(cluster.pods()))
            cluster.ready(seen[-1][-1])
        assert seen == [["db-0"], ["db-0", "db-1"], ["db-0", "db-1", "db-2"]]
        cluster.run_pods()
        cluster.store.patch(STATEFUL_SET, "db", {"spec": {"replicas": 1}})
        cluster.settle()
        going = [object_name(wire) for wire in cluster.pods() if "deletionTimestamp" in wire["metadata"]]
        assert going == ["db-2"]
        cluster.run_pods()
        assert names(cluster.pods()) == ["db-0"]
        status = cluster.store.get(STATEFUL_SET, "db")["status"]
        assert (status["replicas"], status["readyReplicas"], status["currentReplicas"]) == (1, 1, 1)
        assert ("SuccessfulCreate", "create Pod db-1 in StatefulSet db successful") in cluster.events(
            STATEFUL_SET, "db"
        )


def test_what_need_not_wait_is_there_when_a_living_cluster_starts():
    parallel = stateful_set("queue", 3)
    parallel["spec"]["podManagementPolicy"] = "Parallel"
    with Cluster([parallel, stateful_set("none", 0)], living=True) as cluster:
        assert names(cluster.pods()) == ["queue-0", "queue-1", "queue-2"]
    with Cluster([stateful_set("db", 3)]) as cluster:  # an experiment has all it measures
        assert names(cluster.pods()) == ["db-0", "db-1", "db-2"]


def test_a_stateful_pod_keeps_its_name_its_host_name_its_volumes_and_so_its_dns_name():
    claims = [{"metadata": {"name": "data"}, "spec": {}}]
    manifests = [service("db", clusterIP="None"), stateful_set("db", 2, volumeClaimTemplates=claims)]
    with Cluster(manifests) as cluster:
        cluster.run_pods()
        before = cluster.store.get(POD, "db-1")
        cluster.store.delete(POD, "db-1")
        cluster.run_pods()
        after = cluster.store.get(POD, "db-1")
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert (after["spec"]["hostname"], after["spec"]["subdomain"]) == ("db-1", "db")
        assert after["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}]
        assert after["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-1"
        endpoints = [entry for wire in cluster.slices("db") for entry in wire["endpoints"]]
        assert {entry["hostname"] for entry in endpoints} == {"db-0", "db-1"}


def test_parallel_pods_do_not_wait_for_each_other():
    with Cluster() as cluster:
        cluster.store.create(stateful_set("db", 3, podManagementPolicy="Parallel", ordinals={"start": 5}))
        cluster.settle()
        assert names(cluster.pods()) == ["db-5", "db-6", "db-7"]


def test_an_update_goes_from_the_highest_ordinal_down_to_the_partition_and_back_again():
    strategy = {"rollingUpdate": {"partition": 1}}
    with Cluster([stateful_set("db", 3, updateStrategy=strategy)]) as cluster:
        cluster.run_pods()
        first = cluster.store.get(STATEFUL_SET, "db")["status"]["currentRevision"]
        cluster.store.patch(STATEFUL_SET, "db", template("2"))
        cluster.settle()
        going = [object_name(wire) for wire in cluster.pods() if "deletionTimestamp" in wire["metadata"]]
        assert going == ["db-2"]
        cluster.run_pods()
        assert names(cluster.pods(version="2")) == ["db-1", "db-2"]
        # What is below the partition comes back as it was.
        cluster.store.delete(POD, "db-0")
        cluster.run_pods()
        assert names(cluster.pods(version="2")) == ["db-1", "db-2"]
        assert cluster.store.get(POD, "db-0")["metadata"]["labels"]["controller-revision-hash"] == first
        status = cluster.store.get(STATEFUL_SET, "db")["status"]
        assert status["currentRevision"] == first != status["updateRevision"]
        cluster.store.patch(STATEFUL_SET, "db", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
        cluster.run_pods()
        status = cluster.store.get(STATEFUL_SET, "db")["status"]
        assert status["currentRevision"] == status["updateRevision"] and status["updatedReplicas"] == 3
        # Going back makes the old revision the newest.
        cluster.store.patch(STATEFUL_SET, "db", template(None))
        cluster.run_pods()
        revisions = {object_name(wire): wire["revision"] for wire in cluster.store.list(CONTROLLER_REVISION).items}
        assert revisions[first] == 3 == max(revisions.values())


def test_pods_are_updated_on_delete_only_when_that_is_asked_for():
    with Cluster([stateful_set("db", 2, updateStrategy={"type": "OnDelete"})]) as cluster:
        cluster.run_pods()
        cluster.store.patch(STATEFUL_SET, "db", template("2"))
        cluster.run_pods()
        assert cluster.pods(version="2") == []
        cluster.store.delete(POD, "db-0")
        cluster.run_pods()
        assert names(cluster.pods(version="2")) == ["db-0"]


@pytest.mark.parametrize("limit", [0, 1])
def test_revisions_beyond_the_limit_go_and_those_in_use_stay(limit):
    workloads = [stateful_set("db", 1, revisionHistoryLimit=limit), daemon_set("agent", revisionHistoryLimit=limit)]
    with Cluster(workloads) as cluster:
        for version in ("2", "3", "4"):
            cluster.run_pods()
            for kind, name in ((STATEFUL_SET, "db"), (DAEMON_SET, "agent")):
                cluster.store.patch(kind, name, template(version))
        cluster.run_pods()
        kept = sorted(wire["revision"] for wire in cluster.store.list(CONTROLLER_REVISION).items)
        assert kept == sorted([4, 4, *([3, 3] if limit else [])])


# DaemonSets


def test_a_daemon_runs_on_every_node_that_it_may_be_on():
    with Cluster([daemon_set("agent")], nodes=3) as cluster:
        cluster.run_pods()
        assert sorted(wire["spec"]["nodeName"] for wire in cluster.pods()) == ["n1", "n2", "n3"]
        cluster.store.patch(NODE, "n2", {"spec": {"unschedulable": True}})
        cluster.run_pods()
        assert len(cluster.pods()) == 3, "daemons stay on a cordoned node"
        cluster.store.patch(NODE, "n2", {"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}})
        cluster.run_pods()
        assert len(cluster.pods()) == 3, "this taint keeps new pods away only"
        assert cluster.store.get(DAEMON_SET, "agent")["status"]["numberMisscheduled"] == 1
        selector = {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}
        cluster.store.patch(DAEMON_SET, "agent", selector)
        cluster.store.patch(NODE, "n3", {"metadata": {"labels": {"disk": "ssd"}}})
        cluster.run_pods()
        assert [wire["spec"]["nodeName"] for wire in cluster.pods()] == ["n3"]
        status = cluster.store.get(DAEMON_SET, "agent")["status"]
        assert (status["desiredNumberScheduled"], status["numberAvailable"]) == (1, 1)


@pytest.mark.parametrize(
    ("limits", "most", "least"), [({"maxUnavailable": 1}, 3, 2), ({"maxSurge": 1, "maxUnavailable": 0}, 4, 3)]
)
def test_daemons_are_updated_node_by_node(limits, most, least):
    with Cluster([daemon_set("agent", updateStrategy={"rollingUpdate": limits})], nodes=3) as cluster:
        cluster.run_pods()
        counts = []
        cluster.store.patch(DAEMON_SET, "agent", template("2"))
        with cluster.store.watch(POD) as watch:
            there = {object_name(wire): wire for wire in cluster.pods()}
            cluster.run_pods()
            for event in watch.next(0):
                there.pop(object_name(event.object), None)
                if event.type != "DELETED" and "deletionTimestamp" not in event.object["metadata"]:
                    there[object_name(event.object)] = event.object
                ready = sum(condition(wire, "Ready").get("status") == "True" for wire in there.values())
                counts.append((len(there), ready))
        assert max(count for count, _ in counts) <= most and min(ready for _, ready in counts) >= least
        assert len(cluster.pods(version="2")) == len(cluster.pods()) == 3
        assert len(cluster.store.list(CONTROLLER_REVISION).items) == 2


# Jobs


def test_a_job_runs_until_enough_pods_have_succeeded():
    with Cluster() as cluster:
        cluster.store.create(job("sum", completions=3, parallelism=2))
        cluster.settle()
        first = names(cluster.pods())
        assert len(first) == 2
        cluster.end(first[0])
        cluster.settle()
        assert len(cluster.pods()) == 3, "one that succeeded, and two that run"
        # What has succeeded counts though somebody deletes it.
        cluster.store.delete(POD, first[0])
        cluster.settle()
        assert len(cluster.pods()) == 2 and cluster.store.get(JOB, "sum")["status"]["succeeded"] == 1
        for name in names(cluster.pods()):
            cluster.end(name)
        cluster.settle()
        wire = cluster.store.get(JOB, "sum")
        assert condition(wire, "Complete")["status"] == "True" and wire["status"]["completionTime"]
        assert (wire["status"]["succeeded"], wire["status"]["active"]) == (3, 0)
        assert ("Completed", "Job completed") in cluster.events(JOB, "sum")


def test_a_planned_jobs_pods_are_the_jobs():
    with Cluster([job("sum", completions=2, parallelism=2)]) as cluster:
        before = {wire["metadata"]["uid"] for wire in cluster.pods()}
        cluster.settle()
        uid = cluster.store.get(JOB, "sum")["metadata"]["uid"]
        assert {
            wire["metadata"]["uid"] for wire in cluster.pods(**{"batch.kubernetes.io/controller-uid": uid})
        } == before


def test_a_job_fails_when_too_many_pods_have_failed_and_goes_after_its_time():
    with Cluster() as cluster:
        cluster.store.create(job("once", backoffLimit=0, ttlSecondsAfterFinished=1))
        cluster.settle()
        cluster.end(object_name(cluster.pods()[0]), "Failed")
        cluster.settle()
        failed = condition(cluster.store.get(JOB, "once"), "Failed")
        assert (failed["status"], failed["reason"]) == ("True", "BackoffLimitExceeded")
        assert ("BackoffLimitExceeded", "Job has reached the specified backoff limit") in cluster.events(JOB, "once")
        wait_for(cluster, lambda: not cluster.store.list(JOB).items)
        assert cluster.pods() == []


def test_a_suspended_job_runs_nothing():
    with Cluster() as cluster:
        cluster.store.create(job("later", suspend=True))
        cluster.settle()
        assert cluster.pods() == []
        cluster.store.patch(JOB, "later", {"spec": {"suspend": False}})
        cluster.run_pods()
        assert len(cluster.pods()) == 1
        cluster.store.patch(JOB, "later", {"spec": {"suspend": True}})
        cluster.run_pods()
        assert cluster.pods() == []


# Deployments


def test_revisions_are_counted_kept_and_gone_back_to():
    web = deployment("web", 2)
    web["spec"]["revisionHistoryLimit"] = 1
    with Cluster([web]) as cluster:
        for version in ("2", "3"):
            cluster.run_pods()
            cluster.store.patch(DEPLOYMENT, "web", template(version))
        cluster.run_pods()
        assert annotations_of(cluster.store.get(DEPLOYMENT, "web"))[REVISION] == "3"
        sets = {annotations_of(wire)[REVISION]: wire for wire in cluster.store.list(REPLICA_SET).items}
        assert sorted(sets) == ["2", "3"], "the first is beyond the limit"
        # As kubectl rollout undo does: the template of the old ReplicaSet without its hash, with Go's empty fields.
        old = sets["2"]["spec"]["template"]
        labels = {**old["metadata"]["labels"]}
        del labels["pod-template-hash"]
        undone = {**cluster.store.get(DEPLOYMENT, "web")}
        undone["spec"] = {
            **undone["spec"],
            "template": {
                "metadata": {"creationTimestamp": None, "labels": labels},
                "spec": {**old["spec"], "volumes": []},
            },
        }
        cluster.store.replace(undone)
        cluster.run_pods()
        assert {object_name(wire) for wire in cluster.store.list(REPLICA_SET).items} == set(
            map(object_name, sets.values())
        )
        assert len(cluster.pods(version="2")) == len(cluster.pods()) == 2
        assert annotations_of(cluster.store.get(DEPLOYMENT, "web"))[REVISION] == "4"
        assert annotations_of(cluster.store.get(REPLICA_SET, object_name(sets["2"])))[REVISION] == "4"


def test_conditions_and_events_tell_of_a_rollout():
    with Cluster() as cluster:
        cluster.store.create(deployment("web", 2))
        cluster.settle()
        wire = cluster.store.get(DEPLOYMENT, "web")
        assert condition(wire, "Available")["reason"] == "MinimumReplicasUnavailable"
        assert condition(wire, "Progressing")["reason"] in ("NewReplicaSetCreated", "ReplicaSetUpdated")
        cluster.run_pods()
        wire = cluster.store.get(DEPLOYMENT, "web")
        assert condition(wire, "Available")["reason"] == "MinimumReplicasAvailable"
        assert condition(wire, "Progressing")["reason"] == "NewReplicaSetAvailable"
        [made] = cluster.store.list(REPLICA_SET).items
        scaled = f"Scaled up replica set {object_name(made)} from 0 to 2"
        assert cluster.events(DEPLOYMENT, "web") == [("ScalingReplicaSet", scaled)]
        told = [f"Created pod: {name}" for name in names(cluster.pods())]
        assert sorted(cluster.events(REPLICA_SET, object_name(made))) == [("SuccessfulCreate", text) for text in told]


def test_a_rollout_that_makes_no_progress_says_so():
    web = deployment("web", 1)
    web["spec"]["progressDeadlineSeconds"] = 1
    with Cluster() as cluster:
        cluster.store.create(web)
        wait_for(
            cluster,
            lambda: (
                condition(cluster.store.get(DEPLOYMENT, "web"), "Progressing").get("reason")
                == "ProgressDeadlineExceeded"
            ),
        )
        cluster.run_pods()
        assert condition(cluster.store.get(DEPLOYMENT, "web"), "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_a_status_about_a_smaller_number_does_not_count_what_was_deleted_for_it():
    with Cluster([deployment("web", 9)]) as cluster:
        cluster.run_pods()
        with cluster.store.watch(REPLICA_SET) as changes:
            cluster.store.patch(DEPLOYMENT, "web", {"spec": {"replicas": 2}})
            cluster.settle()
            seen = [event.object for event in changes.next()]
        told = [wire["status"] for wire in seen if wire["status"]["observedGeneration"] == 2]
        assert told and {status["availableReplicas"] for status in told} == {2}
        assert told[0]["terminatingReplicas"] == 7


def test_a_paused_deployment_changes_in_size_only():
    with Cluster([deployment("web", 2)]) as cluster:
        cluster.run_pods()
        cluster.store.patch(DEPLOYMENT, "web", {"spec": {"paused": True, **template("2")["spec"], "replicas": 4}})
        cluster.run_pods()
        assert len(cluster.pods()) == 4 and not cluster.pods(version="2")
        assert condition(cluster.store.get(DEPLOYMENT, "web"), "Progressing")["reason"] == "DeploymentPaused"
        cluster.store.patch(DEPLOYMENT, "web", {"spec": {"paused": False}})
        cluster.run_pods()
        assert len(cluster.pods(version="2")) == len(cluster.pods()) == 4


def test_recreate_starts_nothing_before_the_old_pods_have_ended():
    web = deployment("web", 2)
    web["spec"]["strategy"] = {"type": "Recreate"}
    with Cluster([web]) as cluster:
        cluster.run_pods()
        cluster.store.patch(DEPLOYMENT, "web", template("2"))
        cluster.settle()
        assert not cluster.pods(version="2")
        assert all("deletionTimestamp" in wire["metadata"] for wire in cluster.pods())
        cluster.run_pods()
        assert len(cluster.pods(version="2")) == len(cluster.pods()) == 2


def test_a_pod_is_available_after_it_has_been_ready_for_long_enough():
    web = deployment("web", 1)
    web["spec"]["minReadySeconds"] = 1
    with Cluster([web]) as cluster:
        cluster.run_pods()
        status = cluster.store.get(DEPLOYMENT, "web")["status"]
        assert status["readyReplicas"] == 1
        wait_for(cluster, lambda: cluster.store.get(DEPLOYMENT, "web")["status"]["availableReplicas"] == 1)


# Whose is what


def test_what_matches_is_adopted_and_what_no_longer_does_is_released():
    with Cluster([deployment("web", 2)]) as cluster:
        cluster.run_pods()
        [made] = cluster.store.list(REPLICA_SET).items
        first = cluster.pods()[0]
        cluster.store.patch(POD, object_name(first), {"metadata": {"labels": {"app": "aside"}}})
        cluster.run_pods()
        assert len(cluster.pods()) == 3 and "ownerReferences" not in cluster.pods(app="aside")[0]["metadata"]
        stray = pod("stray")
        stray["metadata"]["labels"] = made["spec"]["selector"]["matchLabels"]
        cluster.store.create(stray)
        cluster.run_pods()
        assert len(cluster.pods(app="web")) == 2, "it is one too many"
        # Without its Deployment, and then with one of that name again.
        cluster.store.delete(DEPLOYMENT, "web", orphan=True)
        cluster.run_pods()
        assert len(cluster.pods(app="web")) == 2
        cluster.store.create(deployment("web", 3))
        cluster.run_pods()
        [again] = cluster.store.list(REPLICA_SET).items
        assert again["metadata"]["uid"] == made["metadata"]["uid"] and len(cluster.pods(app="web")) == 3


def test_what_is_deleted_in_the_foreground_waits_for_what_it_keeps():
    with Cluster([deployment("web", 2), stateful_set("db", 1)]) as cluster:
        cluster.run_pods()
        cluster.store.delete(DEPLOYMENT, "web", foreground=True)
        cluster.store.delete(STATEFUL_SET, "db", foreground=True)
        cluster.settle()
        assert "deletionTimestamp" in cluster.store.get(DEPLOYMENT, "web")["metadata"]
        assert len(cluster.pods()) == 3, "nothing is made anew, and nothing has ended yet"
        cluster.run_pods()
        assert not cluster.pods()
        for kind in (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, CONTROLLER_REVISION):
            assert not cluster.store.list(kind).items


def test_a_workload_that_is_made_again_while_its_pods_still_end_gets_all_of_its_own():
    with Cluster([deployment("web", 3), stateful_set("db", 2)]) as cluster:
        cluster.run_pods()
        for kind, wire in ((DEPLOYMENT, deployment("web", 3)), (STATEFUL_SET, stateful_set("db", 2))):
            cluster.store.delete(kind, object_name(wire))
            cluster.store.create(wire)
        cluster.settle()
        wait_for(cluster, lambda: len(cluster.pods(app="web")) == 6)
        cluster.run_pods()
        wait_for(cluster, lambda: cluster.run_pods() or names(cluster.pods(app="db")) == ["db-0", "db-1"])
        assert len(cluster.pods(app="web")) == 3


def test_what_cannot_be_changed_is_refused():
    with Cluster([stateful_set("db", 1), job("once"), daemon_set("agent")]) as cluster:
        cluster.settle()
        with pytest.raises(Invalid, match=r"spec\.serviceName: cannot be changed"):
            cluster.store.patch(STATEFUL_SET, "db", {"spec": {"serviceName": "other"}})
        with pytest.raises(Invalid, match=r"spec\.completions: cannot be changed"):
            cluster.store.patch(JOB, "once", {"spec": {"completions": 5}})
        with pytest.raises(Invalid, match=r"updateStrategy\.rollingUpdate\.maxUnavailable: is no limit"):
            cluster.store.patch(
                DAEMON_SET, "agent", {"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "all"}}}}
            )


def test_a_network_policy_says_that_it_is_not_enforced_and_again_when_it_changes():
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {}},
    }
    with Cluster() as cluster:
        cluster.store.create(policy)
        cluster.settle()
        [(reason, message)] = cluster.events(NETWORK_POLICY, "deny")
        assert reason == "NotEnforced" and "does not enforce it" in message
        cluster.store.patch(NETWORK_POLICY, "deny", {"metadata": {"labels": {"a": "b"}}})
        cluster.store.patch(NETWORK_POLICY, "deny", {"spec": {"policyTypes": ["Ingress"]}})
        cluster.settle()
        assert [wire["count"] for wire in cluster.store.list(EVENT).items] == [2]
