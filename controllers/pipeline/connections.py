"""What a bridge remembers between packets, for the tracer: tracked connections by zone, and learned flows."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple

from controllers.pipeline.fields import CT_STATE_FLAGS, ICMP_ERRORS, TRANSPORT_BY_IP_PROTO
from controllers.pipeline.flow import Conntrack, Learn, Nat

NEW, ESTABLISHED, REPLY, INVALID, TRACKED = (
    1 << CT_STATE_FLAGS.index(flag) for flag in ("new", "est", "rpl", "inv", "trk")
)
_EPHEMERAL = range(1024, 65536)


class Direction(NamedTuple):
    """One direction of a connection: what identifies its packets."""

    ip_proto: int
    source_ip: int
    source_port: int
    destination_ip: int
    destination_port: int

    def back(self) -> Direction:
        """The other direction, if nothing is translated."""
        return Direction(self.ip_proto, self.destination_ip, self.destination_port, self.source_ip, self.source_port)


@dataclass
class _Connection:
    original: Direction
    reply: Direction
    mark: int = 0


@dataclass
class BridgeMemory:
    """Everything a bridge remembers. Tracing changes it, as packets do."""

    connections: dict[tuple[int, Direction], tuple[_Connection, bool]] = field(default_factory=dict)
    # By table and the values of the fields that have to be the same: what the registers were.
    learned: dict[tuple[str, tuple[tuple[str, int], ...]], Mapping[str, int]] = field(default_factory=dict)

    def track(self, action: Conntrack, fields: MutableMapping[str, int]) -> None:
        """Do what ``ct`` does to a packet: its state and mark into ct_state and ct_mark, addresses translated.

        A connection is established with its second packet, in either direction, as in Open vSwitch's own datapath.
        """
        direction = direction_of(fields)
        known = self.connections.get((action.zone, direction))
        if known is None and fields.get("icmp_type") in ICMP_ERRORS:
            fields.update(ct_state=TRACKED | INVALID, ct_mark=0)
            return
        if known is None:
            state, connection, is_reply = TRACKED | NEW, _Connection(direction, direction.back()), False
            if action.commit:
                self._commit(action.zone, connection, action.nat)
        else:
            connection, is_reply = known
            state = TRACKED | ESTABLISHED | (REPLY if is_reply else 0)
        if action.commit:
            for move in action.writes:
                connection.mark = fields.get(move.source, 0)
        if action.nat is not None:
            translate(fields, (connection.original if is_reply else connection.reply).back())
        fields.update(ct_state=state, ct_mark=connection.mark)

    def learn(self, action: Learn, fields: Mapping[str, int]) -> None:
        """Remember something of a packet."""
        same = tuple((name, fields[name]) for name in action.same)
        self.learned[action.table, same] = {name: fields[name] for name in action.remembered}

    def remembered(self, table: str, fields: Mapping[str, int]) -> Mapping[str, int] | None:
        """What a learned flow in ``table`` says of a packet, if there is one."""
        for (name, same), registers in self.learned.items():
            if name == table and all(fields.get(field_name) == value for field_name, value in same):
                return registers
        return None

    def _commit(self, zone: int, connection: _Connection, nat: Nat | None) -> None:
        towards = connection.original
        if nat is not None and nat.address is not None and nat.kind == "dst":
            number = nat.transport_port if nat.transport_port is not None else towards.destination_port
            towards = towards._replace(destination_ip=int(nat.address), destination_port=number)
        elif nat is not None and nat.address is not None:
            towards = towards._replace(source_ip=int(nat.address))
            # Another port, if this one is taken by a connection to the same endpoint.
            for number in (towards.source_port, *_EPHEMERAL):
                towards = towards._replace(source_port=number)
                if (zone, towards.back()) not in self.connections:
                    break
        connection.reply = towards.back()
        self.connections[zone, connection.original] = (connection, False)
        self.connections[zone, connection.reply] = (connection, True)


def direction_of(fields: Mapping[str, int]) -> Direction:
    """The direction a packet belongs to. Protocols without ports have connections by their addresses."""
    ip_proto = fields.get("ip_proto", 0)
    transport = TRANSPORT_BY_IP_PROTO.get(ip_proto)
    source_port = fields[transport.source] if transport else 0
    destination_port = fields[transport.destination] if transport else 0
    return Direction(ip_proto, fields["ipv4_src"], source_port, fields["ipv4_dst"], destination_port)


def translate(fields: MutableMapping[str, int], direction: Direction) -> None:
    """Give a packet the addresses and ports of a direction."""
    fields["ipv4_src"], fields["ipv4_dst"] = direction.source_ip, direction.destination_ip
    transport = TRANSPORT_BY_IP_PROTO.get(direction.ip_proto)
    if transport:
        fields[transport.source] = direction.source_port
        fields[transport.destination] = direction.destination_port
