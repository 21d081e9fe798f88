"""What numbers mean in this cluster: addresses, MACs, cookies and table numbers in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address

from controllers.pipeline.tables import (
    TABLE_BY_NUMBER,
    address_cookie,
    cluster_cookie,
    endpoint_cookie,
    node_cookie,
    pod_cookie,
    service_cookie,
)
from testbed.cluster.identity import REJECT_MAC, VIRTUAL_NEXT_HOP, VIRTUAL_ROUTER_MAC
from testbed.cluster.objects import DEFAULT_NAMESPACE
from testbed.cluster.values import ClusterState


def short_key(key: str) -> str:
    """``namespace/name`` as people write it: the default namespace is left out."""
    return key.removeprefix(f"{DEFAULT_NAMESPACE}/")


def table_name(number: int) -> str:
    """A table's name in the pipeline; its number where the pipeline has no such table."""
    table = TABLE_BY_NUMBER.get(number)
    return table.name if table is not None else f"table {number}"


class Names:
    """The names of one cluster; ``hosts`` are addresses that the cluster's objects do not tell (fabric, outside)."""

    def __init__(self, state: ClusterState, hosts: Mapping[IPv4Address, str]) -> None:
        self._state, self._hosts = state, hosts

    def address(self, address: IPv4Address) -> str:
        """Who has an address; "" when nobody is known to."""
        return self._addresses.get(address, "") or self._hosts.get(address, "")

    def with_name(self, address: IPv4Address) -> str:
        """``10.244.1.2 (pod web)``."""
        name = self.address(address)
        return f"{address} ({name})" if name else str(address)

    def mac(self, mac: str) -> str:
        """Whose MAC it is, or the MAC itself."""
        return self._macs.get(mac, mac)

    def cookie(self, cookie: int) -> str:
        """What a flow with this cookie is about; "" for a cookie that no subject of the cluster has."""
        return self._cookies.get(cookie, "")

    @cached_property
    def _addresses(self) -> Mapping[IPv4Address, str]:
        found: dict[IPv4Address, str] = {}

        def add(address: object, name: str) -> None:
            if isinstance(address, IPv4Address):
                found[address] = name

        for entry in self._state.service_ports:
            add(entry.cluster_ip, f"Service {short_key(entry.service_key)}")
            add(entry.load_balancer_ip, f"load balancer of Service {short_key(entry.service_key)}")
        for node in self._state.nodes:
            add(node.node_ip, f"node {node.name}")
            add(node.gateway_ip, f"gateway of {node.name}")
            add(node.masquerade_ip, f"masquerade address of {node.name}")
        for pod in self._state.pods:
            add(pod.pod_ip, f"pod {short_key(pod.key)}")
        add(IPv4Address(VIRTUAL_NEXT_HOP), "the bridge")
        return found

    @cached_property
    def _macs(self) -> Mapping[str, str]:
        found = {VIRTUAL_ROUTER_MAC: "the virtual router", REJECT_MAC: "the mark for refusing"}
        for node in self._state.nodes:
            found[node.gateway_mac] = f"{node.name}'s gateway"
            found[node.vtep_mac] = f"{node.name}'s tunnel end"
        found.update((pod.pod_mac, f"pod {short_key(pod.key)}") for pod in self._state.pods)
        return found

    @cached_property
    def _cookies(self) -> Mapping[int, str]:
        found = {cluster_cookie(): "cluster"}
        found.update((node_cookie(node.name), f"node {node.name}") for node in self._state.nodes)
        found.update((pod_cookie(pod.key), f"pod {short_key(pod.key)}") for pod in self._state.pods)
        for entry in self._state.service_ports:
            found[service_cookie(entry.key)] = f"Service {short_key(entry.service_key)}:{entry.service_port}"
            for address in (entry.cluster_ip, entry.load_balancer_ip):
                if address is not None:
                    found[address_cookie(address)] = f"Service {short_key(entry.service_key)}"
            for endpoint in entry.endpoints:
                known = endpoint_cookie(entry.protocol, endpoint.endpoint_ip, endpoint.target_port)
                found[known] = f"endpoint {endpoint.endpoint_ip}:{endpoint.target_port}"
        return found
