"""Ingress by real nginx in a controller pod: from a host outside to pods, while everything changes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from testbed.cluster.kinds import DEPLOYMENT, EVENT, INGRESS, NODE, POD, SECRET, SERVICE
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.network.ingress.certificates import self_signed
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of
from tests.box.harness import PROJECT, USERS, run_in_box

pytestmark = pytest.mark.box

ADDONS = PROJECT / "testbed" / "addons"
LOAD = PROJECT / "testbed" / "measure" / "clients" / "http.py"
CONTROLLER = "ingress-nginx-controller"
EXT = parse_endpoint("ext/ext1")


def addon(name: str) -> list[JsonObject]:
    return list(yaml.safe_load_all((ADDONS / f"{name}.yaml").read_text()))


def tomcat() -> list[JsonObject]:
    """A Deployment of two servers that say their names, and its Service."""
    labels = {"app": "tomcat"}
    container = {
        "name": "tomcat",
        "image": "whoami",
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "tomcat"},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "tomcat"},
            "spec": {"selector": labels, "ports": [{"port": 8080, "targetPort": 8000}]},
        },
    ]


def ingress(name: str, host: str | None, **spec: Any) -> JsonObject:
    """All paths of a host to the Service."""
    backend = {"service": {"name": "tomcat", "port": {"number": 8080}}}
    rule = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {"rules": [{**rule, **({"host": host} if host else {})}], **spec},
    }


def _curl(testbed: Testbed, *arguments: str) -> str:
    """What curl prints at the host outside."""
    argv = ["curl", "-sS", "--max-time", "10", *arguments]
    process = testbed.popen(EXT, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output, _ = process.communicate(timeout=30)
    return str(output)


def _load(testbed: Testbed, address: str, port: int, keep_alive: bool, meanwhile: Callable[[], None]) -> int:
    """Requests at a fixed rate while something happens; fails when one is lost. Returns how many there were."""
    arguments = [address, str(port), "/", "3", "0", "250", str(int(keep_alive)), "10"]
    process = testbed.popen(EXT, [sys.executable, str(LOAD), *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    meanwhile()
    output, _ = process.communicate(timeout=60)
    result = json.loads(output.splitlines()[-1])
    lost = [row for row in result["requests"] if row[2] != 200]
    assert not lost, (len(lost), len(result["requests"]), lost[:5], result["problems"])
    return len(result["requests"])


def _settle(testbed: Testbed) -> None:
    testbed.wait_settled()
    testbed.wait_pods_ready()
    testbed.wait_settled()


def _change_everything(testbed: Testbed) -> None:
    """More pods, fewer, and others; and rules that need a reload."""
    for number, replicas in enumerate((4, 1, 2)):
        testbed.scale("default", "tomcat", replicas)
        testbed.store.create(ingress(f"more-{number}", f"more-{number}.example"))
        _settle(testbed)
    for name in _pods(testbed, "tomcat-"):
        testbed.store.delete(POD, name)
        _settle(testbed)


def _restart_controllers(testbed: Testbed) -> None:
    """As ``kubectl rollout restart``, with two of them."""
    annotations = {"kubectl.kubernetes.io/restartedAt": "now"}
    template = {"metadata": {"annotations": annotations}}
    before = set(_pods(testbed, CONTROLLER, "ingress-nginx"))
    testbed.store.patch(DEPLOYMENT, CONTROLLER, {"spec": {"replicas": 2, "template": template}}, "ingress-nginx")
    _settle(testbed)
    assert not before & set(_pods(testbed, CONTROLLER, "ingress-nginx"))


def _pods(testbed: Testbed, start: str, namespace: str = "default") -> list[str]:
    pods = testbed.store.list(POD, lambda pod: "deletionTimestamp" not in pod["metadata"]).items
    return [
        object_name(pod) for pod in pods if object_namespace(pod) == namespace and object_name(pod).startswith(start)
    ]


def _addresses(testbed: Testbed) -> list[str]:
    """What ``kubectl get ingress`` shows."""
    status = testbed.store.get(INGRESS, "tomcat").get("status") or {}
    return [entry["ip"] for entry in status.get("loadBalancer", {}).get("ingress", ())]


def _events(testbed: Testbed, name: str) -> set[str]:
    return {one["reason"] for one in testbed.store.list(EVENT).items if one["involvedObject"]["name"] == name}


def on_the_nodes_own_ports() -> None:
    with cluster(plan_of("single_switch", [*tomcat(), ingress("tomcat", "tomcat.demo.com")], ext=1)) as testbed:
        assert _addresses(testbed) == []
        testbed.store.patch(NODE, "n1", {"metadata": {"labels": {"ingress-ready": "true"}}})
        testbed.apply([*addon("ingress-nginx"), ingress("any", None)])
        _settle(testbed)
        address = str(testbed.address(parse_endpoint("node/n1")))
        assert _addresses(testbed) == [address]
        # By the name in the hosts file of the host outside.
        with testbed.popen(EXT, ["sh", "-c", f"echo {address} tomcat.demo.com >> /etc/hosts"]) as process:
            assert process.wait() == 0
        answers = {_curl(testbed, "http://tomcat.demo.com/").splitlines()[0] for _ in range(4)}
        assert answers == set(_pods(testbed, "tomcat-"))
        # Kept connections meet both the end of endpoints and that of nginx's workers.
        _load(testbed, address, 80, True, lambda: _change_everything(testbed))
        assert _curl(testbed, "-H", "Host: more-2.example", f"http://{address}/").startswith("tomcat-")
        _tls(testbed)
        _mistakes(testbed)
        # Killed, it is started again and has its rules.
        (controller,) = _pods(testbed, CONTROLLER, "ingress-nginx")
        process = testbed.containers.process(f"ingress-nginx/{controller}", "controller")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        _wait_for(lambda: _curl(testbed, "http://tomcat.demo.com/").startswith("tomcat-"))


def _tls(testbed: Testbed) -> None:
    pem = base64.b64encode(self_signed("tomcat.demo.com")).decode()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": pem, "tls.key": pem},
    }
    secured = ingress("tomcat", "tomcat.demo.com", tls=[{"hosts": ["tomcat.demo.com"], "secretName": "tls"}])
    testbed.apply([secret, secured])
    testbed.wait_settled()
    assert "subject: CN=tomcat.demo.com" in _curl(testbed, "-kv", "https://tomcat.demo.com/")
    redirected = _curl(testbed, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://tomcat.demo.com/x")
    assert redirected == "308 https://tomcat.demo.com/x"


def _mistakes(testbed: Testbed) -> None:
    """They are told, and harm nobody else."""
    regex = {"metadata": {"name": "regex", "annotations": {"nginx.ingress.kubernetes.io/use-regex": "true"}}}
    unreadable = {**ingress("regex", "regex.example"), **regex}
    unreadable["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/("
    testbed.apply([ingress("broken", "broken.example", tls=[{"secretName": "missing"}]), unreadable])
    testbed.store.delete(SECRET, "tls")
    testbed.wait_settled()
    assert "CertificateUnusable" in _events(testbed, "broken")
    assert "InvalidIngress" in _events(testbed, "regex")
    assert {"Sync", "CertificateUnusable"} <= _events(testbed, "tomcat")
    assert _curl(testbed, "http://tomcat.demo.com/").startswith("tomcat-")


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


def behind_a_node_port() -> None:
    manifests = [
        *tomcat(),
        ingress("any", None),
        ingress("tomcat", "tomcat.demo.com"),
        *addon("ingress-nginx-nodeport"),
    ]
    with cluster(plan_of("single_switch", manifests, ext=1)) as testbed:
        _settle(testbed)
        nodes = [str(testbed.address(parse_endpoint(f"node/{name}"))) for name in ("n1", "n2")]
        assert len(_addresses(testbed)) == 1 and _addresses(testbed)[0] in nodes
        for address in nodes:
            name = ["--resolve", f"tomcat.demo.com:30080:{address}", "http://tomcat.demo.com:30080/"]
            assert _curl(testbed, *name).startswith("tomcat-")
            assert _curl(testbed, "-k", f"https://{address}:30443/").startswith("tomcat-")
        _load(testbed, nodes[1], 30080, False, lambda: _change_everything(testbed))
        _load(testbed, nodes[0], 30080, True, lambda: _restart_controllers(testbed))
        # The same with an address of its own.
        balanced = testbed.store.patch(SERVICE, CONTROLLER, {"spec": {"type": "LoadBalancer"}}, "ingress-nginx")
        testbed.wait_settled()
        assert [{"ip": address} for address in _addresses(testbed)] == balanced["status"]["loadBalancer"]["ingress"]
        assert _curl(testbed, f"http://{_addresses(testbed)[0]}/").startswith("tomcat-")


def test_on_the_nodes_own_ports() -> None:
    run_in_box(on_the_nodes_own_ports, USERS[0])


def test_behind_a_node_port() -> None:
    run_in_box(behind_a_node_port, USERS[-1])
