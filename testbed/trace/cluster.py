"""What a trace needs to know of the cluster beside what its kernels and bridges say: names and Services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from testbed.cluster.client import ApiClient, Selection
from testbed.cluster.objects import JsonObject, pod_key, uses_host_network
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState
from testbed.cluster.view import STATE_KINDS, cluster_state


@dataclass(frozen=True)
class Cluster:
    """A cluster's state, and the nodes of the pods that use their node's network, by ``namespace/name``."""

    state: ClusterState
    host_pods: Mapping[str, str]

    @staticmethod
    def of_objects(objects: Iterable[JsonObject]) -> Cluster:
        """From Kubernetes objects. Raises StateError when they describe no cluster network."""
        known = list(objects)
        host_pods = {
            pod_key(wire): wire["spec"]["nodeName"]
            for wire in known
            if wire["kind"] == "Pod" and uses_host_network(wire) and wire["spec"].get("nodeName")
        }
        return Cluster(cluster_state(known), host_pods)

    @staticmethod
    def of_store(store: Store) -> Cluster:
        """As a store has it now."""
        return Cluster.of_objects(wire for kind in STATE_KINDS for wire in store.list(kind).items)

    @staticmethod
    def of_api(url: str) -> Cluster:
        """As the API at a URL has it now. Raises ApiError and OSError as the client does."""
        client = ApiClient(url)
        return Cluster.of_objects(wire for kind in STATE_KINDS for wire in client.list(Selection(kind)).items)
