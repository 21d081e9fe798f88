"""What the store of a cluster keeps of an object that is written again, and what it refuses."""

from __future__ import annotations

import pytest

from testbed.cluster.admission import cluster_admission
from testbed.cluster.assign import assign
from testbed.cluster.kinds import DEPLOYMENT, POD
from testbed.cluster.status import Invalid
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import deployment, edge_nodes, pod


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
