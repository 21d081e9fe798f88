"""The life of a Namespace: what is in it, and what is not let in."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import CONFIG_MAP, EVENT, NAMESPACE, POD
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.namespaces import create_namespaces
from testbed.cluster.objects import object_name
from testbed.cluster.status import Forbidden, NotFound
from testbed.cluster.store import FOREGROUND
from tests.unit.cluster_objects import config_map, deployment, pod, service
from tests.unit.living_cluster import Cluster


@contextmanager
def cluster_of(*manifests):
    with Cluster(manifests, settings=LoopSettings(namespace_delay_s=0.0)) as cluster:
        create_namespaces(cluster.store)
        cluster.run_pods()
        yield cluster


def until(happened):
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def content(cluster, namespace):
    return [wire for wire in cluster.objects() if wire["metadata"].get("namespace") == namespace]


def is_gone(cluster, namespace):
    return namespace not in map(object_name, cluster.store.list(NAMESPACE).items)


def test_a_deleted_namespace_is_emptied_and_then_gone():
    with cluster_of(deployment("web", 2, "shop"), service("web", "shop"), pod("stays")) as cluster:
        store = cluster.store
        assert store.get(NAMESPACE, "shop")["spec"] == {"finalizers": ["kubernetes"]}
        EventRecorder(store, "test").record(cluster.pods()[-1], "Normal", "Seen", "It is there.")
        assert [wire["metadata"]["namespace"] for wire in store.list(EVENT).items] == ["shop"]
        answer = store.delete(NAMESPACE, "shop")
        assert answer["status"]["phase"] == "Terminating" and answer["metadata"]["deletionTimestamp"]
        until(lambda: store.get(NAMESPACE, "shop")["status"].get("conditions"))
        # The pods have their time to end; nobody makes others.
        assert {wire["kind"] for wire in content(cluster, "shop")} == {"Pod"}
        assert all("deletionTimestamp" in wire["metadata"] for wire in content(cluster, "shop"))
        conditions = {each["type"]: each for each in store.get(NAMESPACE, "shop")["status"]["conditions"]}
        remaining = conditions["NamespaceContentRemaining"]
        assert remaining["message"] == "Some resources are remaining: pods. has 2 resource instances"
        assert conditions["NamespaceFinalizersRemaining"]["status"] == "False"
        cluster.run_pods()
        until(lambda: is_gone(cluster, "shop"))
        assert not content(cluster, "shop") and [object_name(wire) for wire in cluster.pods()] == ["stays"]


def test_what_comes_after_the_deletion_of_its_namespace_is_refused():
    with cluster_of(pod("last", "shop")) as cluster:
        store = cluster.store
        store.delete(NAMESPACE, "shop")
        with pytest.raises(Forbidden) as refused:
            store.create(pod("late", "shop"))
        text = "unable to create new content in namespace shop because it is being terminated"
        assert refused.value.message == f'pods "late" is forbidden: {text}'
        assert refused.value.status()["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        with pytest.raises(Forbidden):  # another one of the same name has to wait, too
            store.create({**deployment("web", 1, "shop")})
        store.patch(POD, "last", {"metadata": {"labels": {"a": "b"}}}, "shop")
        cluster.run_pods()
        until(lambda: is_gone(cluster, "shop"))
        with pytest.raises(NotFound, match='namespaces "shop" not found'):
            store.create(pod("late", "shop"))
        store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        assert store.create(pod("late", "shop"))


def test_a_namespace_waits_for_the_finalizers_of_what_is_in_it():
    held = config_map("held", "shop")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    with cluster_of(held, config_map("free", "shop")) as cluster:
        store = cluster.store
        store.delete(NAMESPACE, "shop", foreground=True)
        until(lambda: store.get(NAMESPACE, "shop")["status"].get("conditions"))
        assert [object_name(wire) for wire in content(cluster, "shop")] == ["held"]
        said = {each["type"]: each["message"] for each in store.get(NAMESPACE, "shop")["status"]["conditions"]}
        assert said["NamespaceFinalizersRemaining"].endswith("example.org/hold in 1 resource instances")
        until(lambda: FOREGROUND not in store.get(NAMESPACE, "shop")["metadata"].get("finalizers", ()))
        assert store.delete(NAMESPACE, "shop")["status"]["phase"] == "Terminating"  # asked again: it goes on waiting
        store.patch(CONFIG_MAP, "held", {"metadata": {"finalizers": None}}, "shop")
        until(lambda: is_gone(cluster, "shop"))


def test_the_clusters_own_namespaces_stay():
    with cluster_of() as cluster:
        for name in ("default", "kube-system", "kube-public"):
            with pytest.raises(Forbidden, match="this namespace may not be deleted"):
                cluster.store.delete(NAMESPACE, name)
        cluster.store.delete(NAMESPACE, "kube-node-lease")
        until(lambda: is_gone(cluster, "kube-node-lease"))
