"""The official Python client lists, watches, patches and deletes through the API."""

from __future__ import annotations

import socket

import pytest
from kubernetes import client, watch

from testbed.apiserver.server import ApiServer
from testbed.cluster.store import Store
from tests.unit.cluster_objects import pod


@pytest.fixture
def store():
    store = Store()
    for name in ("a", "b"):
        store.create(pod(name))
    return store


@pytest.fixture
def api(store):
    with ApiServer(store, socket.create_server(("127.0.0.1", 0)), token="s3cret") as server:
        configuration = client.Configuration(host=server.url)
        configuration.api_key["authorization"] = "s3cret"
        configuration.api_key_prefix["authorization"] = "Bearer"
        with client.ApiClient(configuration) as api:
            yield api


def test_objects_are_listed_page_by_page_and_as_types(api):
    core = client.CoreV1Api(api)
    first = core.list_namespaced_pod("default", limit=1)
    rest = core.list_namespaced_pod("default", limit=1, _continue=first.metadata._continue)
    assert [listed.items[0].metadata.name for listed in (first, rest)] == ["a", "b"]
    assert core.read_namespaced_pod("a", "default").spec.containers[0].image == "busybox"
    assert client.VersionApi(api).get_code().minor == "32"


def test_a_deployment_lives(api, store):
    apps, labels = client.AppsV1Api(api), {"app": "web"}
    container = client.V1Container(name="c", image="nginx")
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels=labels), template=template)
    wanted = client.V1Deployment(
        api_version="apps/v1", kind="Deployment", metadata=client.V1ObjectMeta(name="web"), spec=spec
    )
    made = apps.create_namespaced_deployment("default", wanted)
    assert (made.spec.replicas, made.spec.strategy.type) == (1, "RollingUpdate")
    env = {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}}}}
    patched = apps.patch_namespaced_deployment("web", "default", env)
    assert patched.spec.template.spec.containers[0].image == "nginx"
    assert apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 3}}).spec.replicas == 3
    patched.metadata.resource_version = "1"
    with pytest.raises(client.ApiException) as conflict:
        apps.replace_namespaced_deployment("web", "default", patched)
    assert conflict.value.status == 409
    apps.delete_namespaced_deployment("web", "default")
    assert apps.list_deployment_for_all_namespaces().items == []


def test_a_watch_delivers_what_happens(api, store):
    core, stream = client.CoreV1Api(api), watch.Watch()
    version = core.list_namespaced_pod("default").metadata.resource_version
    core.patch_namespaced_pod("a", "default", {"metadata": {"labels": {"x": "y"}}})
    core.delete_namespaced_pod("b", "default", grace_period_seconds=0)
    events = stream.stream(core.list_namespaced_pod, "default", resource_version=version, timeout_seconds=5)
    first, second = next(events), next(events)
    stream.stop()
    assert (first["type"], first["object"].metadata.labels) == ("MODIFIED", {"x": "y"})
    assert (second["type"], second["object"].metadata.name) == ("DELETED", "b")


def test_a_wrong_token_is_refused(api):
    api.configuration.api_key["authorization"] = "guessed"
    with pytest.raises(client.ApiException) as refused:
        client.CoreV1Api(api).list_namespaced_pod("default")
    assert refused.value.status == 401
