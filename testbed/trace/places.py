"""Where a namespace is in the cluster, and what stands at the end of its wires."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from ipaddress import IPv4Address

from testbed.cluster.identity import pod_namespace, switch_namespace
from testbed.cluster.values import ClusterState
from testbed.trace.kernel import Interface, Kernel
from testbed.trace.names import short_key

# A frame that passes more bridges than this is going round.
_MOST_BRIDGES = 32


class Places:
    """The namespaces of one cluster's box, by their kernels' own account of wires and addresses."""

    def __init__(self, state: ClusterState, kernel: Kernel) -> None:
        self._state, self._kernel = state, kernel

    def name(self, namespace: str) -> str:
        """A namespace as people call it: ``pod web``, ``node n1``, ``bridge of n1``, ``router leaf1``."""
        known = self._known.get(namespace)
        if known is not None or namespace not in self.fabric:
            return known or namespace
        interfaces = self._kernel.interfaces(namespace).values()
        is_switch = any(interface.kind == "bridge" for interface in interfaces)
        kind = "switch" if is_switch else "router" if self._kernel.forwards(namespace) else "host"
        return f"{kind} {namespace}"

    @cached_property
    def _known(self) -> Mapping[str, str]:
        known = {pod_namespace(pod.namespace, pod.name): f"pod {short_key(pod.key)}" for pod in self._state.pods}
        for node in self._state.nodes:
            known[node.name] = f"node {node.name}"
            known[switch_namespace(node.name)] = f"bridge of {node.name}"
        for name in self._kernel.namespaces:
            if name not in known and switch_namespace(name) in self._kernel.namespaces:
                known[name] = f"former node {name}"
                known[switch_namespace(name)] = f"bridge of the former node {name}"
        return known

    @cached_property
    def fabric(self) -> tuple[str, ...]:
        """The namespaces of routers, switches and outside hosts."""
        others = {*self._known, *(name for name in self._kernel.namespaces if name.startswith("p_"))}
        return tuple(name for name in self._kernel.namespaces if name not in others)

    @cached_property
    def fabric_addresses(self) -> Mapping[IPv4Address, str]:
        """The addresses of the fabric's elements, with their names."""
        return {
            address.ip: f"{namespace} {interface.name}"
            for namespace in self.fabric
            for interface in self._kernel.interfaces(namespace).values()
            for address in interface.addresses
            if interface.name != "lo"
        }

    def link_trouble(self, interface: Interface) -> str:
        """Which end of a wire is down, and what brings it up; "" if neither is."""
        for end in (interface, self._kernel.other_end(interface)):
            if end is not None and not end.up:
                return f" ({end.name} of {self.name(end.namespace)} is down: ip link set {end.name} up)"
        return ""

    def fallen(self, concerns: Callable[[Interface], bool]) -> str:
        """The same of the first of the nodes' and the fabric's wires that has any trouble."""
        for namespace in (*(node.name for node in self._state.nodes), *self.fabric):
            for interface in self._kernel.interfaces(namespace).values():
                if interface.kind == "veth" and concerns(interface) and (said := self.link_trouble(interface)):
                    return said
        return ""

    def owner_on_wire(self, end: Interface, address: IPv4Address) -> Interface | None:
        """The interface that answers ARP for an address on a wire that ends at ``end`` (a host answers for any of its
        addresses); None if nobody does."""
        return next((one for one in self._reachable(end) if self._kernel.holds(one.namespace, address)), None)

    def behind(self, end: Interface, mac: str) -> tuple[Interface, Interface] | None:
        """At a kernel bridge that ``end`` is a port of: the port that leads to a MAC, and the other end of its wire."""
        for port in self._other_ports(end):
            far = self._kernel.other_end(port)
            if far is not None and any(one.mac == mac for one in self._reachable(far)):
                return port, far
        return None

    def _reachable(self, end: Interface, bridges: int = 0) -> Iterator[Interface]:
        """The interfaces with an IP stack that a frame reaches which comes out of a wire at ``end``."""
        if not end.up or not end.carrier or bridges > _MOST_BRIDGES:
            return
        if not end.master:
            yield end
            return
        for port in self._other_ports(end):
            far = self._kernel.other_end(port)
            if far is not None:
                yield from self._reachable(far, bridges + 1)

    def _other_ports(self, end: Interface) -> Iterator[Interface]:
        for port in self._kernel.interfaces(end.namespace).values():
            if port.master == end.master and port.index != end.index and port.up and port.carrier:
                yield port
