"""What the API does with objects beside storing them: forms, subresources, patches, checks, pages, deletion."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from contextlib import contextmanager

import pytest

from testbed.apiserver.openapi import document
from testbed.apiserver.protobuf import field, text
from testbed.apiserver.protobuf_objects import INLINE, PROTOBUF, _known, protobuf_object
from testbed.apiserver.server import ApiServer
from testbed.cluster.admission import cluster_admission
from testbed.cluster.kinds import ABSENT_KINDS, CONFIG_MAP, DEPLOYMENT, EVENT, INGRESS, NAMESPACE, POD, REPLICA_SET
from testbed.cluster.schemas import definitions
from testbed.cluster.status import BadRequest
from testbed.cluster.store import FOREGROUND, Store
from testbed.cluster.values import NetworkConfig
from tests.unit.api_requests import APPLY, JSON_PATCH, MERGE, STRATEGIC, TABLE, request
from tests.unit.cluster_objects import config_map, pod, service

PODS, CONFIG_MAPS = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture(scope="module")
def server():
    """One server for all tests; each test has a fresh store behind it."""
    with ApiServer(Store(), socket.create_server(("127.0.0.1", 0)), bookmark_interval_s=0.05) as server:
        yield server


@pytest.fixture
def store(server):
    server.store = Store()
    return server.store


@pytest.fixture
def ask(server, store):
    def ask(method, path, body=None, media="application/json", **headers):
        return request(server.tcp_port, method, path, body, media, **headers)

    return ask


def deployment(replicas=1, image="nginx", **spec):
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


# Who is let in


def test_a_listener_with_a_token_serves_nobody_else():
    with ApiServer(Store(), socket.create_server(("127.0.0.1", 0)), token="s3cret") as server:
        for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            answer = request(server.tcp_port, "GET", PODS, **sent)
            assert (answer.code, answer.body["reason"], answer.body["kind"]) == (401, "Unauthorized", "Status")
        assert request(server.tcp_port, "GET", PODS, Authorization="Bearer s3cret").code == 200
        assert request(server.tcp_port, "GET", "/healthz").body == b"ok"
        assert request(server.tcp_port, "GET", "/version", Authorization="Bearer wrong").code == 401


@pytest.mark.parametrize("kind", ["SelfSubjectAccessReview", "SelfSubjectRulesReview"])
def test_whoever_is_let_in_may_do_everything(ask, kind):
    path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": {}}
    answer = ask("POST", path, review)
    assert answer.code == 201 and (answer.body["status"].get("allowed") or answer.body["status"]["resourceRules"])
    assert ask("GET", path).code == 405


# Forms


def test_a_list_as_a_table_or_as_metadata(ask, store):
    store.create(pod("a"))
    answer = ask("GET", PODS, Accept=f"{TABLE},application/json")
    assert "as=Table" in answer.headers["Content-Type"] and answer.body["kind"] == "Table"
    assert answer.body["rows"][0]["cells"][0] == "a" and answer.body["metadata"]["resourceVersion"] == "1"
    one = ask("GET", f"{PODS}/a", Accept=TABLE.replace("v1;", "v1beta1;")).body
    assert (one["apiVersion"], one["rows"][0]["cells"][0]) == ("meta.k8s.io/v1beta1", "a")
    partial = ask("GET", PODS, Accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").body
    assert partial["kind"] == "PartialObjectMetadataList" and set(partial["items"][0]) == {
        *("kind", "apiVersion", "metadata")
    }
    assert ask("GET", PODS, Accept="application/xml").code == 406
    assert ask("GET", PODS, Accept="application/vnd.kubernetes.protobuf,application/json").body["kind"] == "PodList"


@contextmanager
def watching(server, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=5)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    assert response.status == 200
    yield lambda: json.loads(response.readline())
    response.close()
    connection.close()


def test_a_watch_in_tables_says_the_columns_once(server, store):
    store.create(pod("a"))
    with watching(server, f"{PODS}?watch=1&allowWatchBookmarks=1", Accept=TABLE) as next_event:
        first = next_event()["object"]
        store.create(pod("b"))
        second = next_event()
        while second["type"] == "BOOKMARK":
            second = next_event()
    assert len(first["columnDefinitions"]) == 9 and second["object"]["columnDefinitions"] == []
    assert second["object"]["rows"][0]["cells"][0] == "b"


def test_a_watch_can_begin_with_a_list_and_says_where_it_ends(server, store):
    store.create(pod("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with watching(server, f"{PODS}?{query}") as next_event:
        assert next_event()["object"]["metadata"]["name"] == "a"
        bookmark = next_event()
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_hundred_watchers_see_everything_and_leave_nothing(server, store):
    streams = []
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=10)
        connection.request("GET", f"{PODS}?watch=1&resourceVersion=0", headers={"Accept": TABLE})
        streams.append((connection, connection.getresponse()))
    for number in range(5):
        store.create(pod(f"p{number}"))
    for connection, response in streams:
        seen = [json.loads(response.readline())["object"]["rows"][0]["cells"][0] for _ in range(5)]
        assert seen == [f"p{number}" for number in range(5)]
        response.close()
        connection.close()
    store.create(pod("last"))
    server_is_quiet(server)


def server_is_quiet(server):
    deadline = time.monotonic() + 10
    while server._watches or len(server._connections) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_thousand_pods_make_a_table_in_a_moment(ask, store):
    for number in range(1000):
        running = container_status(number)
        store.create({**pod(f"p{number}"), "status": {"phase": "Running", "containerStatuses": [running]}})

    def seconds():
        """Processor time of both ends."""
        started = time.process_time()
        assert len(ask("GET", "/api/v1/pods", Accept=TABLE).body["rows"]) == 1000
        return time.process_time() - started

    assert min(seconds() for _ in range(3)) < 0.15


def container_status(restarts):
    ended = {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}
    return {"name": "main", "ready": True, "restartCount": restarts, "state": {"running": {}}, "lastState": ended}


def test_pages_are_of_one_moment(ask, store):
    for number in range(5):
        store.create(config_map(f"c{number}"))
    first = ask("GET", f"{CONFIG_MAPS}?limit=2").body
    assert first["metadata"]["remainingItemCount"] == 3
    store.delete(CONFIG_MAP, "c3")
    second = ask("GET", f"{CONFIG_MAPS}?limit=2&continue={first['metadata']['continue']}").body
    third = ask("GET", f"{CONFIG_MAPS}?limit=2&continue={second['metadata']['continue']}").body
    names = [wire["metadata"]["name"] for page in (first, second, third) for wire in page["items"]]
    assert names == [f"c{number}" for number in range(5)]
    assert "continue" not in third["metadata"] and third["metadata"]["resourceVersion"] == "5"
    assert ask("GET", f"{CONFIG_MAPS}?continue=xyz").code == 400
    for _ in range(40):
        ask("GET", f"{CONFIG_MAPS}?limit=1")
    expired = ask("GET", f"{CONFIG_MAPS}?continue={first['metadata']['continue']}")
    assert (expired.code, expired.body["reason"]) == (410, "Expired")


def test_a_list_of_a_version(ask, store):
    store.create(config_map("a"))
    assert ask("GET", f"{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact").code == 200
    store.create(config_map("b"))
    assert ask("GET", f"{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=NotOlderThan").code == 200
    assert ask("GET", f"{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact").code == 410
    assert ask("GET", f"{CONFIG_MAPS}?resourceVersion=9").code == 410
    assert ask("GET", f"{CONFIG_MAPS}?resourceVersionMatch=Exact").code == 400


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        *(("app in (a, b)", "ab"), ("app notin (a)", "bc"), ("app in (a),tier", "a"), ("tier,app!=b", "a")),
        *(("!app", "c"), ("app in ()", ""), ("app=a,app=b", "")),
    ],
)
def test_label_selectors(ask, store, selector, names):
    for name, labels in (("a", {"app": "a", "tier": "x"}), ("b", {"app": "b"}), ("c", {})):
        wire = config_map(name)
        wire["metadata"]["labels"] = labels
        store.create(wire)
    found = ask("GET", f"{CONFIG_MAPS}?labelSelector={selector.replace(' ', '%20')}").body["items"]
    assert "".join(wire["metadata"]["name"] for wire in found) == names


def test_field_selectors_are_those_of_the_kind(ask, store):
    store.create({**pod("a"), "status": {"phase": "Running"}})
    involved = {"kind": "Pod", "name": "a", "namespace": "default"}
    store.create({**EVENT_OBJECT, "involvedObject": involved})
    for path, count in (
        (f"{PODS}?fieldSelector=status.phase=Running", 1),
        (f"{PODS}?fieldSelector=status.phase!=Running,spec.nodeName=", 0),
        ("/api/v1/events?fieldSelector=involvedObject.name=a,type=Warning", 1),
        ("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name=b", 0),
    ):
        assert len(ask("GET", path).body["items"]) == count, path
    assert ask("GET", f"{CONFIG_MAPS}?fieldSelector=status.phase=x").code == 400


# Patches


def test_the_forms_of_patch(ask, store):
    store.create(deployment())
    path = f"{DEPLOYMENTS}/web"
    add = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "busybox"}]}}}}
    containers = ask("PATCH", path, add, STRATEGIC).body["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["c", "d"]
    operations = [{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "remove", "path": "/metadata/labels"}]
    assert ask("PATCH", path, operations, JSON_PATCH).code == 422
    operations[1] = {"op": "replace", "path": "/spec/replicas", "value": 4}
    assert ask("PATCH", path, operations, JSON_PATCH).body["spec"]["replicas"] == 4
    assert ask("PATCH", path, operations, JSON_PATCH).code == 422  # the test no longer holds
    for wrong in ({}, [5], [{"op": "jump"}], [{"op": "add", "path": "nowhere", "value": 1}]):
        assert ask("PATCH", path, wrong, JSON_PATCH).code in (400, 422)
    assert ask("PATCH", path, {"metadata": {"name": "other"}}, MERGE).code == 400
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 9}}
    assert ask("PATCH", path, stale, MERGE).code == 409
    assert store.get(DEPLOYMENT, "web")["spec"]["replicas"] == 4


def test_apply_creates_and_changes_and_tells_conflicts(ask, store):
    path = f"{DEPLOYMENTS}/web?fieldManager="
    assert ask("PATCH", f"{path}me", deployment(2), APPLY).code == 201
    assert ask("PATCH", f"{path}me", b"{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}", APPLY).code == 400
    answer = ask("PATCH", f"{path}other", deployment(3), APPLY)
    assert (answer.code, answer.body["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
    assert ask("PATCH", f"{path}other&force=true", deployment(3), APPLY).body["spec"]["replicas"] == 3
    assert ask("PATCH", f"{DEPLOYMENTS}/web", deployment(3), APPLY).code == 400
    ask("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 7}}, MERGE, User_Agent="hand/1.0")
    answer = ask("PATCH", f"{path}other", deployment(3), APPLY)
    assert answer.code == 409 and '"hand"' in answer.body["message"]


# Subresources


def test_status_and_spec_are_written_apart(ask, store):
    created = ask("POST", DEPLOYMENTS, {**deployment(), "status": {"replicas": 9}}).body
    assert "status" not in created
    path = f"{DEPLOYMENTS}/web"
    changed = {**created, "spec": {**created["spec"], "replicas": 5}, "status": {"replicas": 3}}
    told = ask("PUT", f"{path}/status", changed).body
    assert (told["spec"]["replicas"], told["status"]) == (1, {"replicas": 3})
    del changed["metadata"]["resourceVersion"]
    kept = ask("PUT", path, {**changed, "status": {"replicas": 8}}).body
    assert (kept["spec"]["replicas"], kept["status"]) == (5, {"replicas": 3})
    assert ask("GET", f"{path}/status").body == store.get(DEPLOYMENT, "web")
    assert ask("PUT", f"{CONFIG_MAPS}/a/status", config_map("a")).code == 404


def test_scale(ask, store):
    ask("POST", DEPLOYMENTS, deployment(2))
    path = f"{DEPLOYMENTS}/web/scale"
    scale = ask("GET", path).body
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 2}, "app=web")
    scale["spec"]["replicas"] = 4
    assert ask("PUT", path, scale).body["spec"] == {"replicas": 4}
    assert ask("PUT", path, scale).code == 409  # its version is the one before
    assert ask("PATCH", path, {"spec": {"replicas": 0}}, MERGE).body["spec"] == {"replicas": 0}
    assert store.get(DEPLOYMENT, "web")["spec"]["replicas"] == 0
    assert ask("PATCH", path, {"spec": {"replicas": -1}}, MERGE).code == 422
    assert ask("PUT", path, deployment()).code == 400


def test_binding_and_eviction(ask, store):
    store.create(pod("a"))
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": "n1"}}
    assert ask("POST", f"{PODS}/a/binding", binding).code == 201
    assert store.get(POD, "a")["spec"]["nodeName"] == "n1"
    assert ask("POST", f"{PODS}/a/binding", binding).code == 409
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    assert ask("POST", f"{PODS}/a/eviction", {**eviction, "kind": "Pod"}).code == 400
    assert ask("POST", f"{PODS}/a/eviction?dryRun=All", eviction).code == 201
    assert store.get(POD, "a")
    assert ask("POST", f"{PODS}/a/eviction", eviction).body["status"] == "Success"
    assert ask("POST", f"{PODS}/a/eviction", eviction).code == 404
    assert ask("GET", f"{PODS}/a/eviction").code == 405


def test_containers_are_added_to_a_pod_by_a_subresource_alone(ask, store):
    store.create(pod("a"))
    path = f"{PODS}/a/ephemeralcontainers"

    def added(*containers):
        return {"spec": {"ephemeralContainers": list(containers)}}

    look = {"name": "look", "image": "busybox", "targetContainerName": "main"}
    assert ask("PATCH", f"{PODS}/a", added(look), STRATEGIC).code == 422
    answer = ask("PATCH", path, added(look), STRATEGIC)
    assert (answer.code, answer.body["spec"]["ephemeralContainers"]) == (200, [look])
    again = {"name": "again", "image": "busybox"}
    assert ask("PATCH", path, added(again), STRATEGIC).code == 200
    names = [one["name"] for one in store.get(POD, "a")["spec"]["ephemeralContainers"]]
    assert sorted(names) == ["again", "look"]
    whole = store.get(POD, "a")
    assert ask("PUT", path, {**whole, "spec": {**whole["spec"], "hostname": "other"}}).code == 200
    assert ask("GET", path).body["spec"] == whole["spec"], "nothing else is changed"
    for wrong, name in [
        ({"name": "main", "image": "busybox"}, "name"),
        ({"name": "x"}, "image"),
        ({"name": "../x", "image": "busybox"}, "name"),
        ({"name": "x", "image": "busybox", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, "name"),
        ({"name": "x", "image": "busybox", "targetContainerName": "nobody"}, "targetContainerName"),
        ({"name": "x", "image": "busybox", "ports": [{"containerPort": 80}]}, "ports"),
    ]:
        answer = ask("PATCH", path, added(wrong), STRATEGIC)
        causes = [cause["field"] for cause in answer.body["details"]["causes"]]
        assert (answer.code, [cause.rpartition(".")[2] for cause in causes]) == (422, [name])
    answer = ask("PATCH", path, added({"name": "look", "image": "alpine"}), STRATEGIC)
    assert answer.code == 422 and "may not be changed" in answer.body["message"]
    assert ask("PUT", path, {**whole, "spec": {**whole["spec"], "ephemeralContainers": []}}).code == 422
    answer = ask("PUT", path, {"apiVersion": "v1", "kind": "EphemeralContainers", "metadata": {"name": "a"}})
    assert (answer.code, "needs kubectl 1.23" in answer.body["message"]) == (400, True)


# Checks


def test_everything_that_is_wrong_is_said_at_once(ask):
    wrong = pod("a", restartPolicy="Often")
    wrong["spec"]["containers"][0]["ports"] = [{"containerPort": 0}, {}]
    answer = ask("POST", PODS, wrong)
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    fields = {cause["field"] for cause in answer.body["details"]["causes"]}
    assert fields == {
        *("spec.restartPolicy", "spec.containers[0].ports[0].containerPort"),
        "spec.containers[0].ports[1].containerPort",
    }
    wrong["spec"]["restartPolicy"], wrong["spec"]["containers"][0]["image"] = 5, ["nginx"]
    answer = ask("POST", PODS, wrong)
    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")
    start = 'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal '
    assert answer.body["message"].startswith(start)
    assert "number into Go struct field PodSpec.spec.restartPolicy of type string" in answer.body["message"]
    assert "array into Go struct field Container.spec.containers.image of type string" in answer.body["message"]


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"image": ""}, "image"),
        ({"name": "Main"}, "name"),
        ({"ports": [{"containerPort": 0}]}, "ports[0].containerPort"),
        ({"ports": [{"containerPort": 80, "hostPort": 70000}]}, "ports[0].hostPort"),
        ({"ports": [{"containerPort": 80, "protocol": "HTTP"}]}, "ports[0].protocol"),
        ({"ports": [{"containerPort": 80, "name": "a-name-of-many-letters"}]}, "ports[0].name"),
        ({"ports": [{"containerPort": n, "name": "web"} for n in (80, 81)]}, "ports[1].name"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, "volumeMounts[0].name"),
        ({"env": [{"name": "A=B", "value": "1"}]}, "env[0].name"),
        ({"readinessProbe": {"periodSeconds": 1}}, "readinessProbe"),
    ],
)
def test_what_no_container_can_be(ask, container, field):
    wire = pod("a")
    wire["spec"]["containers"][0].update(container)
    [cause] = ask("POST", PODS, wire).body["details"]["causes"]
    assert cause["field"] == f"spec.containers[0].{field}"
    workload = deployment()
    workload["spec"]["template"]["spec"]["containers"][0].update(container)
    [cause] = ask("POST", DEPLOYMENTS, workload).body["details"]["causes"]
    assert cause["field"] == f"spec.template.spec.containers[0].{field}"


def test_what_no_pod_can_be(ask):
    twice = pod("a", restartPolicy="Often")
    twice["spec"]["containers"] *= 2
    causes = ask("POST", PODS, twice).body["details"]["causes"]
    assert {cause["field"] for cause in causes} == {"spec.restartPolicy", "spec.containers[1].name"}
    assert ask("POST", PODS, pod("a", containers=[])).code == 422


def test_little_of_a_pod_can_be_changed(ask, store):
    ask("POST", PODS, pod("a"))
    change = {"spec": {"containers": [{"name": "main", "image": "nginx"}], "terminationGracePeriodSeconds": 5}}
    assert ask("PATCH", f"{PODS}/a", change, STRATEGIC).code == 200
    answer = ask("PATCH", f"{PODS}/a", {"spec": {"hostNetwork": True}}, MERGE)
    assert answer.code == 422 and "pod updates may not change" in answer.body["message"]


def test_unknown_fields_are_refused_told_or_passed_over(ask):
    wire = pod("a", colour="red")
    strict = ask("POST", f"{PODS}?fieldValidation=Strict", wire)
    assert strict.code == 400 and 'unknown field "spec.colour"' in strict.body["message"]
    told = ask("POST", PODS, wire)
    assert told.code == 201 and 'unknown field \\"spec.colour\\"' in told.headers["Warning"]
    assert "colour" not in told.body["spec"]
    assert "Warning" not in ask("POST", f"{PODS}?fieldValidation=Ignore", pod("b", colour="red")).headers
    assert ask("POST", f"{PODS}?fieldValidation=Sometimes", wire).code == 400


def test_what_was_wrong_before_need_not_be_mended(ask, store):
    store.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "odd"}, "spec": {}})
    assert ask("PATCH", f"{PODS}/odd", {"metadata": {"labels": {"a": "b"}}}, MERGE).code == 200
    assert ask("PATCH", f"{PODS}/odd", {"spec": {"restartPolicy": "Often"}}, MERGE).code == 422
    containers = [{"name": "Main", "image": 5, "resources": {"limits": {"cpu": "much"}}, "ports": "none"}]
    for name, spec in (
        ("type", {"containers": containers}),
        ("text", {"containers": [{**containers[0], "ports": []}]}),
    ):
        store.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        assert ask("PATCH", f"{PODS}/{name}", {"metadata": {"labels": {"a": "b"}}}, MERGE).code == 200
        assert ask("PATCH", f"{PODS}/{name}", {"spec": {"dnsPolicy": 5}}, MERGE).code == 400


def test_defaults_and_generated_names(ask):
    wire = pod("x")
    wire["metadata"] = {"generateName": "job-", "labels": None}
    wire["spec"]["containers"][0]["readinessProbe"] = {"grpc": {"port": 80}}
    made = ask("POST", PODS, wire).body
    assert made["metadata"]["name"].startswith("job-") and len(made["metadata"]["name"]) == 9
    assert (made["spec"]["restartPolicy"], made["spec"]["containers"][0]["imagePullPolicy"]) == ("Always", "Always")
    assert made["spec"]["containers"][0]["readinessProbe"]["grpc"] == {"port": 80, "service": ""}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    assert ask("POST", "/api/v1/namespaces/default/secrets", secret).body["data"] == {"a": "Yg=="}


def test_objects_need_their_namespace_where_there_are_namespaces(ask, store):
    path = "/api/v1/namespaces/shop/configmaps"
    assert ask("POST", path, config_map("a", "shop")).code == 201
    store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    answer = ask("POST", path, config_map("b", "shop"))
    assert (answer.code, answer.body["details"]["kind"]) == (404, "namespaces")


def test_dry_runs_change_nothing(ask, store):
    store.create(deployment())
    version, path = store.resource_version, f"{DEPLOYMENTS}/web"
    assert ask("POST", f"{CONFIG_MAPS}?dryRun=All", config_map("a")).code == 201
    assert ask("PATCH", f"{path}?dryRun=All", {"spec": {"replicas": 5}}, MERGE).body["spec"]["replicas"] == 5
    assert ask("DELETE", f"{path}?dryRun=All").code == 200
    assert ask("DELETE", path, {"dryRun": ["All"]}).code == 200
    assert store.resource_version == version and store.get(DEPLOYMENT, "web")["spec"]["replicas"] == 1


def test_a_dry_run_gives_nothing_out():
    store = Store(admission=cluster_admission(NetworkConfig()))
    tried = store.create(service("a"), dry_run=True)
    assert store.create(service("b"))["spec"]["clusterIP"] == tried["spec"]["clusterIP"]


# Deletion


def test_what_an_object_keeps_stays_when_it_is_orphaned(ask, store):
    uid = store.create(deployment())["metadata"]["uid"]
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": uid, "controller": True}
    replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web-1"}, "spec": {}}
    replica_set["metadata"]["ownerReferences"] = [reference]
    store.create(replica_set)
    answer = ask("DELETE", f"{DEPLOYMENTS}/web", {"propagationPolicy": "Orphan"})
    assert (answer.body["status"], answer.body["details"]["uid"]) == ("Success", uid)
    assert store.get(REPLICA_SET, "web-1")["metadata"]["ownerReferences"] == []


def test_in_the_foreground_an_object_waits_for_its_finalizer(ask, store):
    store.create(deployment())
    ask("DELETE", f"{DEPLOYMENTS}/web?propagationPolicy=Foreground")
    marked = store.get(DEPLOYMENT, "web")["metadata"]
    assert marked["finalizers"] == [FOREGROUND] and marked["deletionTimestamp"]
    ask("PATCH", f"{DEPLOYMENTS}/web", {"metadata": {"finalizers": None}}, MERGE)
    assert store.list(DEPLOYMENT).items == []


def test_preconditions(ask, store):
    uid = store.create(config_map("a"))["metadata"]["uid"]
    assert ask("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": {"uid": "other"}}).code == 409
    assert ask("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": {"uid": uid, "resourceVersion": "1"}}).code == 200


def test_collections_are_emptied_by_selection(ask, store):
    for name in "abc":
        wire = config_map(name)
        wire["metadata"]["labels"] = {"odd": str(name != "b")}
        store.create(wire)
    gone = ask("DELETE", f"{CONFIG_MAPS}?labelSelector=odd=True").body
    assert [wire["metadata"]["name"] for wire in gone["items"]] == ["a", "c"]
    assert [wire["metadata"]["name"] for wire in store.list(CONFIG_MAP).items] == ["b"]


# Other versions

EVENT_OBJECT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "e", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "name": "a"},
    "type": "Warning",
    "message": "it failed",
}


def test_events_have_other_names_in_their_own_group(ask, store):
    store.create(EVENT_OBJECT)
    shown = ask("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e").body
    assert (shown["apiVersion"], shown["note"], shown["regarding"]["name"]) == ("events.k8s.io/v1", "it failed", "a")
    shown["metadata"] = {"name": "f", "namespace": "default"}
    assert ask("POST", "/apis/events.k8s.io/v1/namespaces/default/events", shown).code == 201
    assert store.get(EVENT, "f")["message"] == "it failed"


@pytest.mark.parametrize("group", ["extensions", "networking.k8s.io"])
def test_old_ingresses_are_converted_both_ways(ask, store, group):
    old = {"path": "/", "pathType": "Prefix", "backend": {"serviceName": "web", "servicePort": "http"}}
    default = {"serviceName": "other", "servicePort": 80}
    wire = {
        "apiVersion": f"{group}/v1beta1",
        "kind": "Ingress",
        "metadata": {"name": "old"},
        "spec": {"backend": default, "rules": [{"host": "x.org", "http": {"paths": [old]}}]},
    }
    path = f"/apis/{group}/v1beta1/namespaces/default/ingresses"
    made = ask("POST", path, wire)
    assert made.code == 201 and made.headers["Warning"].startswith("299 - ")
    assert made.body["spec"] == wire["spec"] and made.body["apiVersion"] == wire["apiVersion"]
    stored = store.get(INGRESS, "old")["spec"]
    assert stored["defaultBackend"] == {"service": {"name": "other", "port": {"number": 80}}}
    assert stored["rules"][0]["http"]["paths"][0]["backend"] == {"service": {"name": "web", "port": {"name": "http"}}}
    patched = ask("PATCH", f"{path}/old", {"spec": {"backend": {"servicePort": 81}}}, MERGE).body
    assert patched["spec"]["backend"] == {"serviceName": "other", "servicePort": 81}
    assert ask("POST", path, {**wire, "metadata": {"name": "odd"}, "spec": "text"}).code == 400


# Discovery and schemas


def test_discovery_names_subresources_categories_and_verbs(ask):
    listed = {entry["name"]: entry for entry in ask("GET", "/apis/apps/v1").body["resources"]}
    assert listed["deployments"]["categories"] == ["all"] and "deletecollection" in listed["deployments"]["verbs"]
    assert (listed["deployments/scale"]["kind"], listed["deployments/scale"]["group"]) == ("Scale", "autoscaling")
    assert {"pods/exec", "pods/log", "pods/eviction"} <= {e["name"] for e in ask("GET", "/api/v1").body["resources"]}
    groups = [group["name"] for group in ask("GET", "/apis").body["groups"]]
    assert groups.index("networking.k8s.io") < groups.index("extensions")
    assert ask("GET", "/apis/apps").body["preferredVersion"]["version"] == "v1"


def test_openapi_is_complete_and_of_one_mind_in_both_forms(ask):
    as_json = ask("GET", "/openapi/v2").body
    assert as_json == document() and "io.k8s.api.core.v1.Pod" in as_json["definitions"]
    assert set(_references(as_json)) <= set(as_json["definitions"])
    answer = ask("GET", "/openapi/v2", Accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert "@" not in answer.headers["Content-Type"]
    assert answer.body.startswith(b"\x0a\x032.0") and b"io.k8s.api.core.v1.Pod" in answer.body


def test_each_document_of_openapi_v3_is_complete_and_kept_by_its_hash(ask):
    index = ask("GET", "/openapi/v3").body["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/networking.k8s.io/v1"} <= set(index)
    for group_version, entry in index.items():
        url = entry["serverRelativeURL"]
        answer = ask("GET", url)
        schemas = answer.body["components"]["schemas"]
        assert set(_references(answer.body)) <= set(schemas)
        assert "immutable" in answer.headers["Cache-Control"]
        assert "Cache-Control" not in ask("GET", f"/openapi/v3/{group_version}?hash=OLD").headers
        kinds = [each["patch"]["x-kubernetes-group-version-kind"] for each in answer.body["paths"].values()]
        described = [kind for schema in schemas.values() for kind in schema.get("x-kubernetes-group-version-kind", ())]
        assert kinds and all(kind in described for kind in kinds), url
    containers = ask("GET", "/openapi/v3/api/v1").body["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    assert containers["properties"]["containers"]["x-kubernetes-patch-merge-key"] == "name"
    assert ask("GET", "/openapi/v3/apis/extensions/v1beta1").code == 404


def _references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def test_what_a_namespace_waits_for_is_changed_by_a_subresource_alone(ask, store):
    wire = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    store.create({**wire, "spec": {"finalizers": ["kubernetes"]}})
    path = "/api/v1/namespaces/shop"
    for change in (ask("PUT", path, wire), ask("PATCH", path, {"spec": {"finalizers": []}}, MERGE)):
        assert (change.code, change.body["spec"]) == (200, {"finalizers": ["kubernetes"]})
    assert ask("DELETE", path).body["status"]["phase"] == "Terminating"
    assert ask("PUT", f"{path}/finalize", {**wire, "spec": {"finalizers": []}}).code == 200
    assert ask("GET", path).code == 404


@pytest.mark.parametrize("kind", ABSENT_KINDS, ids=lambda kind: f"{kind.resource}.{kind.version}")
def test_kinds_of_which_there_are_none(ask, kind):
    path = kind.path("default" if kind.namespaced else None)
    listed = ask("GET", path)
    assert (listed.code, listed.body["kind"], listed.body["items"]) == (200, f"{kind.name}List", [])
    table = ask("GET", path, Accept="application/json;as=Table;g=meta.k8s.io;v=v1").body
    assert table["rows"] == []
    watched = ask("GET", f"{path}?watch=1&timeoutSeconds=0&sendInitialEvents=true&allowWatchBookmarks=true")
    assert (watched.code, watched.body["type"]) == (200, "BOOKMARK")
    assert ask("GET", f"{path}/a").code == ask("DELETE", f"{path}/a").code == 404
    made = ask("POST", path, {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "a"}})
    assert made.code == 405 and made.body["message"].startswith(f"the testbed keeps no {kind.plural}")


# Protocol buffers


def enveloped(api_version, kind, message):
    return b"k8s\0" + field(1, text(1, api_version) + text(2, kind)) + field(2, message)


def test_objects_in_protocol_buffers(ask, store):
    metadata = text(1, "a") + field(8, b"") + field(11, text(1, "app") + text(2, "web"))
    data = field(2, text(1, "k") + text(2, "v"))
    answer = ask("POST", CONFIG_MAPS, enveloped("v1", "ConfigMap", field(1, metadata) + data), PROTOBUF)
    assert answer.code == 201
    stored = store.get(CONFIG_MAP, "a")
    assert (stored["data"], stored["metadata"]["labels"]) == ({"k": "v"}, {"app": "web"})
    assert ask("POST", "/api/v1/namespaces", enveloped("v1", "Namespace", field(1, text(1, "n"))), PROTOBUF).code == 201
    assert store.get(NAMESPACE, "n")
    deletion = enveloped("v1", "DeleteOptions", b"\x08\x00" + field(2, text(1, "another")))
    assert ask("DELETE", f"{CONFIG_MAPS}/a", deletion, PROTOBUF).code == 409
    review = enveloped("authentication.k8s.io/v1", "SelfSubjectReview", field(1, b"") + field(2, field(1, b"")))
    answer = ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, PROTOBUF)
    assert (answer.code, answer.body["status"]["userInfo"]["username"]) == (201, "testbed-admin")


def test_values_of_every_type():
    def integer(number, value):
        return bytes([number << 3, value])

    probe = field(1, field(2, text(1, "/x") + field(2, integer(1, 1) + text(3, "web")))) + integer(2, 7)
    limits = field(8, field(1, text(1, "cpu") + field(2, text(1, "100m"))))
    container = text(1, "c") + text(2, "i") + field(11, probe) + limits
    spec = field(2, container) + integer(4, 0) + integer(11, 1)
    wire = protobuf_object(enveloped("v1", "Pod", field(1, text(1, "p")) + field(2, spec)))
    [made] = wire["spec"]["containers"]
    assert made["readinessProbe"] == {"httpGet": {"path": "/x", "port": "web"}, "initialDelaySeconds": 7}
    assert made["resources"] == {"limits": {"cpu": "100m"}}
    assert (wire["spec"]["terminationGracePeriodSeconds"], wire["spec"]["hostNetwork"]) == (0, True)
    secret = field(2, text(1, "k") + field(2, b"\x00\xff"))
    assert protobuf_object(enveloped("v1", "Secret", secret))["data"] == {"k": "AP8="}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"k8s\0", b"{}", enveloped("v1", "Nonsense", b""), enveloped("v1", "Pod", b"\xff" * 20)),
        *(enveloped("v1", "Pod", b"\x0a\x7f"), enveloped("v1", "Pod", field(1, field(1, b"\xff")))),
        enveloped("v1", "Pod", struct.pack("<B", 0x0B)),
    ],
)
def test_what_is_no_object_is_refused(body):
    with pytest.raises(BadRequest, match="no object"):
        protobuf_object(body)


def test_only_fields_that_json_does_not_show_are_inline():
    """The table of messages and the JSON schemas know each other's fields."""
    known, unseen = definitions(), set()
    for message, fields in _known().items():
        schema = known.get(message.replace("k8s.io.", "io.k8s.", 1), {})
        if properties := schema.get("properties"):
            unseen |= {name for name, _, _ in fields.values() if name not in properties}
    # "resources" is of a status, of an alpha feature, and called otherwise since.
    assert unseen - {"resources"} <= INLINE
