"""The API server's own Service, ``default/kubernetes``, which it keeps itself
(k8s.io/kubernetes/pkg/controlplane/controller/kubernetesservice)."""

from __future__ import annotations

from testbed.cluster import identity
from testbed.cluster.attempt import attempt
from testbed.cluster.kinds import ENDPOINT_SLICE, ENDPOINTS, SERVICE
from testbed.cluster.objects import (
    DEFAULT_NAMESPACE,
    JsonObject,
    is_network_config,
    natural_key,
    object_name,
    object_namespace,
)
from testbed.cluster.services import SERVICE_NAME_LABEL, SKIP_MIRROR_LABEL, selector_of
from testbed.cluster.store import Store
from testbed.cluster.values import IPAddress, IPNetwork
from testbed.cluster.view import network_config, node_network

API_PORT = 6443
_LABELS = {"component": "apiserver", "provider": "kubernetes"}
_KINDS = {kind.name for kind in (SERVICE, ENDPOINTS, ENDPOINT_SLICE)}


def api_service(service_cidr: IPNetwork, node_ip: IPAddress) -> list[JsonObject]:
    """The Service, its Endpoints and its EndpointSlice, for an API server that a node would have."""
    where = {"name": identity.API_NAME, "namespace": DEFAULT_NAMESPACE}
    port = {"name": "https", "port": API_PORT, "protocol": "TCP"}
    service: JsonObject = {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.name,
        "metadata": {**where, "labels": dict(_LABELS)},
        "spec": {
            "clusterIP": str(service_cidr[identity.API_INDEX]),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}],
        },
    }
    endpoints: JsonObject = {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.name,
        "metadata": {**where, "labels": {SKIP_MIRROR_LABEL: "true"}},
        "subsets": [{"addresses": [{"ip": str(node_ip)}], "ports": [port]}],
    }
    endpoint_slice: JsonObject = {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.name,
        "metadata": {**where, "labels": {SERVICE_NAME_LABEL: identity.API_NAME}},
        "addressType": f"IPv{node_ip.version}",
        "endpoints": [{"addresses": [str(node_ip)], "conditions": {"ready": True}}],
        "ports": [port],
    }
    return [service, endpoints, endpoint_slice]


def is_api_service(service: JsonObject) -> bool:
    """Whether a Service is the API's own, which pods of all Namespaces are told of."""
    return _is_its_own(service) and (service["metadata"].get("labels") or {}).items() >= _LABELS.items()


class ApiServiceLoop:
    """Makes the three objects when they are not there: ``kubectl delete all --all`` takes the Service with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._service_cidr: IPNetwork | None = None
        self._nodes: dict[str, IPAddress] = {}
        self._there: set[str] = set()  # the kinds of those that are there
        self._is_complete = False

    def put(self, wire: JsonObject) -> None:
        if _is_its_own(wire):
            # One with a selector is a person's, and so has endpoints of its own.
            self._there |= _KINDS if wire["kind"] == SERVICE.name and selector_of(wire) else {wire["kind"]}
        elif wire["kind"] == "Node" and (node := node_network(wire)) is not None:
            self._nodes[node.name] = node.node_ip
        elif is_network_config(wire):
            self._service_cidr = network_config(wire).service_cidr

    def remove(self, wire: JsonObject) -> None:
        if _is_its_own(wire):
            self._there.discard(wire["kind"])
            self._is_complete = False

    def work(self) -> None:
        """Make what is missing."""
        if self._is_complete or self._service_cidr is None or not self._nodes:
            return
        first = self._nodes[min(self._nodes, key=natural_key)]
        for wire in api_service(self._service_cidr, first):
            if wire["kind"] not in self._there:
                attempt(wire, lambda wire=wire: self._store.create(wire))  # type: ignore[misc]
        self._is_complete = True

    def due_s(self) -> float | None:
        """Nothing here is a matter of time."""
        return None


def _is_its_own(wire: JsonObject) -> bool:
    return (
        wire["kind"] in _KINDS
        and object_name(wire) == identity.API_NAME
        and object_namespace(wire) == DEFAULT_NAMESPACE
    )
