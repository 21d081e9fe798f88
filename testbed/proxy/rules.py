"""What the proxies have in common: a node's rules as pieces, one for each port of each Service.

A piece depends on one :class:`ServicePort` and, only where a Local traffic policy or the node's addresses come in, on
the node; so it is made once for all nodes, and a change of one Service is the change of one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from testbed.cluster.values import ClusterState, IPNetwork, NetworkConfig, NodeNetwork, ServicePort


class Command(NamedTuple):
    """A program to run in the node's namespace, with the text that it reads."""

    argv: tuple[str, ...]
    text: str


class Change(NamedTuple):
    """A piece that is new (``old`` is None), gone (``new`` is None) or different."""

    old: Any
    new: Any


Pieces = Mapping[str, Any]


class Rules(Protocol):
    """One kind of proxy: how it renders, and the commands that bring a node from one state to another. Pure."""

    def depends_on_node(self, port: ServicePort) -> bool:
        """Whether the port's piece is not the same on all nodes."""

    def piece(self, config: NetworkConfig, node: NodeNetwork, port: ServicePort) -> Any:
        """The port's rules on a node."""

    def address_pieces(self, ports: Iterable[ServicePort]) -> Pieces:
        """What is there once for each address rather than for each port of it; the same on all nodes."""

    def base(self, config: NetworkConfig, node: NodeNetwork) -> Any:
        """What is there without any Service."""

    def install(self, base: Any, pieces: Iterable[Any]) -> tuple[Command, ...]:
        """From nothing to the whole."""

    def update(self, base: Any, changes: Iterable[Change], pieces: Callable[[], Iterable[Any]]) -> tuple[Command, ...]:
        """From the pieces before the changes to ``pieces``, all that there are then."""

    def remove(self, pieces: Iterable[Any]) -> tuple[Command, ...]:
        """From the whole to nothing."""

    def listing(self) -> Command | None:
        """What to ask the kernel before ``purge``."""

    def purge(self, listing: str) -> tuple[Command, ...]:
        """From anything that this proxy may have left behind to nothing; those that find nothing may fail."""

    def replace(self, listing: str, base: Any, pieces: Iterable[Any]) -> tuple[Command, ...]:
        """From anything that this proxy may have left behind to the whole, and no packet meets less than either of
        both; empty where that cannot be done."""


@dataclass(frozen=True)
class Target:
    """All rules a node should have. ``shared`` is one mapping for all nodes, ``own`` is this node's alone.

    ``ports`` are all ports of Services by their keys, also one mapping for all nodes.
    """

    proxy: str
    node: NodeNetwork
    base: Any
    shared: Pieces
    own: Pieces
    ports: Mapping[str, ServicePort]

    def pieces(self) -> Iterator[Any]:
        """In an order that is the same on every run: that of the keys."""
        merged = {**self.shared, **self.own}
        return (merged[key] for key in sorted(merged))


def difference(old: Target, new: Target) -> dict[str, Change]:
    """The pieces that are not the same in two targets of a node, by key."""
    found = _changes(old.shared, new.shared)
    for key, change in _changes(old.own, new.own).items():
        # A port whose policy changes leaves one mapping for the other, and is in both differences.
        other = found.get(key, _NO_CHANGE)
        found[key] = Change(change.old or other.old, change.new or other.new)
    return found


_NO_CHANGE = Change(None, None)


def _changes(old: Pieces, new: Pieces) -> dict[str, Change]:
    """Pieces that did not change are the same object, so most are not compared at all."""
    if old is new:
        return {}
    found = {}
    for key, piece in new.items():
        before = old.get(key)
        if before is not piece and before != piece:
            found[key] = Change(before, piece)
    if len(old) != len(new) or len(found):
        found |= {key: Change(piece, None) for key, piece in old.items() if key not in new}
    return found


class Renderer:
    """From cluster state to every node's rules, for one kind of proxy. What did not change is the same object again."""

    def __init__(self, proxy: str, rules: Rules) -> None:
        self._proxy, self._rules = proxy, rules
        self._ranges: tuple[IPNetwork, ...] = ()  # all that rules depend on of the settings
        self._ports: dict[str, ServicePort] = {}
        self._shared: dict[str, Any] = {}
        self._own: dict[str, tuple[NodeNetwork, dict[str, Any]]] = {}  # by node name

    def targets(self, state: ClusterState) -> dict[str, Target]:
        """The rules of all nodes by node name."""
        if not state.nodes:
            return {}
        config = state.config
        ranges = (config.cluster_cidr, config.service_cidr, config.load_balancer_cidr)
        if self._ranges != ranges:
            self._ranges = ranges
            self._ports, self._shared, self._own = {}, {}, {}
        ports = {port.key: port for port in state.service_ports}
        if changed := _changed(self._ports, ports):
            self._render_shared(state, ports, changed)
        self._own = {node.name: (node, self._render_own(state, node, ports, changed)) for node in state.nodes}
        self._ports = ports
        return {
            node.name: Target(
                self._proxy, node, self._rules.base(state.config, node), self._shared, self._own[node.name][1], ports
            )
            for node in state.nodes
        }

    def _render_shared(self, state: ClusterState, ports: Mapping[str, ServicePort], changed: set[str]) -> None:
        shared = {key: piece for key, piece in self._shared.items() if key in ports and key not in changed}
        for key in changed & ports.keys():
            if not self._rules.depends_on_node(ports[key]):
                shared[key] = self._rules.piece(state.config, state.nodes[0], ports[key])
        shared |= self._rules.address_pieces(ports.values())
        self._shared = shared

    def _render_own(
        self, state: ClusterState, node: NodeNetwork, ports: Mapping[str, ServicePort], changed: set[str]
    ) -> dict[str, Any]:
        known_node, own = self._own.get(node.name, (None, {}))
        if known_node != node:
            affected = set(ports)
        elif not changed:
            return own
        else:
            affected = changed
        own = {key: piece for key, piece in own.items() if key in ports and key not in affected}
        for key in affected & ports.keys():
            if self._rules.depends_on_node(ports[key]):
                own[key] = self._rules.piece(state.config, node, ports[key])
        return own


def _changed(old: Mapping[str, ServicePort], new: Mapping[str, ServicePort]) -> set[str]:
    """The keys of ports that are new, gone or different."""
    changed = {key for key, port in new.items() if (before := old.get(key)) is not port and before != port}
    if len(new) != len(old) or changed:
        changed |= old.keys() - new.keys()
    return changed
