"""Flows as values. A flow that does not fit its table cannot be built."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

from controllers.pipeline.fields import FIELD_ORDER, FIELDS, FieldValue, value_number
from controllers.pipeline.tables import BUCKET, TABLES, Table
from testbed.cluster.values import IPAddress

IN_PORT = 0xFFFFFFF8  # OpenFlow 1.3.5 section 7.2.1: OFPP_IN_PORT, send back where the packet came from


class PipelineError(ValueError):
    """A flow was built that its table does not allow: a mistake in a builder, not in the user's input."""


class FieldMatch(NamedTuple):
    """``packet[field] & mask == value``. Numbers as wide as the field."""

    field: str
    value: int
    mask: int


Match = tuple[FieldMatch, ...]


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a number into a field."""

    field: str
    value: int


@dataclass(frozen=True, slots=True)
class Move:
    """Copy one field into another, or into the lowest bits of a wider one."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class DecTTL:
    """Decrement the IP TTL; a packet whose TTL is 1 or less goes no further."""


@dataclass(frozen=True, slots=True)
class Output:
    """Send the packet out of a bridge port. Open vSwitch never sends it back by ``in_port`` unless told IN_PORT."""

    of_port: int


@dataclass(frozen=True, slots=True)
class OutputField:
    """Send the packet out of the bridge port whose number stands in a register."""

    field: str


@dataclass(frozen=True, slots=True)
class GotoTable:
    """Go on in another table, after all other actions of the flow."""

    table: str


@dataclass(frozen=True, slots=True)
class Nat:
    """Address translation by connection tracking. Without ``kind``: as the connection's entry says, in its direction.

    ``address`` and ``transport_port`` (None: keep it) are what source or destination become on the first packet.
    """

    kind: Literal["", "src", "dst"] = ""
    address: IPAddress | None = None
    transport_port: int | None = None


@dataclass(frozen=True, slots=True)
class Conntrack:
    """Look the packet's connection up in a zone (ovs-actions(7), ``ct``).

    With a ``table`` the packet goes on there with its connection's state, and nothing follows this action. Without, it
    goes on as it was. ``commit`` makes a new connection known, with ``writes`` (into ct_mark) written into its entry.
    """

    zone: int
    table: str = ""
    commit: bool = False
    nat: Nat | None = None
    writes: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class ToGroup:
    """Let a group choose one of its buckets."""

    group_id: int


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Run the packet through another table now, and go on with the next action when that table is done with it."""

    table: str


@dataclass(frozen=True, slots=True)
class Learn:
    """Add a flow to ``table`` that remembers something of this packet (ovs-actions(7), ``learn``).

    It matches IPv4 packets with the same value in each of ``same``, and then loads into each register of ``remembered``
    the value that this has now. It is forgotten when it has not been used for ``idle_timeout_s``, and when the flow
    that learned it is deleted (``delete_learned``, NX_LEARN_F_DELETE_LEARNED).
    """

    table: str
    priority: int
    idle_timeout_s: int
    cookie: int
    same: tuple[str, ...]
    remembered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetInPort:
    """From here on the packet came by no port, so it may leave by the one that it came by.

    Open vSwitch's in_port becomes OFPP_NONE. Set in its 16-bit form (``load:0xffff->NXM_OF_IN_PORT[]``): the 32-bit OXM
    field does not take that value in a set_field.
    """


Action = (
    SetField | Move | DecTTL | Output | OutputField | GotoTable | Conntrack | ToGroup | Resubmit | Learn | ForgetInPort
)
Actions = tuple[Action, ...]


def match(**fields: FieldValue) -> Match:
    """A match on fields by their OXM names; a network matches by its prefix. Raises PipelineError for a misfit."""
    entries = []
    for name, value in fields.items():
        field = FIELDS.get(name)
        if field is None:
            raise PipelineError(f"no field {name}")
        try:
            number, mask = value_number(field, value)
        except ValueError as error:
            raise PipelineError(str(error)) from None
        entries.append(FieldMatch(name, number, mask))
    entries.sort(key=_field_position)
    return tuple(entries)


def set_field(name: str, value: FieldValue) -> SetField:
    """The action that writes ``value`` (number, MAC text, address) into a field."""
    return SetField(name, value_number(FIELDS[name], value)[0])


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow. No actions at all means: drop. Raises PipelineError if it does not fit its table."""

    table: Table
    priority: int
    match: Match
    actions: Actions
    cookie: int

    def __post_init__(self) -> None:
        eth_type = ip_proto = None
        for entry in self.match:
            if entry.field == "eth_type":
                eth_type = entry.value
            elif entry.field == "ip_proto":
                ip_proto = entry.value
        _check_match(self.table.name, eth_type, ip_proto, tuple([entry.field for entry in self.match]))
        _check_actions(self.table.name, eth_type, ip_proto, tuple([_shape(action) for action in self.actions]))

    @property
    def key(self) -> FlowKey:
        """What makes it the same flow for a switch (OpenFlow 1.3.5 section 6.4): a second one with it replaces it."""
        return FlowKey(self.table.number, self.priority, self.match)


class FlowKey(NamedTuple):
    table_number: int
    priority: int
    match: Match


@dataclass(frozen=True, slots=True)
class Bucket:
    """One choice of a group. ``weight`` is its share of the connections, relative to the others'."""

    weight: int
    actions: Actions

    def __post_init__(self) -> None:
        _check_actions(BUCKET.name, None, None, tuple([_shape(action) for action in self.actions]))


@dataclass(frozen=True, slots=True)
class Group:
    """A select group: each connection is given to one bucket; without any bucket it drops.

    ``subject`` says in words whose it is, for errors; it makes no difference to a switch.
    """

    group_id: int
    buckets: tuple[Bucket, ...]
    subject: str = field(default="", compare=False)


def sort_key(flow: Flow) -> tuple[int, int, Match]:
    """Orders flows by table, then from the highest priority down, then by match."""
    return flow.table.number, -flow.priority, flow.match


def _field_position(entry: FieldMatch) -> int:
    return FIELD_ORDER[entry.field]


def _shape(action: Action) -> tuple[type[Action], str, str]:
    """An action without its numbers: enough to judge whether a table allows it."""
    kind = type(action)
    if isinstance(action, _WITH_FIELD):
        return kind, action.field, ""
    if isinstance(action, Move):
        return kind, action.source, action.destination
    if isinstance(action, _LEADS_ON):
        return kind, action.table, ""
    return kind, "", ""


_WITH_FIELD = (SetField, OutputField)
_LEADS_ON = (GotoTable, Conntrack, Resubmit, Learn)


# The checks depend on a flow's shape only, of which there are few: each is done once.
@cache
def _check_match(table_name: str, eth_type: int | None, ip_proto: int | None, fields: tuple[str, ...]) -> None:
    table = TABLES[table_name]
    for position, name in enumerate(fields):
        if name not in table.match_fields:
            raise PipelineError(f"{table_name} does not match {name}")
        if name in fields[:position]:
            raise PipelineError(f"{table_name}: {name} twice in one match")
        _check_prerequisite(table_name, eth_type, ip_proto, name)


@cache
def _check_actions(
    table_name: str, eth_type: int | None, ip_proto: int | None, shapes: tuple[tuple[type[Action], str, str], ...]
) -> None:
    table = BUCKET if table_name == BUCKET.name else TABLES[table_name]
    for position, (kind, first, second) in enumerate(shapes):
        if kind is SetField:
            if first not in table.set_fields:
                raise PipelineError(f"{table_name} does not set {first}")
            _check_prerequisite(table_name, eth_type, ip_proto, first)
            continue
        if kind is not GotoTable and kind.__name__ not in table.actions:
            raise PipelineError(f"{table_name} does not allow {kind.__name__}")
        if kind in (GotoTable, Resubmit) or (kind is Conntrack and first):
            _check_way(table, kind, first, last=position == len(shapes) - 1)
        elif kind is Move:
            if FIELDS[first].bits > FIELDS[second].bits:
                raise PipelineError(f"{table_name}: {first} is wider than {second}")
            _check_prerequisite(table_name, eth_type, ip_proto, first)
            _check_prerequisite(table_name, eth_type, ip_proto, second)
    # A bucket's actions are an action set, of which Open vSwitch carries out one only of those that send a packet on.
    if table is BUCKET and sum(kind in (Resubmit, Conntrack) for kind, _, _ in shapes) != 1:
        raise PipelineError("a bucket sends a packet on once")


def _check_way(table: Table, kind: type[Action], target: str, last: bool) -> None:
    """A packet only goes forward, and a table that takes it over ends the flow."""
    if target not in table.next_tables:
        raise PipelineError(f"{table.name} does not go on to {target}")
    if TABLES[target].number <= table.number:
        raise PipelineError(f"{table.name} would go back to {target}")
    if kind is not Resubmit and not last:
        raise PipelineError(f"{table.name}: nothing can follow {'goto_table' if kind is GotoTable else 'ct(table)'}")


def _check_prerequisite(table_name: str, eth_type: int | None, ip_proto: int | None, name: str) -> None:
    field = FIELDS[name]
    if field.eth_type is not None and field.eth_type != eth_type:
        raise PipelineError(f"{table_name}: {name} needs a match on eth_type {field.eth_type:#06x}")
    if field.ip_proto is not None and field.ip_proto != ip_proto:
        raise PipelineError(f"{table_name}: {name} needs a match on ip_proto {field.ip_proto}")
