"""Read the cluster network out of Kubernetes objects: from wire dicts to :class:`ClusterState`."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import TypeVar

from testbed.cluster import identity
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, NODE, POD, SERVICE
from testbed.cluster.objects import (
    JsonObject,
    is_network_config,
    object_name,
    object_namespace,
    uses_host_network,
)
from testbed.cluster.service_view import ServiceView
from testbed.cluster.sorted_values import SortedValues
from testbed.cluster.values import MODES, PROXIES, ClusterState, NetworkConfig, NodeNetwork, PodNetwork
from testbed.errors import RunError

# The kinds of the objects that a state is read out of.
STATE_KINDS = (CONFIG_MAP, NODE, POD, SERVICE, ENDPOINT_SLICE)

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

    Every part that has not changed is the very same object from state to state (``nodes``, ``pods``, ``service_ports``
    and each :class:`ServicePort` and :class:`PodNetwork` in them), so that it can be compared by identity.
    """

    def __init__(self) -> None:
        self._config: NetworkConfig | StateError = StateError(
            f"there is no ConfigMap {identity.CONFIG_NAMESPACE}/{identity.CONFIG_NAME}"
        )
        self._nodes: SortedValues[str, NodeNetwork] = SortedValues(_same_node)
        self._pods: SortedValues[tuple[str, str], PodNetwork] = SortedValues()
        self._attached: _Attached = ((), (), ())
        self._services = ServiceView()
        self._state: ClusterState | None = None

    def put(self, wire: JsonObject) -> None:
        """Take in an object as it is now."""
        kind = wire.get("kind")
        if kind == "Pod":
            pod = pod_network(wire)
            if pod is None:
                self._pods.remove((object_namespace(wire), object_name(wire)))
            else:
                self._pods.put((pod.namespace, pod.name), pod)
        elif kind == "EndpointSlice":
            self._services.put_slice(wire)
        elif kind == "Service":
            self._services.put_service(wire)
        elif kind == "Node":
            node = node_network(wire)
            if node is None:
                self._nodes.remove(object_name(wire))
            else:
                self._nodes.put(node.name, node)
        elif is_network_config(wire):
            try:
                self._config = network_config(wire)
            except StateError as error:
                self._config = error

    def remove(self, wire: JsonObject) -> None:
        """Forget an object that was deleted."""
        kind = wire.get("kind")
        if kind == "Pod":
            self._pods.remove((object_namespace(wire), object_name(wire)))
        elif kind == "EndpointSlice":
            self._services.remove_slice(wire)
        elif kind == "Service":
            self._services.remove_service(wire)
        elif kind == "Node":
            self._nodes.remove(object_name(wire))
        elif is_network_config(wire):
            self._config = StateError(f"the ConfigMap {identity.CONFIG_NAMESPACE}/{identity.CONFIG_NAME} was deleted")

    def state(self) -> ClusterState:
        """The cluster network now. Raises StateError as :func:`cluster_state` does."""
        if isinstance(self._config, StateError):
            raise StateError(str(self._config))
        nodes, pods, service_ports = self._nodes.values(), self._attached_pods(), self._services.ports()
        last = self._state
        if (
            last is None
            or last.config != self._config
            or last.nodes is not nodes
            or last.pods is not pods
            or last.service_ports is not service_ports
        ):
            self._state = last = ClusterState(self._config, nodes, pods, service_ports)
        return last

    def _attached_pods(self) -> tuple[PodNetwork, ...]:
        """The pods of the nodes that are there."""
        nodes, pods = self._nodes.values(), self._pods.values()
        if self._attached[0] is not nodes or self._attached[1] is not pods:
            names = {node.name for node in nodes}
            self._attached = nodes, pods, tuple(pod for pod in pods if pod.node_name in names)
        return self._attached[2]


# What the attached pods were found from, and what they are.
_Attached = tuple[tuple[NodeNetwork, ...], tuple[PodNetwork, ...], tuple[PodNetwork, ...]]


def _same_node(one: NodeNetwork, other: NodeNetwork) -> bool:
    """Labels are no part of a node's identity, but of what is known of it."""
    return one == other and one.labels == other.labels
