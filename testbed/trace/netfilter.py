"""The netfilter rules of one kernel: what they would do with a packet at a hook. Nothing is sent or changed.

Chains of nftables and of iptables are asked in the order of their priorities, as the kernel does. Chains of type
``nat`` see only the first packet of a connection; to those that follow, and to the replies, its translation is applied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Literal, Protocol

from testbed.trace.conntrack import Connections, Entry, Found
from testbed.trace.values import Fate, FiveTuple, Packet, Step

Hook = Literal["prerouting", "input", "forward", "output", "postrouting"]

# Where translation takes place (linux/netfilter_ipv4.h, enum nf_ip_hook_priorities).
_NAT_PRIORITY = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
_ZONE = 0


@dataclass(frozen=True)
class Ruling:
    """What the rules at a hook make of a packet. ``fate`` is None when it goes on."""

    packet: Packet
    steps: tuple[Step, ...] = ()
    fate: Fate | None = None
    reason: str = ""


def _remembers_nothing(_: str) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class Meeting:
    """A packet at a hook, as rules see it. ``local_source``: its source is an address of this namespace."""

    packet: Packet
    hook: Hook
    iif: str
    oif: str
    found: Found
    local_source: bool
    local_destination: bool
    device_addresses: tuple[str, ...] = ()
    recent: Callable[[str], frozenset[str]] = _remembers_nothing


class BaseChain(Protocol):
    """A chain that the kernel itself asks. Kind is filter, nat or route."""

    hook: Hook
    priority: int
    kind: str

    def ask(self, meeting: Meeting) -> Ruling:
        """What the chain, with those it leads to, makes of a packet."""
        ...


class Unreadable(Exception):
    """Something in a rule that the module of its kind does not know."""


class Decided(Exception):
    """A rule ends the evaluation. ``fate`` is None when the packet goes on."""

    def __init__(self, fate: Fate | None, reason: str = "") -> None:
        super().__init__(reason)
        self.fate, self.reason = fate, reason


class Evaluation(ABC):
    """One packet's way through the rules of a base chain. How they are written, the two subclasses know.

    ``table`` and ``policy`` are as the steps and reasons name them; ``wanted`` is the endpoint to follow of several.
    """

    def __init__(self, meeting: Meeting, table: str, chain: str, policy: str, wanted: IPv4Address | None) -> None:
        self._meeting, self._table_words, self._first_chain = meeting, table, chain
        self._policy, self._wanted = policy, wanted
        self._packet: Packet = meeting.packet
        self._steps: list[Step] = []
        self._path: list[str] = []

    def run(self) -> Ruling:
        """What the chain, with those it leads to, makes of the packet."""
        try:
            self._run_chain(self._first_chain)
            if self._policy.lower() == "drop":
                raise Decided("dropped", self._told(f"policy {self._policy}"))
        except Decided as decided:
            return Ruling(self._packet, tuple(self._steps), decided.fate, decided.reason)
        return Ruling(self._packet, tuple(self._steps))

    @abstractmethod
    def _run_chain(self, name: str) -> None:
        """Run a chain to its end, or to the rule that ends it; raises :class:`Decided`."""

    def _told(self, text: str) -> str:
        """A text, a rule's for example, with the chains that led to it."""
        return f"{self._table_words}, chain {' > '.join(self._path or [self._first_chain])}: {text}"

    def _pass_over(self, rule: str, error: Unreadable, data: Mapping[str, Any]) -> None:
        self._steps.append(Step("note", self._told(f"cannot judge “{rule}” ({error}); passed over"), data))

    def _set_mark(self, rule: str, mark: int) -> None:
        self._packet = replace(self._packet, mark=mark)
        self._steps.append(Step("netfilter", self._told(rule), {"rule": rule, "mark": mark}))

    def _translate_to(self, rule: str, after: FiveTuple) -> None:
        before, hook = self._packet.tuple, self._meeting.hook
        data = {"rule": rule, "before": str(before), "after": str(after), "translated_at": hook}
        self._steps.append(Step("netfilter", f"{self._told(rule)}: translated to {after}", data))
        self._packet = replace(self._packet, tuple=after)

    def _follow(self, shares: Mapping[str, float]) -> str:
        """Which outcome of a random choice is followed, with a step that shows them all with their probabilities."""
        wanted = str(self._wanted)
        chosen = next((one for one in shares if one.partition(":")[0] == wanted), next(iter(shares)))
        others = [f"{target} {share:.1%}" for target, share in shares.items() if target != chosen]
        said = f"random choice: {chosen} {shares[chosen]:.1%}" + (f"; else {', '.join(others)}" if others else "")
        self._steps.append(Step("group", said, {"chosen": chosen, "candidates": shares}))
        return chosen


class Namespace(Protocol):
    """What rules ask of their namespace."""

    def holds(self, address: object) -> bool: ...

    def addresses_of(self, device: str) -> tuple[str, ...]: ...

    def recent(self, name: str) -> frozenset[str]:
        """The addresses that iptables' match ``recent`` remembers in a list."""
        ...


class Firewall:
    """All rules of one namespace, and the connections that its kernel knows."""

    def __init__(self, chains: Iterable[BaseChain], connections: Sequence[Entry], namespace: Namespace) -> None:
        self._chains = sorted(chains, key=lambda chain: chain.priority)
        self._connections = Connections(list(connections))
        self._namespace = namespace
        self._first: FiveTuple | None = None  # how the connection's first packet came, until it is confirmed

    def ask(self, hook: Hook, packet: Packet, iif: str, oif: str) -> Ruling:
        """What the rules at a hook make of a packet."""
        entering = hook in ("prerouting", "output")
        # Whatever a packet was translated to on its way in, it belongs to the connection that it came as.
        found = self._connections.look_up(_ZONE, packet.tuple if entering or self._first is None else self._first)
        if entering:
            self._first = packet.tuple
        first = self._first or packet.tuple
        steps: list[Step] = []
        translated = False
        for chain in self._chains:
            if chain.hook != hook:
                continue
            if not translated and chain.priority >= _NAT_PRIORITY.get(hook, 1 << 30):
                packet, translated = self._known_translation(hook, packet, found, steps), True
            if chain.kind == "nat" and (found.entry is not None or _has_translated(hook, steps)):
                continue
            ruling = chain.ask(self._meeting(packet, hook, iif, oif, found))
            steps += ruling.steps
            packet = ruling.packet
            if ruling.fate is not None:
                return Ruling(packet, tuple(steps), ruling.fate, ruling.reason)
        if not translated and hook in _NAT_PRIORITY:
            packet = self._known_translation(hook, packet, found, steps)
        if hook in ("postrouting", "input"):
            if found.entry is None:
                self._connections.commit(_ZONE, first, packet.tuple, 0)
            self._first = None
        return Ruling(packet, tuple(steps))

    def _meeting(self, packet: Packet, hook: Hook, iif: str, oif: str, found: Found) -> Meeting:
        source, destination = packet.tuple.source, packet.tuple.destination
        holds = self._namespace.holds
        addresses = self._namespace.addresses_of(oif) if oif else ()
        recent = self._namespace.recent
        return Meeting(packet, hook, iif, oif, found, holds(source), holds(destination), addresses, recent)

    @staticmethod
    def _known_translation(hook: Hook, packet: Packet, found: Found, steps: list[Step]) -> Packet:
        """The part of a known connection's translation that is done at this hook."""
        if found.entry is None or not found.entry.translates:
            return packet
        wanted, now = found.translated(packet.tuple), packet.tuple
        if hook in ("prerouting", "output"):
            after = replace(now, destination=wanted.destination, destination_port=wanted.destination_port)
        else:
            after = replace(now, source=wanted.source, source_port=wanted.source_port)
        if after == now:
            return packet
        data = {"found": found.words, "before": str(now), "after": str(after)}
        steps.append(Step("conntrack", f"{found.words}: translated to {after}", data))
        return replace(packet, tuple=after)


def _has_translated(hook: Hook, steps: Sequence[Step]) -> bool:
    """Whether a chain at this hook has translated the packet: the kernel then asks no other one."""
    return any(step.data.get("translated_at") == hook for step in steps)
