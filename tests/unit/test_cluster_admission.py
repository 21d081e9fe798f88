"""What the store of a cluster keeps of an object that is written again, and what it refuses."""

from __future__ import annotations

import pytest

from testbed.cluster.admission import cluster_admission
from testbed.cluster.assign import assign
from testbed.cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, SECRET
from testbed.cluster.status import Invalid
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import config_map, deployment, edge_nodes, job, pod


@pytest.fixture
def store():
    store = Store(admission=cluster_admission(NetworkConfig()))
    for wire in assign(edge_nodes(2), NetworkConfig(), 24, [pod("a"), deployment("web")]):
        store.create(wire)
    return store


def test_a_pod_that_is_put_again_as_it_was_written_keeps_what_it_was_given(store):
    before = store.get(POD, "a")
    assert store.replace(pod("a")) is before
    running = store.replace({**pod("a"), "status": {"phase": "Running"}})
    assert running["status"] == {**before["status"], "phase": "Running"}
    assert (running["spec"], running["metadata"]["annotations"]) == (
        before["spec"],
        before["metadata"]["annotations"],
    )


def test_what_a_container_is_limited_to_it_requests(store):
    limits = {"cpu": "500m", "memory": "64Mi"}
    limited = pod("limited")
    limited["spec"]["containers"][0]["resources"] = {"limits": limits, "requests": {"cpu": "100m"}}
    made = store.create(limited)
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "100m", "memory": "64Mi"}
    assert store.replace(limited) is made, "a pod that is put again as it was written is the same"


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"nodeName": "n2"}, "spec.nodeName: cannot be changed from n1"),
        ({"hostNetwork": True}, "spec.hostNetwork: cannot be changed"),
    ],
)
def test_a_pod_stays_where_it_is(store, patch, field):
    with pytest.raises(Invalid, match=f'Pod "default/a" is invalid: {field}'):
        store.patch(POD, "a", {"spec": patch})


def test_a_workload_is_checked_and_keeps_its_selector(store):
    with pytest.raises(Invalid, match=r'Deployment "default/web" is invalid: spec\.replicas: is not a number of pods'):
        store.patch(DEPLOYMENT, "web", {"spec": {"replicas": -3}})
    other = deployment("web")
    other["spec"]["template"]["metadata"]["labels"]["tier"] = "a"
    other["spec"]["selector"]["matchLabels"] = {"tier": "a"}
    with pytest.raises(Invalid, match=r"spec\.selector: cannot be changed"):
        store.replace(other)
    plain = deployment("plain")
    del plain["spec"]["replicas"]
    assert store.create(plain)["spec"]["replicas"] == 1


def secret(**fields):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **fields}


def test_a_secrets_texts_become_base64_data(store):
    made = store.create(secret(stringData={"user": "ada"}, data={"user": "bm9ib2R5", "more": "bW9yZQ=="}))
    assert made["data"] == {"user": "YWRh", "more": "bW9yZQ=="} and "stringData" not in made
    assert made["type"] == "Opaque"
    changed = store.patch(SECRET, "s", {"stringData": {"more": "x"}})
    assert changed["data"] == {"user": "YWRh", "more": "eA=="}


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (secret(data={"user": "no base64!"}), 'data: "user" is not base64'),
        (secret(data={"a/b": ""}), 'data: "a/b" is not a key'),
        (secret(type="kubernetes.io/tls", data={"tls.crt": ""}), 'data: "tls.key" is required'),
        ({**config_map("c"), "data": {"number": 5}}, 'data: "number" must be text'),
        ({**config_map("c"), "binaryData": {"x": "?"}}, 'binaryData: "x" is not base64'),
        (config_map("c", text="x" * (1 << 20), more="x"), "data: is too large"),
    ],
)
def test_what_no_pod_could_read_is_refused(store, wire, message):
    with pytest.raises(Invalid, match=message):
        store.create(wire)


def test_what_is_immutable_stays_as_it_is(store):
    store.create({**config_map("c", a="1"), "immutable": True})
    store.patch(CONFIG_MAP, "c", {"metadata": {"labels": {"app": "web"}}})
    for patch in ({"data": {"a": "2"}}, {"binaryData": {"b": "eA=="}}, {"immutable": False}):
        with pytest.raises(Invalid, match="when `immutable` is set"):
            store.patch(CONFIG_MAP, "c", patch)
    store.create(secret(data={"a": "eA=="}))
    with pytest.raises(Invalid, match="type: cannot be changed"):
        store.patch(SECRET, "s", {"type": "kubernetes.io/basic-auth"})


def test_a_jobs_pods_are_found_by_its_uid(store):
    made = store.create(job("once"))
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert made["spec"]["template"]["metadata"]["labels"]["controller-uid"] == uid
    assert (made["spec"]["completions"], made["spec"]["parallelism"], made["spec"]["backoffLimit"]) == (1, 1, 6)
    with pytest.raises(Invalid, match=r"spec\.template: cannot be changed"):
        store.patch(JOB, "once", {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}})


def test_an_update_that_is_not_rolling_keeps_no_limits(store):
    changed = store.patch(DEPLOYMENT, "web", {"spec": {"strategy": {"type": "Recreate"}}})
    assert changed["spec"]["strategy"] == {"type": "Recreate"}
