"""Which kinds of objects manifests may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from testbed.errors import Problem
from testbed.spec.manifests import (
    configuration,
    cron_job,
    disruption_budget,
    endpoint_slice,
    endpoints,
    ingress,
    namespace,
    network_policy,
    pod,
    service,
    workload,
)
from testbed.spec.manifests.fields import Fields
from testbed.spec.manifests.manifest import Manifest


@dataclass(frozen=True)
class ManifestKind:
    """One kind: its schema's name, what is checked when the schema is met, and the fields that have an effect."""

    api_version: str
    name: str
    schema: str
    problems: Callable[[Manifest], Iterator[Problem]]
    fields: Fields


_NETWORKING = "networking.k8s.io/v1"

KINDS = (
    ManifestKind("v1", "Pod", "pod-v1", pod.problems, pod.FIELDS),
    ManifestKind("apps/v1", "Deployment", "deployment-apps-v1", workload.problems, workload.DEPLOYMENT_FIELDS),
    ManifestKind("apps/v1", "ReplicaSet", "replicaset-apps-v1", workload.problems, workload.REPLICA_SET_FIELDS),
    ManifestKind("apps/v1", "StatefulSet", "statefulset-apps-v1", workload.problems, workload.STATEFUL_SET_FIELDS),
    ManifestKind("apps/v1", "DaemonSet", "daemonset-apps-v1", workload.problems, workload.DAEMON_SET_FIELDS),
    ManifestKind("batch/v1", "Job", "job-batch-v1", workload.problems, workload.JOB_FIELDS),
    ManifestKind("batch/v1", "CronJob", "cronjob-batch-v1", cron_job.problems, cron_job.FIELDS),
    ManifestKind("v1", "ConfigMap", "configmap-v1", configuration.problems, configuration.CONFIG_MAP_FIELDS),
    ManifestKind("v1", "Secret", "secret-v1", configuration.problems, configuration.SECRET_FIELDS),
    ManifestKind("v1", "Service", "service-v1", service.problems, service.FIELDS),
    ManifestKind(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "endpointslice-discovery-v1",
        endpoint_slice.problems,
        endpoint_slice.FIELDS,
    ),
    ManifestKind("v1", "Endpoints", "endpoints-v1", endpoints.problems, endpoints.FIELDS),
    ManifestKind(_NETWORKING, "Ingress", "ingress-networking-v1", ingress.problems, ingress.INGRESS_FIELDS),
    ManifestKind(
        _NETWORKING, "IngressClass", "ingressclass-networking-v1", ingress.class_problems, ingress.CLASS_FIELDS
    ),
    ManifestKind(
        _NETWORKING, "NetworkPolicy", "networkpolicy-networking-v1", network_policy.problems, network_policy.FIELDS
    ),
    ManifestKind(
        "policy/v1",
        "PodDisruptionBudget",
        "poddisruptionbudget-policy-v1",
        disruption_budget.problems,
        disruption_budget.FIELDS,
    ),
    ManifestKind("v1", "Namespace", "namespace-v1", namespace.problems, namespace.FIELDS),
)
BY_TYPE = {(kind.api_version, kind.name): kind for kind in KINDS}

SUPPORTED = f"{', '.join(kind.name for kind in KINDS)}, or a v1 List of them"
