"""Jobs whose pods have a number each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster.indexed_jobs import completed_indexes, index_of, indexes_text
from testbed.cluster.kinds import JOB, POD
from testbed.cluster.objects import object_name
from testbed.cluster.pod_facts import is_active
from testbed.cluster.status import Invalid
from tests.unit.cluster_objects import job
from tests.unit.living_cluster import Cluster

INDEX = "batch.kubernetes.io/job-completion-index"


def indexed(**spec):
    return job("sum", completionMode="Indexed", **spec)


def active(cluster):
    return {index_of(wire): wire for wire in cluster.pods() if is_active(wire)}


@pytest.mark.parametrize("planned", [True, False])
def test_each_number_succeeds_once(planned):
    manifest = indexed(completions=4, parallelism=2)
    with Cluster([manifest] if planned else []) as cluster:
        if not planned:
            cluster.store.create(manifest)
        cluster.run_pods()
        first = active(cluster)
        assert sorted(first) == [0, 1]
        wire = first[1]
        assert object_name(wire).startswith("sum-1-") and wire["spec"]["hostname"] == "sum-1"
        assert wire["metadata"]["labels"][INDEX] == wire["metadata"]["annotations"][INDEX] == "1"
        [variable] = wire["spec"]["containers"][0]["env"]
        assert variable["name"] == "JOB_COMPLETION_INDEX"
        assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.annotations['{INDEX}']"

        cluster.end(object_name(first[1]))
        cluster.run_pods()
        assert sorted(active(cluster)) == [0, 2]
        cluster.store.delete(POD, object_name(first[1]))  # that it has succeeded is not forgotten
        cluster.store.delete(POD, object_name(first[0]))
        cluster.run_pods()
        second = active(cluster)
        assert sorted(second) == [0, 2] and object_name(second[0]) != ""
        for index in (0, 2, 3):
            cluster.end(object_name(active(cluster)[index]))
            cluster.run_pods()
        status = cluster.store.get(JOB, "sum")["status"]
        assert (status["completedIndexes"], status["succeeded"], status["active"]) == ("0-3", 4, 0)
        assert status["conditions"][-1]["type"] == "Complete"


def test_the_number_of_a_pod_that_failed_is_tried_again():
    now = [1_000_000.0]
    with Cluster([indexed(completions=2, parallelism=2)], clock=lambda: now[0]) as cluster:
        cluster.run_pods()
        cluster.end(object_name(active(cluster)[0]), "Failed")
        cluster.run_pods()
        assert sorted(active(cluster)) == [1]
        now[0] = 4_000_000_000.0
        cluster.store.patch(JOB, "sum", {"metadata": {"labels": {"look": "again"}}})
        cluster.run_pods()
        assert sorted(active(cluster)) == [0, 1]
        assert cluster.store.get(JOB, "sum")["status"]["failed"] == 1


def test_two_pods_of_a_number_are_one_too_many():
    with Cluster([indexed(completions=2, parallelism=2)]) as cluster:
        cluster.run_pods()
        twin = {**active(cluster)[0], "status": {}}
        metadata = {name: twin["metadata"][name] for name in ("labels", "annotations", "ownerReferences")}
        cluster.store.create({**twin, "metadata": {**metadata, "name": "twin", "namespace": "default"}})
        cluster.run_pods()
        assert sorted(map(index_of, cluster.pods())) == [0, 1]


def test_numbers_need_an_end():
    with Cluster() as cluster:
        with pytest.raises(Invalid, match=r"spec\.completions: is required"):
            cluster.store.create(indexed(parallelism=2))
        with pytest.raises(Invalid, match=r"spec\.completionMode: is not a mode"):
            cluster.store.create(job("sum", completionMode="Numbered"))


@pytest.mark.parametrize(
    ("indexes", "text"), [((), ""), ((3,), "3"), ((0, 1), "0,1"), ((0, 2, 3, 4, 9), "0,2-4,9"), ((1, 2, 3), "1-3")]
)
def test_numbers_as_kubernetes_writes_them(indexes, text):
    assert indexes_text(indexes) == text


@given(st.sets(st.integers(0, 60)))
def test_what_is_written_is_read(indexes):
    wire = {"spec": {"completions": 61}, "status": {"completedIndexes": indexes_text(indexes)}}
    assert completed_indexes(wire, ()) == indexes
