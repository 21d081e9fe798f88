"""Mistakes that people make in manifests, and what the API answers: the words of the Kubernetes API server."""

from __future__ import annotations

import copy
import json
import signal
from typing import Any

import pytest

from testbed.apiserver.checks import change_problems, object_problems
from testbed.apiserver.checks.decoding import type_problem, value_problems
from testbed.apiserver.checks.refusal import refusal
from testbed.cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, SECRET, STATEFUL_SET, Kind, kind_of
from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import schema_name, schema_problems

CONTAINER = {"name": "c", "image": "nginx"}
LABELS = {"app": "web"}
POD_SPEC = "spec.template.spec"
AT = f"{POD_SPEC}.containers[0]"


def deployment(**spec: Any) -> JsonObject:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


def with_container(**fields: Any) -> JsonObject:
    wire = copy.deepcopy(deployment())
    wire["spec"]["template"]["spec"]["containers"][0].update(fields)
    return wire


def with_pod_spec(**fields: Any) -> JsonObject:
    wire = copy.deepcopy(deployment())
    wire["spec"]["template"]["spec"].update(fields)
    return wire


def named(name: str, **metadata: Any) -> JsonObject:
    return {**deployment(), "metadata": {"name": name, **metadata}}


def service(*ports: JsonObject, **spec: Any) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": LABELS, "ports": list(ports), **spec},
    }


def quoted_signals() -> list[str]:
    aliases = ("SIGCLD", "SIGIOT", "SIGPOLL")
    return sorted(f'"{name}"' for name in signal.Signals.__members__ if name not in aliases)


def endpoints(*subsets: JsonObject) -> JsonObject:
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}, "subsets": list(subsets)}


def endpoint_slice(*addresses: str) -> JsonObject:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": list(addresses)}],
    }


@pytest.mark.parametrize(
    ("wire", "field", "text"),
    [
        (
            deployment(selector={"matchLabels": {"app": "other"}}),
            "spec.template.metadata.labels",
            'Invalid value: map[string]string{"app":"web"}: `selector` does not match template `labels`',
        ),
        (deployment(replicas=-1), "spec.replicas", "Invalid value: -1: must be greater than or equal to 0"),
        (
            deployment(strategy={"type": "Rolling"}),
            "spec.strategy.type",
            'Unsupported value: "Rolling": supported values: "Recreate", "RollingUpdate"',
        ),
        (
            with_pod_spec(restartPolicy="Never"),
            f"{POD_SPEC}.restartPolicy",
            'Unsupported value: "Never": supported values: "Always"',
        ),
        (with_pod_spec(containers=[]), f"{POD_SPEC}.containers", "Required value"),
        (
            with_pod_spec(containers=[CONTAINER, CONTAINER]),
            f"{POD_SPEC}.containers[1].name",
            'Duplicate value: "c"',
        ),
        (
            with_pod_spec(volumes=[{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
            f"{POD_SPEC}.volumes[1].name",
            'Duplicate value: "v"',
        ),
        (with_container(image=""), f"{AT}.image", "Required value"),
        (
            with_container(imagePullPolicy="never"),
            f"{AT}.imagePullPolicy",
            'Unsupported value: "never": supported values: "Always", "IfNotPresent", "Never"',
        ),
        (
            with_container(ports=[{"containerPort": 80000}]),
            f"{AT}.ports[0].containerPort",
            "Invalid value: 80000: must be between 1 and 65535, inclusive",
        ),
        (
            with_container(ports=[{"containerPort": 80, "protocol": "tcp"}]),
            f"{AT}.ports[0].protocol",
            'Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            with_container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            f"{AT}.volumeMounts[0].name",
            'Not found: "v"',
        ),
        (
            with_container(env=[{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
            f"{AT}.env[0].valueFrom",
            'Invalid value: "": may not be specified when `value` is not empty',
        ),
        (
            with_container(resources={"limits": {"cpu": "100m"}, "requests": {"cpu": "0.2"}}),
            f"{AT}.resources.requests",
            'Invalid value: "0.2": must be less than or equal to cpu limit of 100m',
        ),
        (with_container(livenessProbe={}), f"{AT}.livenessProbe", "Required value: must specify a handler type"),
        (
            with_container(readinessProbe={"exec": {"command": ["true"]}, "tcpSocket": {"port": 80}}),
            f"{AT}.readinessProbe.tcpSocket",
            "Forbidden: may not specify more than 1 handler type",
        ),
        (
            with_container(readinessProbe={"tcpSocket": {"port": "99999"}}),
            f"{AT}.readinessProbe.tcpSocket.port",
            'Invalid value: "99999": must contain at least one letter (a-z)',
        ),
        (
            named("My_Web"),
            "metadata.name",
            'Invalid value: "My_Web": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
            "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', "
            r"regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (named(""), "metadata.name", "Required value: name or generateName is required"),
        (
            named("web", labels={"a": "b c"}),
            "metadata.labels",
            'Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '
            "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
            "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            named("web", labels={"a": "b" * 64}),
            "metadata.labels",
            f'Invalid value: "{"b" * 64}": must be no more than 63 characters',
        ),
        (service(), "spec.ports", "Required value"),
        (
            service({"port": 80000}),
            "spec.ports[0].port",
            "Invalid value: 80000: must be between 1 and 65535, inclusive",
        ),
        (
            service({"port": 80, "nodePort": 80}, type="NodePort"),
            "spec.ports[0].nodePort",
            "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            service({"port": 80, "nodePort": 30080}),
            "spec.ports[0].nodePort",
            "Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            service({"port": 80}, type="Nodeport"),
            "spec.type",
            'Unsupported value: "Nodeport": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
        ),
        (
            service({"name": "a", "port": 80}, {"name": "a", "port": 81}),
            "spec.ports[1].name",
            'Duplicate value: "a"',
        ),
        (
            with_container(ports=[{"containerPort": 80, "hostIP": "bad; drop"}]),
            f"{AT}.ports[0].hostIP",
            'Invalid value: "bad; drop": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        ),
        (
            with_container(ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
            f"{AT}.ports[1].hostPort",
            'Duplicate value: "TCP//80"',
        ),
        (with_container(startupProbe={"exec": {"command": []}}), f"{AT}.startupProbe.exec.command", "Required value"),
        (
            with_container(livenessProbe={"tcpSocket": {"port": 80}, "periodSeconds": -1}),
            f"{AT}.livenessProbe.periodSeconds",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            with_container(lifecycle={"stopSignal": "KILL"}),
            f"{AT}.lifecycle.stopSignal",
            f'Unsupported value: "KILL": supported values: {", ".join(quoted_signals())}',
        ),
        (
            with_container(lifecycle={"preStop": {}}),
            f"{AT}.lifecycle.preStop",
            "Required value: must specify a handler type",
        ),
        (
            with_container(resources={"limits": {"cpu": "-1"}}),
            f"{AT}.resources.limits[cpu]",
            'Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            with_pod_spec(terminationGracePeriodSeconds=-1),
            f"{POD_SPEC}.terminationGracePeriodSeconds",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            with_pod_spec(hostAliases=[{"ip": "1.2.3.4\n5.6.7.8 a", "hostnames": ["b"]}]),
            f"{POD_SPEC}.hostAliases[0].ip",
            'Invalid value: "1.2.3.4\\n5.6.7.8 a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        ),
        (
            with_pod_spec(dnsConfig={"options": [{"name": "ndots", "value": "1\nnameserver 1.1.1.1"}]}),
            f"{POD_SPEC}.dnsConfig.options[0].value",
            'Invalid value: "1\\nnameserver 1.1.1.1": must not contain white space',
        ),
        (
            with_pod_spec(volumes=[{"name": "v", "downwardAPI": {"items": [{"path": "a"}]}}]),
            f"{POD_SPEC}.volumes[0].downwardAPI.items[0]",
            "Required value: one of fieldRef and resourceFieldRef is required",
        ),
        (
            with_pod_spec(volumes=[{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../a"}]}}]),
            f"{POD_SPEC}.volumes[0].configMap.items[0].path",
            "Invalid value: \"../a\": must not contain '..'",
        ),
        (
            service({"port": 80}, externalIPs=["1.2.3.4; drop"]),
            "spec.externalIPs[0]",
            'Invalid value: "1.2.3.4; drop": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        ),
        (
            service({"port": 80}, loadBalancerSourceRanges=["10.0.0.0"]),
            "spec.loadBalancerSourceRanges[0]",
            'Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
        ),
        (
            endpoints({"addresses": [{"ip": "127.0.0.1"}]}),
            "subsets[0].addresses[0].ip",
            'Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
        ),
        (
            endpoints({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 70000}]}),
            "subsets[0].ports[0].port",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (endpoint_slice("x"), "endpoints[0].addresses[0]", 'Invalid value: "x": must be a valid IPv4 address'),
        (
            endpoint_slice("0.0.0.0"),
            "endpoints[0].addresses[0]",
            'Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)',
        ),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"b c": "x"}},
            "data[b c]",
            "Invalid value: \"b c\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
            "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ),
        (
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": with_pod_spec()}},
            "spec.template.spec.restartPolicy",
            'Required value: valid values: "OnFailure", "Never"',
        ),
    ],
)
def test_each_mistake_is_said_as_kubernetes_says_it(wire: JsonObject, field: str, text: str) -> None:
    found = list(object_problems(kind_of(wire), wire))
    assert (field, text) in found
    if kind_of(wire) is not JOB:
        assert found == [(field, text)]


def test_what_is_right_is_let_pass() -> None:
    pod = {
        **CONTAINER,
        "ports": [
            {"name": "http", "containerPort": 80, "hostPort": 0},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ],
        "env": [{"name": "MY.env-name", "value": "x"}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}},
        "livenessProbe": {"httpGet": {"port": "http"}},
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    }
    labels = {"app.kubernetes.io/name": "web", "empty": ""}
    for wire in (
        {**with_pod_spec(containers=[pod]), "metadata": {"generateName": "web-"}},
        with_pod_spec(initContainers=[{**CONTAINER, "name": "first"}]),
        named("web.v1-2", labels=labels, annotations={"example.org/a": "any text"}),
        service({"port": 80, "targetPort": "http", "nodePort": 30080}, type="NodePort"),
        service(clusterIP="None"),
        service({"port": 80}, externalIPs=["192.168.1.9"], loadBalancerSourceRanges=["10.0.0.0/8"]),
        endpoints({"addresses": [{"ip": "10.244.0.2"}], "ports": [{"port": 80}]}),
        endpoint_slice("10.244.0.2"),
        with_pod_spec(
            hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a.example"]}],
            dnsConfig={"nameservers": ["1.1.1.1"], "searches": ["a.example", "_x.b."], "options": [{"name": "ndots"}]},
        ),
        service(type="ExternalName", externalName="a.example"),
    ):  # fmt: skip
        assert list(object_problems(kind_of(wire), wire)) == [], wire


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (
            deployment(replicas="two"),
            "string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            with_container(ports=[{"containerPort": "80"}]),
            "string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
        ),
        (
            with_container(env=[{"name": "A", "value": 1}]),
            "number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            with_container(command="sh"),
            "string into Go struct field Container.spec.template.spec.containers.command of type []string",
        ),
        (
            with_pod_spec(containers=CONTAINER),
            "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            named("web", labels={"a": True}),
            "bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            named("web", labels=["a"]),
            "array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            deployment(replicas=1.5),
            "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (service({"port": 80, "targetPort": True}), "bool into Go value of type int32"),
    ],
)
def test_a_wrong_type_is_said_as_gos_decoder_says_it(wire: JsonObject, text: str) -> None:
    kind = kind_of(wire)
    (problem,) = schema_problems(wire, schema_name(kind))
    value: Any = wire
    for part in problem.path:
        value = value[part]
    assert type_problem(kind, problem.path, value) == f"json: cannot unmarshal {text}"


def test_texts_that_are_no_quantities_and_no_base64() -> None:
    (text,) = value_problems(DEPLOYMENT, with_container(resources={"limits": {"memory": "1GB"}}))
    assert text == "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    assert list(value_problems(DEPLOYMENT, with_container(resources={"limits": {"memory": "1G", "cpu": 2}}))) == []
    secret = {"data": {"a": "not base64!", "b": "YQ==", "c": "YQ=\n="}}
    assert list(value_problems(SECRET, secret)) == ["illegal base64 data at input byte 3"]


@pytest.mark.parametrize(
    ("kind", "new", "field", "text"),
    [
        (
            DEPLOYMENT,
            deployment(selector={"matchLabels": {"app": "b"}}),
            "spec.selector",
            'Invalid value: map[string]string{"app":"b"}: field is immutable',
        ),
        (
            STATEFUL_SET,
            deployment(serviceName="other"),
            "spec",
            "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
            "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
            "are forbidden",
        ),
    ],
)
def test_what_cannot_be_changed(kind: Kind, new: JsonObject, field: str, text: str) -> None:
    assert list(change_problems(kind, new, deployment())) == [(field, text)]
    assert list(change_problems(kind, deployment(replicas=3), deployment())) == []


def test_a_refusal_has_every_field_and_why() -> None:
    problems = [("spec.selector", "Required value"), ("metadata.name", 'Invalid value: "A": no')]
    refused = refusal(DEPLOYMENT, "web", problems)
    assert refused.message == (
        'Deployment.apps "web" is invalid: [spec.selector: Required value, metadata.name: Invalid value: "A": no]'
    )
    assert refusal(CONFIG_MAP, "c", problems[:1]).message == 'ConfigMap "c" is invalid: spec.selector: Required value'
    assert refused.details is not None and refused.details["group"] == "apps"
    assert [cause["reason"] for cause in refused.details["causes"]] == ["FieldValueRequired", "FieldValueInvalid"]
    assert json.dumps(refused.status())


# A StatefulSet's claims

MOUNTING = {"containers": [{"name": "c", "image": "redis", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}
CLAIMS = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]


@pytest.mark.parametrize(
    ("kind", "found"), [(STATEFUL_SET, []), (DEPLOYMENT, [(f"{AT}.volumeMounts[0].name", 'Not found: "data"')])]
)
def test_a_stateful_sets_claims_are_volumes_of_its_pods(kind: Kind, found: list[tuple[str, str]]) -> None:
    wire = with_pod_spec(**MOUNTING)
    if kind is STATEFUL_SET:
        wire["spec"]["volumeClaimTemplates"] = CLAIMS
    assert list(object_problems(kind, wire)) == found


def test_a_pods_own_volumes() -> None:
    spec = {**MOUNTING, "volumes": [{"name": "data", "emptyDir": {}}]}
    assert list(object_problems(POD, {"metadata": {"name": "a"}, "spec": spec})) == []
