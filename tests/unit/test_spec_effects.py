"""What is accepted and does nothing, or something else, here: told over the API in the words of ``testbed up -f``."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.apiserver.server import ApiServer
from testbed.cluster.store import Store
from testbed.spec.manifests import effect_warnings, read_manifests
from tests.unit.api_requests import APPLY, MERGE, Answer, request

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
AT = "spec.template.spec"
TOLD = [
    f"{AT}.priorityClassName: has no effect here",
    f"{AT}.containers[0].securityContext: has no effect here",
    f"{AT}.affinity.podAntiAffinity: has no effect here",
    f"{AT}.serviceAccountName: has no effect here: there are no service accounts",
    f"{AT}.volumes[0].persistentVolumeClaim: a folder in memory stands for the claim, which needs no "
    "PersistentVolumeClaim and ends with the cluster",
]

Ask = Callable[..., Answer]


@pytest.fixture
def ask() -> Iterator[Ask]:
    with ApiServer(Store(), socket.create_server(("127.0.0.1", 0)), advice=effect_warnings) as server:
        yield lambda *given, **more: request(server.tcp_port, *given, **more)


def deployment(**pod: Any) -> dict[str, Any]:
    labels = {"app": "web"}
    container = {"name": "c", "image": "nginx", "resources": {}, **pod.pop("container", {})}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], **pod}}
    spec = {"selector": {"matchLabels": labels}, "strategy": {}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def demanding() -> dict[str, Any]:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    return deployment(
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
        priorityClassName="high",
        serviceAccountName="nosuchsa",
        container={"securityContext": {"runAsUser": 1000}},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}],
    )


def told(answer: Answer) -> list[str]:
    """The texts of an answer's warnings."""
    assert answer.code in (200, 201), answer.body
    return re.findall(r'299 - "([^"]*)"', answer.headers.get("Warning", ""))


def test_the_api_says_what_testbed_up_says(ask: Ask, tmp_path: Path) -> None:
    assert told(ask("POST", DEPLOYMENTS, demanding())) == TOLD
    file = tmp_path / "web.yaml"
    file.write_text(json.dumps(demanding()))
    _, problems, warnings = read_manifests(file)
    assert (problems, [warning.partition(": ")[2] for warning in warnings]) == ([], TOLD)


def test_what_asks_for_nothing_special_is_not_spoken_of(ask: Ask) -> None:
    plain = deployment(serviceAccountName="default", securityContext={}, topologySpreadConstraints=[])
    created = ask("POST", DEPLOYMENTS, plain)
    assert told(created) == [], "nor are the defaults"
    again = {**created.body, "metadata": {"name": "again"}}
    assert told(ask("POST", DEPLOYMENTS, again)) == [], "which may come back"


def test_a_change_is_told_of_what_it_brings(ask: Ask) -> None:
    apply = {**demanding(), "metadata": {"name": "web"}}
    assert told(ask("PATCH", f"{DEPLOYMENTS}/web?fieldManager=me", apply, APPLY)) == TOLD
    assert told(ask("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 2}}, MERGE)) == []
    container = {"name": "c", "image": "nginx", "readinessProbe": {"grpc": {"port": 80}}}
    probed = {"spec": {"template": {"spec": {"containers": [container]}}}}
    probe = f"{AT}.containers[0].readinessProbe.grpc: is not supported here: such a probe fails"
    assert told(ask("PATCH", f"{DEPLOYMENTS}/web", probed, MERGE)) == [probe]
    more = {"spec": {"template": {"spec": {"priorityClassName": "low", "runtimeClassName": "gvisor"}}}}
    assert told(ask("PATCH", f"{DEPLOYMENTS}/web", more, MERGE)) == [f"{AT}.runtimeClassName: has no effect here"]


def test_a_policy_is_stored_and_said_to_be_no_more_than_that(ask: Ask) -> None:
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"}}
    answer = ask("POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", policy)
    assert told(answer) == [], "without a spec it asks for nothing"
    policy = {**policy, "metadata": {"name": "none"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    answer = ask("POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", policy)
    assert told(answer) == ["spec: is stored, and not enforced by this version"]


def test_many_are_cut_short(ask: Ask) -> None:
    many = deployment()
    many["spec"]["template"]["spec"]["containers"] = [
        {"name": f"c{number}", "image": "nginx", "securityContext": {"runAsUser": 1}} for number in range(30)
    ]
    texts = told(ask("POST", DEPLOYMENTS, many))
    assert (len(texts), texts[-1]) == (21, "... and 10 more")


@pytest.mark.parametrize("spec", [None, [], 3, {"template": 3}, {"template": {"spec": []}}])
def test_what_no_schema_allows_is_no_business_of_these(spec: Any) -> None:
    for kind in ("Deployment", "CronJob", "Secret"):
        group = {"Deployment": "apps/v1", "CronJob": "batch/v1"}.get(kind, "v1")
        assert effect_warnings({"apiVersion": group, "kind": kind, "metadata": {}, "spec": spec}) is not None
