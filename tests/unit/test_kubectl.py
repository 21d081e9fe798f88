"""The real kubectl, of both generations, against the API, the store and the cluster's loops; no pod runs."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress

import pytest

from testbed.apiserver.server import ApiServer
from testbed.cluster.admission import cluster_admission
from testbed.cluster.assign import assign
from testbed.cluster.kinds import DEPLOYMENT, POD
from testbed.cluster.loops import Loops
from testbed.cluster.namespaces import create_namespaces
from testbed.cluster.objects import object_name, object_namespace
from testbed.cluster.status import NotFound
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.kubectl import Kubectl, kubectls
from tests.unit.cluster_objects import edge_nodes

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: nginx, image: nginx, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
OLD_INGRESS = """\
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: old}
spec: {rules: [{host: a.example.com, http: {paths: [{path: /, backend: {serviceName: web, servicePort: 80}}]}}]}
"""
WRONG_POD = """\
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec: {restartPolicy: 5, containers: [{name: a, image: b, imagee: c, ports: [{containerPort: high}]}]}
"""


@pytest.fixture(scope="module")
def store():
    store = Store(admission=cluster_admission(NetworkConfig()))
    create_namespaces(store)
    for wire in assign(edge_nodes(2), NetworkConfig(), 24, []):
        store.create(wire)
    return store


@pytest.fixture(scope="module")
def server(store):
    loops = Loops(store)
    loops.start()
    with ApiServer(store, socket.create_server(("127.0.0.1", 0))) as server, store.watch(POD) as pods:
        kubelets = threading.Thread(target=say_what_kubelets_say, args=(store, pods))
        kubelets.start()
        yield server
        pods.close()
        kubelets.join()
    loops.stop()


def say_what_kubelets_say(store, pods):
    """Bound pods are ready at once, and ended ones gone."""
    running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    while events := pods.next():
        for _, pod in (event for event in events if event.type != "DELETED"):
            name, namespace = object_name(pod), object_namespace(pod)
            with suppress(NotFound):
                if "deletionTimestamp" in pod["metadata"]:
                    store.delete(POD, name, namespace, 0)
                elif "nodeName" in pod["spec"] and pod.get("status", {}).get("phase") != "Running":
                    store.patch(POD, name, {"status": running}, namespace)


@pytest.fixture(scope="module", params=kubectls(), ids=lambda program: program.parts[-4])
def kubectl(request, server, tmp_path_factory):
    kubectl = Kubectl(request.param, server.url, tmp_path_factory.mktemp("kubectl"))
    yield kubectl
    kubectl("delete", "deploy,svc,ing,rs,pod,cm,secret,job", "--all")


@pytest.fixture(scope="module")
def web(kubectl, tmp_path_factory):
    """A file with a Deployment and its Service, applied."""
    path = tmp_path_factory.mktemp("manifests") / "web.yaml"
    path.write_text(WEB)
    assert kubectl("apply", "-f", str(path)) == "deployment.apps/web created\nservice/web created\n"
    return str(path)


def rows(text):
    return [line.split() for line in text.splitlines()]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_there_is(kubectl):
    served = kubectl("api-resources")
    for line in ("deployments deploy", "ingresses ing", "networkpolicies netpol", "jobs", "events ev"):
        assert any(row[: len(line.split())] == line.split() for row in rows(served)), line
    assert "Deployment enables declarative updates" in kubectl("explain", "deployments").replace("\n", " ")
    assert "containerPort" in kubectl("explain", "pod.spec.containers.ports")
    assert "v1.32" in kubectl("version")
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert rows(kubectl("get", "namespaces"))[1][:2] == ["default", "Active"]
    assert rows(kubectl("get", "nodes", "-o", "wide"))[1][0] == "n1"
    assert "doesn't have a resource type" in kubectl.refused("get", "nonsense")


def test_apply_get_and_describe(kubectl, web, store):
    assert kubectl("apply", "-f", web) == "deployment.apps/web unchanged\nservice/web unchanged\n"
    wait_until(lambda: kubectl("get", "pods").count("Running") == 2)
    header, *pods = rows(kubectl("get", "pods", "-l", "app in (web)", "-o", "wide"))
    assert header[:8] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED"]
    assert {(row[1], row[2]) for row in pods} == {("0/1", "Running")} and {row[6] for row in pods} == {"n1", "n2"}
    shown = kubectl("get", "all")
    assert all(part in shown for part in ("pod/web-", "service/web ", "deployment.apps/web ", "replicaset.apps/web-"))
    assert kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ports[0].protocol}") == "TCP"
    assert "ScalingReplicaSet" in kubectl("describe", "deploy", "web")
    assert "10.96." in kubectl("describe", "svc", "web")
    assert "Successfully assigned" in kubectl("get", "events", "--field-selector", "reason=Scheduled")
    assert "Non-terminated Pods:" in kubectl("describe", "node", "n1")


def test_watch_shows_what_changes(kubectl, web, store):
    watching = kubectl.start("get", "deploy", "-l", "app=web", "-w")
    assert watching.stdout.readline().split()[:2] == ["NAME", "READY"]
    assert watching.stdout.readline().split()[0] == "web"
    store.patch(DEPLOYMENT, "web", {"status": {"readyReplicas": 1}})
    seen = watching.stdout.readline().split()
    kubectl.end(watching)
    assert seen[0] == "web"


def test_every_way_to_change_a_deployment(kubectl, web, store):
    def spec():
        return store.get(DEPLOYMENT, "web")["spec"]

    kubectl("scale", "deploy", "web", "--replicas=3")
    assert spec()["replicas"] == 3
    kubectl("set", "image", "deploy/web", "nginx=nginx:1.25")
    [container] = spec()["template"]["spec"]["containers"]
    assert (container["image"], container["ports"]) == ("nginx:1.25", [{"containerPort": 80, "protocol": "TCP"}])
    env = [{"name": "A", "value": "1"}]
    change = {"spec": {"template": {"spec": {"containers": [{"name": "nginx", "env": env}]}}}}
    kubectl("patch", "deploy", "web", "-p", json.dumps(change))
    kubectl("patch", "deploy", "web", "--type=json", "-p", '[{"op": "replace", "path": "/spec/replicas", "value": 4}]')
    kubectl("patch", "deploy", "web", "--type=merge", "-p", '{"spec": {"minReadySeconds": 0}}')
    assert (spec()["replicas"], spec()["template"]["spec"]["containers"][0]["env"]) == (4, env)
    kubectl("edit", "deploy", "web", KUBE_EDITOR="sed -i 's/replicas: 4/replicas: 1/'")
    assert spec()["replicas"] == 1
    kubectl("label", "deploy", "web", "tier=front")
    kubectl("label", "deploy", "web", "tier-")
    assert "configured" in kubectl("apply", "-f", web)
    [container] = spec()["template"]["spec"]["containers"]
    assert (spec()["replicas"], container["image"]) == (2, "nginx")  # what others have set stays: env
    assert container["env"] == env


def test_rollouts(kubectl, web, store):
    kubectl("rollout", "restart", "deploy", "web")
    assert "successfully rolled out" in kubectl("rollout", "status", "deploy", "web")
    kubectl("set", "image", "deploy/web", "nginx=nginx:9")
    wait_until(lambda: len(kubectl("rollout", "history", "deploy", "web").strip().splitlines()) >= 4)
    kubectl("rollout", "undo", "deploy", "web")
    assert store.get(DEPLOYMENT, "web")["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx"


def test_create_run_and_expose(kubectl, web):
    assert "exposed" in kubectl("expose", "deploy", "web", "--type=NodePort", "--name=out", "--port=80")
    assert rows(kubectl("get", "svc", "out"))[1][1] == "NodePort"
    kubectl("create", "deployment", "made", "--image=busybox")
    kubectl("create", "configmap", "settings", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "hidden", "--from-literal=a=b")
    assert kubectl("get", "secret", "hidden", "-o", "jsonpath={.type} {.data.a}") == "Opaque Yg=="
    kubectl("create", "job", "once", "--image=busybox", "--", "true")
    kubectl("run", "lone", "--image=busybox")
    kubectl("create", "ns", "shop")
    kubectl("-n", "shop", "create", "configmap", "there", "--from-literal=a=b")
    assert 'namespaces "nowhere" not found' in kubectl.refused("-n", "nowhere", "create", "configmap", "x")
    kubectl("delete", "ns", "shop")
    kubectl("delete", "pod", "lone", "--now")
    assert "NotFound" in kubectl.refused("get", "pod", "lone")
    kubectl("delete", "deploy", "made", "--cascade=orphan")
    assert any(row[0].startswith("made-") for row in rows(kubectl("get", "rs")))


def test_server_side_apply_tells_who_else_has_set_a_field(kubectl, web, store):
    kubectl("scale", "deploy", "web", "--replicas=5")
    told = kubectl.refused("apply", "--server-side", "-f", web)
    assert "Apply failed with 1 conflict" in told and ".spec.replicas" in told
    kubectl("apply", "--server-side", "--force-conflicts", "-f", web)
    assert store.get(DEPLOYMENT, "web")["spec"]["replicas"] == 2


def test_an_ingress_of_old_is_converted_with_a_warning(kubectl, tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(OLD_INGRESS)
    done = kubectl.run("apply", "-f", str(path))
    assert "Warning: extensions/v1beta1 Ingress is deprecated" in done.stderr
    assert rows(kubectl("get", "ingress"))[1][:3] == ["old", "<none>", "a.example.com"]
    stored = json.loads(kubectl("get", "ingress.networking.k8s.io", "old", "-o", "json"))
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    [path] = stored["spec"]["rules"][0]["http"]["paths"]
    assert path == {"path": "/", "pathType": "ImplementationSpecific", "backend": backend}
    assert "a.example.com" in kubectl("describe", "ingress", "old")


def test_what_is_wrong_is_said_field_by_field(kubectl, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG_POD)
    told = kubectl.refused("create", "-f", str(path), "--validate=false")
    assert "restartPolicy" in told and "containerPort" in told
    path.write_text(WRONG_POD.replace("high", "80").replace("restartPolicy: 5, ", ""))
    assert "imagee" in kubectl.refused("create", "-f", str(path))


def test_what_is_not_kept_is_said(kubectl, web):
    assert "No resources found" in kubectl.run("get", "pvc,hpa").stderr
    assert "keeps no serviceaccounts" in kubectl.refused("create", "serviceaccount", "robot")
    assert "keeps no horizontalpodautoscalers" in kubectl.refused("autoscale", "deployment/web", "--max=3")
    assert "no roles of rbac.authorization.k8s.io" in kubectl.refused(
        "create", "role", "r", "--verb=get", "--resource=po"
    )
    # It looks at kinds of which there are none.
    assert '"ReplicationControllerList"' in kubectl("cluster-info", "dump", "--namespaces=default")


def test_trying_changes_nothing(kubectl, web, store):
    before = store.resource_version
    assert "(server dry run)" in kubectl("apply", "-f", web, "--dry-run=server")
    assert "(server dry run)" in kubectl("delete", "svc", "web", "--dry-run=server")
    assert "(server dry run)" in kubectl("create", "configmap", "tried", "--dry-run=server")
    assert [wire for wire in (store.list(DEPLOYMENT).items) if wire["metadata"]["name"] == "web"]
    assert store.resource_version == before


def test_nodes_are_emptied_and_filled_again(kubectl, web, store):
    kubectl("cordon", "n1")
    assert "SchedulingDisabled" in kubectl("get", "node", "n1")
    kubectl("drain", "n1", "--force", "--timeout=20s")
    assert not [pod for pod in store.list(POD).items if pod["spec"].get("nodeName") == "n1"]
    kubectl("uncordon", "n1")
    assert "SchedulingDisabled" not in kubectl("get", "node", "n1")
