"""The kinds of objects the store keeps and the API serves. A new kind is one more line in ``KINDS``."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest


@dataclass(frozen=True)
class Kind:
    """One resource of the API. ``group`` is empty for the core group (served under ``/api``, the others ``/apis``)."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    # Whether metadata.generation counts the changes of the spec; Kubernetes does so only for some kinds.
    has_generation: bool = False
    # Whether ``kubectl get all`` shows it.
    in_all: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name in messages: ``pods`` or ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object, or of the collection when no name is given (all namespaces when none is)."""
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/".join(parts)


_APPS, _NETWORKING = "apps", "networking.k8s.io"

CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True, short_names=("cm",))
SECRET = Kind("", "v1", "Secret", "secrets", namespaced=True)
EVENT = Kind("", "v1", "Event", "events", namespaced=True, short_names=("ev",))
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False, short_names=("ns",))
NODE = Kind("", "v1", "Node", "nodes", namespaced=False, short_names=("no",))
POD = Kind("", "v1", "Pod", "pods", namespaced=True, short_names=("po",), has_generation=True, in_all=True)
SERVICE = Kind("", "v1", "Service", "services", namespaced=True, short_names=("svc",), in_all=True)
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", namespaced=True, short_names=("ep",))
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", namespaced=True, has_generation=True)
DEPLOYMENT = Kind(
    _APPS, "v1", "Deployment", "deployments", namespaced=True, short_names=("deploy",), has_generation=True, in_all=True
)
REPLICA_SET = Kind(
    _APPS, "v1", "ReplicaSet", "replicasets", namespaced=True, short_names=("rs",), has_generation=True, in_all=True
)
STATEFUL_SET = Kind(
    _APPS, "v1", "StatefulSet", "statefulsets", namespaced=True, short_names=("sts",), has_generation=True, in_all=True
)
DAEMON_SET = Kind(
    _APPS, "v1", "DaemonSet", "daemonsets", namespaced=True, short_names=("ds",), has_generation=True, in_all=True
)
# What a StatefulSet or DaemonSet keeps of its former templates.
CONTROLLER_REVISION = Kind(_APPS, "v1", "ControllerRevision", "controllerrevisions", namespaced=True)
JOB = Kind("batch", "v1", "Job", "jobs", namespaced=True, has_generation=True, in_all=True)
CRON_JOB = Kind(
    "batch", "v1", "CronJob", "cronjobs", namespaced=True, short_names=("cj",), has_generation=True, in_all=True
)
INGRESS = Kind(_NETWORKING, "v1", "Ingress", "ingresses", namespaced=True, short_names=("ing",), has_generation=True)
INGRESS_CLASS = Kind(_NETWORKING, "v1", "IngressClass", "ingressclasses", namespaced=False, has_generation=True)
NETWORK_POLICY = Kind(
    _NETWORKING, "v1", "NetworkPolicy", "networkpolicies", namespaced=True, short_names=("netpol",), has_generation=True
)
POD_DISRUPTION_BUDGET = Kind(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    namespaced=True,
    short_names=("pdb",),
    has_generation=True,
)

# What a node renews as long as it lives.
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True)

# Owners stand before what they keep: the order in which a deleted Namespace is emptied.
KINDS: tuple[Kind, ...] = (
    CONFIG_MAP,
    SECRET,
    NAMESPACE,
    NODE,
    DEPLOYMENT,
    STATEFUL_SET,
    DAEMON_SET,
    CRON_JOB,
    JOB,
    REPLICA_SET,
    CONTROLLER_REVISION,
    POD,
    POD_DISRUPTION_BUDGET,
    INGRESS_CLASS,
    INGRESS,
    NETWORK_POLICY,
    SERVICE,
    ENDPOINTS,
    ENDPOINT_SLICE,
    LEASE,
    EVENT,
)

_AUTOSCALING = "autoscaling"

# Kinds of Kubernetes that nothing here would act on: there are none, and none can be made. They are served because
# clients look for them unasked, and so that whoever tries to make one is told.
ABSENT_KINDS: tuple[Kind, ...] = (
    Kind("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False, short_names=("pv",)),
    Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", namespaced=True, short_names=("pvc",)),
    Kind("", "v1", "ReplicationController", "replicationcontrollers", namespaced=True, short_names=("rc",)),
    Kind("", "v1", "ResourceQuota", "resourcequotas", namespaced=True, short_names=("quota",)),
    Kind("", "v1", "LimitRange", "limitranges", namespaced=True, short_names=("limits",)),
    Kind("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True, short_names=("sa",)),
    Kind(_AUTOSCALING, "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, short_names=("hpa",)),
    Kind(_AUTOSCALING, "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True),
    Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False, short_names=("sc",)),
    Kind(
        *("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
        namespaced=False,
        short_names=("crd",),
    ),
)

_BY_TYPE = {(kind.api_version, kind.name): kind for kind in KINDS}


def kind_of(wire: JsonObject) -> Kind:
    """The kind an object states by ``apiVersion`` and ``kind``. Raises BadRequest when it is not served."""
    api_version, name = wire.get("apiVersion"), wire.get("kind")
    kind = _BY_TYPE.get((str(api_version), str(name)))
    if kind is None:
        raise BadRequest(f"no kind {name!r} is registered for version {api_version!r}")
    return kind
