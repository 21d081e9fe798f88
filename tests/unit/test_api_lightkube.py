"""A client that is not ours: lightkube lists, watches and changes objects through the API."""

from __future__ import annotations

import socket

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.config.models import Cluster, User
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
from lightkube.types import PatchType

from testbed.apiserver.server import ApiServer
from testbed.cluster.assign import assign
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import edge_nodes, pod


@pytest.fixture
def store():
    store = Store()
    for wire in assign(edge_nodes(2, 2), NetworkConfig(), 24, [pod("a"), pod("b"), pod("c", "shop")]):
        store.create(wire)
    return store


@pytest.fixture
def client(store):
    with ApiServer(store, socket.create_server(("127.0.0.1", 0))) as server:
        config = KubeConfig.from_one(cluster=Cluster(server=server.url), user=User(), namespace="default")
        yield Client(config, trust_env=False)


def test_objects_are_listed_and_read_as_types(client):
    assert [p.metadata.name for p in client.list(Pod)] == ["a", "b"]
    assert [p.metadata.name for p in client.list(Pod, namespace="*")] == ["a", "b", "c"]
    assert [p.metadata.name for p in client.list(Pod, fields={"spec.nodeName": "n2"})] == ["b"]
    node = client.get(Node, "n2")
    assert node.spec.podCIDR == "10.244.1.0/24"
    assert [(address.type, address.address) for address in node.status.addresses] == [
        ("InternalIP", "192.168.1.12"),
        ("Hostname", "n2"),
    ]
    assert [n.metadata.name for n in client.list(Node, labels={"topology.kubernetes.io/zone": "leaf1"})] == ["n1"]
    assert client.get(ConfigMap, "cluster-network", namespace="kube-system").data["vni"] == "1"


def test_objects_are_created_changed_and_deleted(client):
    made = client.create(
        Pod(metadata=ObjectMeta(name="new"), spec=PodSpec(containers=[Container(name="main", image="busybox")]))
    )
    assert made.metadata.uid
    patched = client.patch(Pod, "new", {"metadata": {"labels": {"app": "x"}}}, patch_type=PatchType.MERGE)
    assert patched.metadata.labels == {"app": "x"}
    patched.metadata.labels["app"] = "y"
    assert client.replace(patched).metadata.labels == {"app": "y"}
    with pytest.raises(ApiError) as conflict:
        client.replace(made)
    assert (conflict.value.status.code, conflict.value.status.reason) == (409, "Conflict")
    client.delete(Pod, "new")
    with pytest.raises(ApiError) as gone:
        client.get(Pod, "new")
    assert (gone.value.status.reason, gone.value.status.details.name) == ("NotFound", "new")


def test_a_watch_delivers_what_happens(client, store):
    events = client.watch(Pod, resource_version=str(store.resource_version))
    client.patch(Pod.Status, "a", {"status": {"phase": "Running"}}, patch_type=PatchType.MERGE)
    client.delete(Pod, "b")
    assert [(kind, p.metadata.name, p.status.phase) for kind, p in (next(events), next(events))] == [
        ("MODIFIED", "a", "Running"),
        ("DELETED", "b", "Pending"),
    ]


def test_a_watch_without_a_version_begins_with_what_exists(client):
    events = client.watch(Pod, namespace="*")
    assert [(kind, p.metadata.name) for kind, p in (next(events) for _ in range(3))] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("ADDED", "c"),
    ]


def test_objects_are_applied_by_the_server(client, store):
    def settings(**data):
        return ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="settings"), data=data)

    assert client.apply(settings(a="1", b="1"), field_manager="one").data == {"a": "1", "b": "1"}
    assert client.apply(settings(c="1"), field_manager="two").data == {"a": "1", "b": "1", "c": "1"}
    assert client.apply(settings(a="1"), field_manager="one").data == {"a": "1", "c": "1"}
    with pytest.raises(ApiError, match="conflict"):
        client.apply(settings(a="2"), field_manager="two")
    assert client.apply(settings(a="2"), field_manager="two", force=True).data == {"a": "2"}


def test_sets_of_labels_are_selected(client):
    for name in "ab":
        client.patch(Pod, name, {"metadata": {"labels": {"app": name}}}, patch_type=PatchType.MERGE)
    assert [p.metadata.name for p in client.list(Pod, labels={"app": ["a", "x"]})] == ["a"]
    client.deletecollection(Pod)
    assert [(p.metadata.name, p.metadata.namespace) for p in client.list(Pod, namespace="*")] == [("c", "shop")]
