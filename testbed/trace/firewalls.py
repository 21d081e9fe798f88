"""The netfilter rules of all namespaces, read when a packet first comes there."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.trace.kernel import Kernel
from testbed.trace.netfilter import Firewall
from testbed.trace.nftables import base_chains, rule_texts


class _Namespace:
    def __init__(self, kernel: Kernel, name: str) -> None:
        self._kernel, self._name = kernel, name

    def holds(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self._kernel.holds(self._name, address)

    def addresses_of(self, device: str) -> tuple[str, ...]:
        interface = self._kernel.interfaces(self._name).get(device)
        return tuple(str(address.ip) for address in interface.addresses) if interface is not None else ()


class Firewalls:
    """One firewall for each namespace. ``wanted``: which of several endpoints to follow."""

    def __init__(self, kernel: Kernel, wanted: IPv4Address | None) -> None:
        self._kernel, self._wanted = kernel, wanted
        self._known: dict[str, Firewall] = {}

    def of(self, namespace: str) -> Firewall:
        """The rules and connections of a namespace."""
        if namespace not in self._known:
            listed = self._kernel.ruleset(namespace)
            chains = []
            if any("chain" in entry for entry in listed):
                texts = rule_texts(self._kernel.ruleset_text(namespace))
                chains = base_chains(listed, texts, frozenset(), self._wanted)
            self._known[namespace] = Firewall(chains, (), _Namespace(self._kernel, namespace))
        return self._known[namespace]
