"""Follow a packet through one bridge's flows, as Open vSwitch would, and fail on what cannot be followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controllers.pipeline.flow import (
    IN_PORT,
    DecTTL,
    Flow,
    GotoTable,
    Move,
    Output,
    OutputField,
    SetField,
)
from controllers.pipeline.tables import CLASSIFIER, REG_SOURCE, REG_TARGET, TABLES, Table

# A packet is its header fields by OXM name, and `ip_ttl` for IP packets. Absent fields are headers it does not have.
Packet = Mapping[str, int]

_HEADERS = frozenset(
    {"eth_type", "eth_src", "eth_dst", "ipv4_src", "ipv4_dst", "ip_ttl"}
    | {"arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"}
)
_READABLE = _HEADERS | {"in_port", REG_SOURCE, REG_TARGET}


class TraceError(Exception):
    """The flows do something the tracer cannot follow, or something that must never be: an ambiguity or a loop."""


@dataclass(frozen=True)
class Step:
    """What happened in one table: the flow that matched, or None for a miss."""

    table: Table
    flow: Flow | None


@dataclass(frozen=True)
class BridgeTrace:
    """The way through one bridge. ``outputs`` are (of_port, packet as it leaves); none means it was dropped."""

    steps: tuple[Step, ...]
    outputs: tuple[tuple[int, Packet], ...]
    drop_reason: str = ""


class BridgeTracer:
    """The flows of one bridge, ready to be traced through."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        # Per table and priority, the flows grouped by the bits they look at: one dictionary look-up a group.
        self._groups: dict[str, dict[int, dict[_Mask, dict[tuple[int, ...], Flow]]]] = {}
        for flow in flows:
            unreadable = {entry.field for entry in flow.match} - _READABLE
            if unreadable:
                raise TraceError(f"cannot read a match on {', '.join(sorted(unreadable))}")
            mask = tuple((entry.field, entry.mask) for entry in flow.match)
            by_priority = self._groups.setdefault(flow.table.name, {})
            group = by_priority.setdefault(flow.priority, {}).setdefault(mask, {})
            group[tuple(entry.value for entry in flow.match)] = flow
        for name, by_priority in self._groups.items():
            self._groups[name] = dict(sorted(by_priority.items(), reverse=True))

    def trace(self, in_port: int, packet: Packet) -> BridgeTrace:
        """Follow a packet that enters by ``in_port``.

        Raises TraceError for an action or header it does not know, and where two flows of one priority match.
        """
        unreadable = packet.keys() - _HEADERS
        if unreadable:
            raise TraceError(f"cannot read the header {', '.join(sorted(unreadable))}")
        fields = {**packet, "in_port": in_port, REG_SOURCE: 0, REG_TARGET: 0}
        steps: list[Step] = []
        outputs: list[tuple[int, Packet]] = []
        reason = ""
        table: Table | None = CLASSIFIER
        while table is not None:
            flow = self._lookup(table, fields)
            steps.append(Step(table, flow))
            if flow is None or not flow.actions:
                reason = f"{table.name}: " + ("no flow matches" if flow is None else "a flow drops it")
                break
            table, stopped = _execute(flow, fields, outputs)
            reason = stopped or reason
        return BridgeTrace(tuple(steps), tuple(outputs), "" if outputs else reason)

    def _lookup(self, table: Table, fields: Mapping[str, int]) -> Flow | None:
        for groups in self._groups.get(table.name, {}).values():
            found = []
            for mask, by_value in groups.items():
                if any(field not in fields for field, _ in mask):
                    continue
                flow = by_value.get(tuple([fields[field] & bits for field, bits in mask]))
                if flow is not None:
                    found.append(flow)
            if len(found) > 1:
                raise TraceError(f"{table.name}: two flows of priority {found[0].priority} match")
            if found:
                return found[0]
        return None


_Mask = tuple[tuple[str, int], ...]


def _execute(flow: Flow, fields: dict[str, int], outputs: list[tuple[int, Packet]]) -> tuple[Table | None, str]:
    """Apply a flow's actions; returns the next table, if any, and why the packet stopped, if it did."""
    for action in flow.actions:
        if isinstance(action, SetField):
            fields[action.field] = action.value
        elif isinstance(action, Move):
            fields[action.destination] = fields[action.source]
        elif isinstance(action, DecTTL):
            if fields["ip_ttl"] <= 1:
                return None, f"{flow.table.name}: TTL expired"
            fields["ip_ttl"] -= 1
        elif isinstance(action, Output | OutputField):
            of_port = action.of_port if isinstance(action, Output) else fields[action.field]
            if of_port == fields["in_port"]:
                return None, f"{flow.table.name}: would leave by the port it came from"
            leaves_by = fields["in_port"] if of_port == IN_PORT else of_port
            outputs.append((leaves_by, {name: fields[name] for name in _HEADERS & fields.keys()}))
        elif isinstance(action, GotoTable):
            return TABLES[action.table], ""
        else:
            raise TraceError(f"cannot follow {action}")
    return None, f"{flow.table.name}: nothing more to do"
