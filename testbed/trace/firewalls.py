"""The netfilter rules of all namespaces, read when a packet first comes there."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.trace import iptables, nftables
from testbed.trace.conntrack import parse_kernel_connections
from testbed.trace.kernel import Kernel
from testbed.trace.netfilter import BaseChain, Firewall


class _Namespace:
    def __init__(self, kernel: Kernel, name: str) -> None:
        self._kernel, self._name = kernel, name

    def holds(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self._kernel.holds(self._name, address)

    def addresses_of(self, device: str) -> tuple[str, ...]:
        interface = self._kernel.interfaces(self._name).get(device)
        return tuple(str(address.ip) for address in interface.addresses) if interface is not None else ()

    def recent(self, name: str) -> frozenset[str]:
        return self._kernel.recent(self._name, name)


class Firewalls:
    """One firewall for each namespace. ``wanted``: which of several endpoints to follow."""

    def __init__(self, kernel: Kernel, wanted: IPv4Address | None) -> None:
        self._kernel, self._wanted = kernel, wanted
        self._known: dict[str, Firewall] = {}

    def of(self, namespace: str) -> Firewall:
        """The rules and connections of a namespace."""
        if namespace not in self._known:
            old = iptables.parse_tables(self._kernel.iptables(namespace))
            chains: list[BaseChain] = [*iptables.base_chains(old, self._wanted)]
            listed = self._kernel.ruleset(namespace)
            if any("chain" in entry for entry in listed):
                texts = nftables.rule_texts(self._kernel.ruleset_text(namespace))
                # Most systems' iptables writes into tables of nftables, where its matches cannot be read.
                chains += nftables.base_chains(listed, texts, frozenset(old), self._wanted)
            translates = any(chain.kind == "nat" for chain in chains)
            known = parse_kernel_connections(self._kernel.connections(namespace)) if translates else []
            self._known[namespace] = Firewall(chains, known, _Namespace(self._kernel, namespace))
        return self._known[namespace]
