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


CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True, short_names=("cm",))
NODE = Kind("", "v1", "Node", "nodes", namespaced=False, short_names=("no",))
POD = Kind("", "v1", "Pod", "pods", namespaced=True, short_names=("po",), has_generation=True)

NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False, short_names=("ns",))
SERVICE = Kind("", "v1", "Service", "services", namespaced=True, short_names=("svc",))
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", namespaced=True, short_names=("ep",))
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", namespaced=True, has_generation=True)
DEPLOYMENT = Kind(
    "apps", "v1", "Deployment", "deployments", namespaced=True, short_names=("deploy",), has_generation=True
)
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets", namespaced=True, short_names=("rs",), has_generation=True)

KINDS: tuple[Kind, ...] = (
    CONFIG_MAP,
    NAMESPACE,
    NODE,
    DEPLOYMENT,
    REPLICA_SET,
    POD,
    SERVICE,
    ENDPOINTS,
    ENDPOINT_SLICE,
)

_BY_TYPE = {(kind.api_version, kind.name): kind for kind in KINDS}


def kind_of(wire: JsonObject) -> Kind:
    """The kind an object states by ``apiVersion`` and ``kind``. Raises BadRequest when it is not served."""
    api_version, name = wire.get("apiVersion"), wire.get("kind")
    kind = _BY_TYPE.get((str(api_version), str(name)))
    if kind is None:
        raise BadRequest(f"no kind {name!r} is registered for version {api_version!r}")
    return kind
