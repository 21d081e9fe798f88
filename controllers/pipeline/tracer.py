"""Follow a packet through one bridge's flows, as Open vSwitch would, and fail on what cannot be followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from controllers.pipeline.connections import BridgeMemory
from controllers.pipeline.fields import FIELDS
from controllers.pipeline.flow import (
    IN_PORT,
    Action,
    Actions,
    Conntrack,
    DecTTL,
    Flow,
    ForgetInPort,
    GotoTable,
    Group,
    Learn,
    Move,
    Output,
    OutputField,
    Resubmit,
    SetField,
    ToGroup,
)
from controllers.pipeline.tables import CLASSIFIER, TABLES, Table

# A packet is its header fields by OXM name, and `ip_ttl` for IP packets. Absent fields are headers it does not have.
Packet = Mapping[str, int]

# Which bucket of a group takes a packet, by its place.
Choice = Callable[[Group, Packet], int]

_HEADERS = frozenset(
    {"eth_type", "eth_src", "eth_dst", "ipv4_src", "ipv4_dst", "ip_ttl", "ip_proto", "icmp_type"}
    | {"tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"}
    | {"arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"}
)
_REGISTERS = frozenset(name for name in FIELDS if name.startswith("reg"))
# A packet here is never a fragment.
_METADATA = _REGISTERS | {"in_port", "ct_state", "ct_mark", "ip_frag"}
_READABLE = _HEADERS | _METADATA
_NO_PORT = 0xFFFF


class TraceError(Exception):
    """The flows do something the tracer cannot follow, or something that must never be: an ambiguity or a loop."""


@dataclass(frozen=True)
class Step:
    """What happened in one table: the flow that matched, or None for a miss.

    ``bucket`` is the place of the bucket that the flow's ``group`` chose; ``remembered`` what a learned flow brought.
    """

    table: Table
    flow: Flow | None
    group: Group | None = None
    bucket: int | None = None
    remembered: Mapping[str, int] | None = None


@dataclass(frozen=True)
class BridgeTrace:
    """The way through one bridge. ``outputs`` are (of_port, packet as it leaves); none means it was dropped."""

    steps: tuple[Step, ...]
    outputs: tuple[tuple[int, Packet], ...]
    drop_reason: str = ""


def first_bucket(_group: Group, _packet: Packet) -> int:
    """The choice of who does not care."""
    return 0


class BridgeTracer:
    """The flows and groups of one bridge, ready to be traced through."""

    def __init__(self, flows: Iterable[Flow], groups: Iterable[Group] = ()) -> None:
        # Per table and priority, the flows grouped by the bits they look at: one dictionary look-up a group.
        self._flows: dict[str, dict[int, dict[_Mask, dict[tuple[int, ...], Flow]]]] = {}
        self._groups = {group.group_id: group for group in groups}
        for flow in flows:
            unreadable = {entry.field for entry in flow.match} - _READABLE
            if unreadable:
                raise TraceError(f"cannot read a match on {', '.join(sorted(unreadable))}")
            mask = tuple((entry.field, entry.mask) for entry in flow.match)
            by_priority = self._flows.setdefault(flow.table.name, {})
            alike = by_priority.setdefault(flow.priority, {}).setdefault(mask, {})
            alike[tuple(entry.value for entry in flow.match)] = flow
        for name, by_priority in self._flows.items():
            self._flows[name] = dict(sorted(by_priority.items(), reverse=True))

    def trace(
        self, in_port: int, packet: Packet, memory: BridgeMemory | None = None, choose: Choice = first_bucket
    ) -> BridgeTrace:
        """Follow a packet that enters by ``in_port``; ``memory`` (default: an empty one) changes as a bridge's would.

        Raises TraceError for an action or header it does not know, for a group that is not there, and where two flows
        of one priority match.
        """
        unreadable = packet.keys() - _HEADERS
        if unreadable:
            raise TraceError(f"cannot read the header {', '.join(sorted(unreadable))}")
        fields = {**packet, **dict.fromkeys(_METADATA, 0), "in_port": in_port}
        walk = _Walk(self, fields, in_port, memory if memory is not None else BridgeMemory(), choose)
        walk.enter(CLASSIFIER)
        return BridgeTrace(tuple(walk.steps), tuple(walk.outputs), "" if walk.outputs else walk.reason)

    def group(self, group_id: int) -> Group:
        """The group with this id. Raises TraceError if there is none."""
        if group_id not in self._groups:
            raise TraceError(f"there is no group {group_id}")
        return self._groups[group_id]

    def find(self, table: Table, fields: Mapping[str, int]) -> Flow | None:
        """The flow that matches in a table."""
        for groups in self._flows.get(table.name, {}).values():
            found = []
            for mask, by_value in groups.items():
                if any(name not in fields for name, _ in mask):
                    continue
                flow = by_value.get(tuple([fields[name] & bits for name, bits in mask]))
                if flow is not None:
                    found.append(flow)
            if len(found) > 1:
                raise TraceError(f"{table.name}: two flows of priority {found[0].priority} match")
            if found:
                return found[0]
        return None


_Mask = tuple[tuple[str, int], ...]


@dataclass
class _Walk:
    """A packet on its way. ``came_by`` is the real in_port, which the packet may have forgotten."""

    tracer: BridgeTracer
    fields: dict[str, int]
    came_by: int
    memory: BridgeMemory
    choose: Choice
    steps: list[Step] = field(default_factory=list)
    outputs: list[tuple[int, Packet]] = field(default_factory=list)
    reason: str = ""

    def enter(self, table: Table) -> None:
        """Go through a table and all that follow it."""
        remembered = self.memory.remembered(table.name, self.fields)
        if remembered is not None:
            self.fields |= remembered
            self.steps.append(Step(table, None, remembered=remembered))
            return
        flow = self.tracer.find(table, self.fields)
        self.steps.append(Step(table, flow))
        if flow is None or not flow.actions:
            self.reason = f"{table.name}: " + ("no flow matches" if flow is None else "a flow drops it")
            return
        self.run(table, flow.actions)

    def run(self, table: Table, actions: Actions) -> None:
        """Do a flow's or a bucket's actions."""
        self.reason = f"{table.name}: nothing more to do"
        for action in actions:
            if not self._do(table, action):
                return

    def _do(self, table: Table, action: Action) -> bool:
        """One action; returns whether the next one follows."""
        fields = self.fields
        if isinstance(action, SetField):
            fields[action.field] = action.value
        elif isinstance(action, Move):
            mask = FIELDS[action.source].full_mask
            fields[action.destination] = fields[action.destination] & ~mask | fields[action.source]
        elif isinstance(action, ForgetInPort):
            fields["in_port"] = _NO_PORT
        elif isinstance(action, DecTTL):
            if fields["ip_ttl"] <= 1:
                self.reason = f"{table.name}: TTL expired"
                return False
            fields["ip_ttl"] -= 1
        elif isinstance(action, Output | OutputField):
            return self._output(table, action.of_port if isinstance(action, Output) else fields[action.field])
        elif isinstance(action, Learn):
            self.memory.learn(action, fields)
        elif isinstance(action, ToGroup):
            self._to_group(table, self.tracer.group(action.group_id))
        elif isinstance(action, Conntrack):
            self._track(action)
        elif isinstance(action, Resubmit | GotoTable):
            self.enter(TABLES[action.table])
        else:
            raise TraceError(f"cannot follow {action}")
        return True

    def _output(self, table: Table, of_port: int) -> bool:
        if of_port == self.fields["in_port"]:
            self.reason = f"{table.name}: would leave by the port it came from"
            return False
        leaves_by = self.came_by if of_port == IN_PORT else of_port
        self.outputs.append((leaves_by, {name: self.fields[name] for name in _HEADERS & self.fields.keys()}))
        return True

    def _track(self, action: Conntrack) -> None:
        # Without a table the packet goes on as it was; only the connection is remembered.
        fields = self.fields if action.table else dict(self.fields)
        self.memory.track(action, fields)
        if action.table:
            self.enter(TABLES[action.table])

    def _to_group(self, table: Table, group: Group) -> None:
        if not group.buckets:
            self.reason = f"{table.name}: group {group.group_id} has no bucket"
            return
        packet = {name: self.fields[name] for name in _HEADERS & self.fields.keys()}
        bucket = self.choose(group, packet) % len(group.buckets)
        self.steps[-1] = Step(table, self.steps[-1].flow, group, bucket)
        # A bucket works on its own copy of the packet.
        before, self.fields = self.fields, dict(self.fields)
        self.run(table, group.buckets[bucket].actions)
        self.fields = before
