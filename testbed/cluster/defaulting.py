"""What fields are when nobody sets them: Kubernetes' own defaults, which tools rely on.

From the types' documentation (https://kubernetes.io/docs/reference/kubernetes-api/). Services have theirs in
:mod:`testbed.cluster.service_rules`. Setting defaults twice changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from testbed.cluster import kinds
from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_FILE_MODE = 0o644
_VOLUMES_OF_FILES = ("configMap", "secret", "downwardAPI", "projected")


def set_defaults(kind: Kind, wire: JsonObject) -> None:
    """Complete an object in place. What has another form than its schema says is left as it is."""
    complete = _COMPLETIONS.get(kind)
    if complete is not None:
        complete(wire)


def set_default_requests(pod: JsonObject) -> None:
    """Have a Pod's containers request what they are limited to where they say nothing else; templates stay as they are.

    https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
    """
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    for container in [*_dicts(spec, "initContainers"), *_dicts(spec, "containers")]:
        resources = container.get("resources")
        if not isinstance(resources, dict):
            continue
        limits, requests = resources.get("limits"), resources.get("requests") or {}
        if isinstance(limits, dict) and isinstance(requests, dict):
            resources["requests"] = {**limits, **requests}


def _pod(wire: JsonObject) -> None:
    _pod_spec(wire.get("spec"))
    set_default_requests(wire)


def _pod_spec(spec: Any) -> None:
    if not isinstance(spec, dict):
        return
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in [*_dicts(spec, "initContainers"), *_dicts(spec, "containers")]:
        _container(container, spec.get("hostNetwork") is True)
    for volume in _dicts(spec, "volumes"):
        for name in _VOLUMES_OF_FILES:
            if isinstance(volume.get(name), dict):
                volume[name].setdefault("defaultMode", _FILE_MODE)


def _container(container: JsonObject, host_network: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    if isinstance(image := container.get("image"), str):
        container.setdefault("imagePullPolicy", "Always" if _is_latest(image) else "IfNotPresent")
    for port in _dicts(container, "ports"):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in _PROBES:
        if isinstance(probe := container.get(name), dict):
            defaults = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
            for field, value in defaults.items():
                probe.setdefault(field, value)
            _handler(probe)
    lifecycle = container.get("lifecycle")
    if isinstance(lifecycle, dict):
        for handler in lifecycle.values():
            if isinstance(handler, dict):
                _handler(handler)
    for variable in _dicts(container, "env"):
        source = variable.get("valueFrom")
        if isinstance(source, dict) and isinstance(source.get("fieldRef"), dict):
            source["fieldRef"].setdefault("apiVersion", "v1")


def _handler(handler: JsonObject) -> None:
    if isinstance(request := handler.get("httpGet"), dict):
        request.setdefault("path", "/")
        request.setdefault("scheme", "HTTP")
    if isinstance(call := handler.get("grpc"), dict):
        call.setdefault("service", "")


def _is_latest(image: str) -> bool:
    """Whether an image has no tag or digest, or the tag ``latest``."""
    if "@" in image:
        return False
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag in ("", "latest")


def _workload(wire: JsonObject) -> JsonObject:
    """The spec of what makes pods, with its template completed."""
    spec: JsonObject = wire["spec"] if isinstance(wire.get("spec"), dict) else wire.setdefault("spec", {})
    template = spec.get("template") if isinstance(spec, dict) else None
    if isinstance(template, dict):
        _pod_spec(template.get("spec"))
    return spec


def _replica_set(wire: JsonObject) -> None:
    _workload(wire).setdefault("replicas", 1)


def _deployment(wire: JsonObject) -> None:
    spec = _workload(wire)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    _rolling(spec.setdefault("strategy", {}), {"maxUnavailable": "25%", "maxSurge": "25%"})


def _stateful_set(wire: JsonObject) -> None:
    spec = _workload(wire)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    _rolling(spec.setdefault("updateStrategy", {}), {"partition": 0})


def _daemon_set(wire: JsonObject) -> None:
    spec = _workload(wire)
    spec.setdefault("revisionHistoryLimit", 10)
    _rolling(spec.setdefault("updateStrategy", {}), {"maxUnavailable": 1, "maxSurge": 0})


def _rolling(strategy: Any, parameters: JsonObject) -> None:
    if not isinstance(strategy, dict):
        return
    if strategy.setdefault("type", "RollingUpdate") != "RollingUpdate":
        strategy.pop("rollingUpdate", None)  # what is left of the strategy before
    else:
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        if isinstance(rolling, dict):
            for name, value in parameters.items():
                rolling.setdefault(name, value)


def _job(wire: JsonObject) -> None:
    spec = _workload(wire)
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)


def _cron_job(wire: JsonObject) -> None:
    spec = wire.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    if isinstance(template := spec.get("jobTemplate"), dict) and isinstance(job := template.get("spec"), dict):
        pods = job.get("template")
        if isinstance(pods, dict):
            _pod_spec(pods.get("spec"))


def _secret(wire: JsonObject) -> None:
    wire.setdefault("type", "Opaque")
    texts = wire.get("stringData")
    if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        data = wire.get("data")
        if data is None or isinstance(data, dict):
            wire["data"] = {**(data or {}), **encoded}
            del wire["stringData"]


def _network_policy(wire: JsonObject) -> None:
    if isinstance(spec := wire.get("spec"), dict):
        spec.setdefault("policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def _endpoints(wire: JsonObject) -> None:
    for subset in _dicts(wire, "subsets"):
        for port in _dicts(subset, "ports"):
            port.setdefault("protocol", "TCP")


def _endpoint_slice(wire: JsonObject) -> None:
    for port in _dicts(wire, "ports"):
        port.setdefault("protocol", "TCP")
        port.setdefault("name", "")


def _dicts(parent: JsonObject, field: str) -> Iterator[JsonObject]:
    entries = parent.get(field)
    if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, dict))


_COMPLETIONS: dict[Kind, Callable[[JsonObject], None]] = {
    kinds.POD: _pod,
    kinds.REPLICA_SET: _replica_set,
    kinds.DEPLOYMENT: _deployment,
    kinds.STATEFUL_SET: _stateful_set,
    kinds.DAEMON_SET: _daemon_set,
    kinds.JOB: _job,
    kinds.CRON_JOB: _cron_job,
    kinds.SECRET: _secret,
    kinds.NETWORK_POLICY: _network_policy,
    kinds.ENDPOINTS: _endpoints,
    kinds.ENDPOINT_SLICE: _endpoint_slice,
}
