"""Read the cluster network out of Kubernetes objects: from wire dicts to :class:`ClusterState`."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import TypeVar

from testbed.cluster import identity
from testbed.cluster.objects import (
    JsonObject,
    is_network_config,
    object_name,
    object_namespace,
    pod_key,
    uses_host_network,
)
from testbed.cluster.values import MODES, PROXIES, ClusterState, NetworkConfig, NodeNetwork, PodNetwork
from testbed.errors import RunError

T = TypeVar("T", bound=str)


class StateError(RunError):
    """The objects do not describe a cluster network: the settings are missing or unreadable."""


def network_config(wire: JsonObject) -> NetworkConfig:
    """The settings in the ConfigMap ``kube-system/cluster-network``. Raises StateError when one cannot be read."""
    data = wire.get("data") or {}
    try:
        return NetworkConfig(
            mode=_one_of(MODES, data["mode"]),
            proxy=_one_of(PROXIES, data["proxy"]),
            load_balancer_cidr=ip_network(data["loadBalancerCIDR"]),
            cluster_cidr=ip_network(data["clusterCIDR"]),
            service_cidr=ip_network(data["serviceCIDR"]),
            vni=int(data["vni"]),
            underlay_mtu_bytes=int(data["mtu"]),
        )
    except (KeyError, ValueError) as error:
        raise StateError(f"ConfigMap {identity.CONFIG_NAME}: {error!r} in {data}") from None


def _one_of(known: tuple[T, ...], text: str) -> T:
    for value in known:
        if value == text:
            return value
    raise ValueError(f"{text!r} is not one of {', '.join(map(str, known))}")


def node_network(wire: JsonObject) -> NodeNetwork | None:
    """A Node's network; None while an address, a pod CIDR or an annotation is missing or unreadable."""
    try:
        annotations = wire["metadata"]["annotations"]
        addresses = wire["status"]["addresses"]
        node_ip = next(entry["address"] for entry in addresses if entry["type"] == "InternalIP")
        return NodeNetwork(
            name=object_name(wire),
            node_ip=ip_address(node_ip),
            pod_cidr=ip_network(wire["spec"]["podCIDR"]),
            gateway_ip=ip_address(annotations[identity.GATEWAY_IP]),
            gateway_mac=annotations[identity.GATEWAY_MAC],
            vtep_mac=annotations[identity.VTEP_MAC],
            datapath_id=int(annotations[identity.DATAPATH_ID], 16),
            masquerade_ip=ip_address(annotations[identity.MASQUERADE_IP]),
            labels=dict(wire["metadata"].get("labels") or {}),
        )
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


def pod_network(wire: JsonObject) -> PodNetwork | None:
    """A Pod's attachment; None for hostNetwork pods and while the pod has no node, address or bridge port."""
    if uses_host_network(wire):
        return None
    try:
        annotations = wire["metadata"]["annotations"]
        return PodNetwork(
            namespace=object_namespace(wire),
            name=object_name(wire),
            node_name=wire["spec"]["nodeName"],
            pod_ip=ip_address(wire["status"]["podIP"]),
            pod_mac=annotations[identity.POD_MAC],
            interface=annotations[identity.POD_INTERFACE],
            of_port=int(annotations[identity.POD_OF_PORT]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def cluster_state(objects: Iterable[JsonObject]) -> ClusterState:
    """The cluster network that the objects describe; objects of other kinds are passed over.

    Left out are incomplete Nodes, and Pods that are incomplete, use the host's network or are on no known node.
    Raises StateError when the ConfigMap with the settings is missing or unreadable.
    """
    view = ClusterView()
    for wire in objects:
        view.put(wire)
    return view.state()


class ClusterView:
    """The same, kept up to date from events: only what changed is read again. Not thread-safe.

    ``put`` an object that was added or modified, ``remove`` one that was deleted, then ask for ``state()``. The order
    of the kinds does not matter: a Pod that comes before its Node appears once the Node is there.
    """

    def __init__(self) -> None:
        self._config: JsonObject | None = None
        self._nodes: dict[str, NodeNetwork] = {}
        self._pods: dict[str, PodNetwork] = {}

    def put(self, wire: JsonObject) -> None:
        """Take in an object as it is now."""
        kind = wire.get("kind")
        if kind == "Pod":
            pod = pod_network(wire)
            if pod is None:
                self._pods.pop(pod_key(wire), None)
            else:
                self._pods[pod.key] = pod
        elif kind == "Node":
            node = node_network(wire)
            if node is None:
                self._nodes.pop(object_name(wire), None)
            else:
                self._nodes[node.name] = node
        elif is_network_config(wire):
            self._config = wire

    def remove(self, wire: JsonObject) -> None:
        """Forget an object that was deleted."""
        kind = wire.get("kind")
        if kind == "Pod":
            self._pods.pop(pod_key(wire), None)
        elif kind == "Node":
            self._nodes.pop(object_name(wire), None)
        elif is_network_config(wire):
            self._config = None

    def state(self) -> ClusterState:
        """The cluster network now. Raises StateError as :func:`cluster_state` does."""
        if self._config is None:
            raise StateError(f"there is no ConfigMap {identity.CONFIG_NAMESPACE}/{identity.CONFIG_NAME}")
        pods = (pod for pod in self._pods.values() if pod.node_name in self._nodes)
        return ClusterState(
            config=network_config(self._config),
            nodes=tuple(sorted(self._nodes.values(), key=lambda node: node.name)),
            pods=tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name))),
        )
