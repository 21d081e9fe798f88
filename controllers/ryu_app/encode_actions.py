"""Matches and actions as OpenFlow 1.3 puts them on the wire.

Sources: OpenFlow 1.3.5 sections 7.2.3 (matches) and 7.2.5 (actions); Open vSwitch's nicira-ext.h and ofp-actions.c for
the vendor's actions (move, output to a register's port, ct, nat, resubmit, learn).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache, lru_cache
from ipaddress import IPv4Address

from controllers.pipeline.fields import ETH_TYPE_IPV4, FIELDS
from controllers.pipeline.flow import (
    Action,
    Conntrack,
    DecTTL,
    FieldMatch,
    ForgetInPort,
    Learn,
    Match,
    Move,
    Output,
    OutputField,
    Resubmit,
    SetField,
    ToGroup,
)
from controllers.pipeline.tables import TABLES
from controllers.ryu_app.framework import nicira_ext, ofproto, ofproto_common

_TYPE_LENGTH = struct.Struct("!HH")
# type, length, vendor, subtype: how every action of the vendor begins.
_VENDOR = struct.Struct("!HHIH")
# number of bits, source offset, destination offset, source, destination
_MOVE = struct.Struct("!HHHII")
# offset and width, field, longest part of a packet for the controller
_OUTPUT_FIELD = struct.Struct("!HIH6x")
# flags, field with the zone, zone, next table, application-layer gateway
_CONNTRACK = struct.Struct("!HIHB3xH")
# flags, which of the parameters follow
_NAT = struct.Struct("!2xHH")
# offset and width, field, value
_LOAD = struct.Struct("!HIQ")
# in_port for the look-up, table
_RESUBMIT = struct.Struct("!HB3x")
# idle and hard timeout, priority, cookie, flags, table, idle and hard timeout after a FIN
_LEARN = struct.Struct("!HHHQHBxHH")
# number of bits and kind, source field and offset, destination field and offset; or with a value as the source
_LEARN_FIELD = struct.Struct("!HIHIH")
_LEARN_VALUE = struct.Struct("!HHIH")

# ofp-actions.c; the frameworks have no names for these two.
_NAT_FLAGS = {"": 0, "src": 1, "dst": 2}
# nicira-ext.h, NX_LEARN_F_DELETE_LEARNED: what it taught goes with the flow that has the action.
_DELETE_LEARNED = 1 << 1
# nicira-ext.h speaks of ports in the 16 bits of OpenFlow 1.0: OFPP_IN_PORT, here "as it is", and OFPP_NONE.
_SAME_IN_PORT = 0xFFF8
_NO_PORT = 0xFFFF
# NXM_OF_IN_PORT: class 0, field 0, two bytes.
_NXM_IN_PORT = 0x00000002


def encode_match(match: Match) -> bytes:
    fields = b"".join([_oxm(entry) for entry in match])
    # The length leaves out the padding (7.2.3.1).
    return _padded(_TYPE_LENGTH.pack(ofproto.OFPMT_OXM, _TYPE_LENGTH.size + len(fields)) + fields)


def encode_actions(actions: Iterable[Action]) -> bytes:
    """A list of actions; going on to another table is no action here but an instruction."""
    return b"".join([_action(action) for action in actions])


def _oxm(entry: FieldMatch) -> bytes:
    full_mask, size = _extent(entry.field)
    if entry.mask == full_mask:
        return _oxm_header(entry.field, False) + entry.value.to_bytes(size, "big")
    return _oxm_header(entry.field, True) + entry.value.to_bytes(size, "big") + entry.mask.to_bytes(size, "big")


@cache
def _extent(name: str) -> tuple[int, int]:
    return FIELDS[name].full_mask, FIELDS[name].bits // 8


@cache
def _oxm_header(name: str, masked: bool) -> bytes:
    field = FIELDS[name]
    payload_bytes = field.bits // 8 * (2 if masked else 1)
    return struct.pack("!HBB", field.oxm_class, field.oxm_number << 1 | masked, payload_bytes)


def _action(action: Action) -> bytes:
    if isinstance(action, SetField):
        before, size, after = _set_field_frame(action.field)
        return before + action.value.to_bytes(size, "big") + after
    if isinstance(action, ToGroup):
        return struct.pack("!HHI", ofproto.OFPAT_GROUP, 8, action.group_id)
    if isinstance(action, Conntrack):
        return _conntrack(action)
    return _repeated_action(action)


@cache
def _set_field_frame(name: str) -> tuple[bytes, int, bytes]:
    """What stands before a field's new value, how many bytes the value has, and the padding after it."""
    header, (_, size) = _oxm_header(name, False), _extent(name)
    used = _TYPE_LENGTH.size + len(header) + size
    # Here the length does count the padding (7.2.5.6).
    return _TYPE_LENGTH.pack(ofproto.OFPAT_SET_FIELD, used + -used % 8) + header, size, bytes(-used % 8)


@lru_cache(maxsize=4096)
def _repeated_action(action: Action) -> bytes:
    """The actions of which a pipeline has few different ones."""
    if isinstance(action, DecTTL):
        return struct.pack("!HH4x", ofproto.OFPAT_DEC_NW_TTL, 8)
    if isinstance(action, Output):
        return struct.pack("!HHIH6x", ofproto.OFPAT_OUTPUT, 16, action.of_port, 0)
    if isinstance(action, Move):
        bits = FIELDS[action.source].bits
        fields = _nxm_number(action.source), _nxm_number(action.destination)
        return _vendor_action(nicira_ext.NXAST_REG_MOVE, _MOVE.pack(bits, 0, 0, *fields))
    if isinstance(action, OutputField):
        # Offset 0 in the upper bits, the width less one in the lower six.
        width = FIELDS[action.field].bits - 1
        return _vendor_action(nicira_ext.NXAST_OUTPUT_REG, _OUTPUT_FIELD.pack(width, _nxm_number(action.field), 0))
    if isinstance(action, Resubmit):
        table_number = TABLES[action.table].number
        return _vendor_action(nicira_ext.NXAST_RESUBMIT_TABLE, _RESUBMIT.pack(_SAME_IN_PORT, table_number))
    if isinstance(action, ForgetInPort):
        return _vendor_action(nicira_ext.NXAST_REG_LOAD, _LOAD.pack(16 - 1, _NXM_IN_PORT, _NO_PORT))
    if isinstance(action, Learn):
        return _learn(action)
    raise TypeError(f"no encoding for {action}")


def _conntrack(action: Conntrack) -> bytes:
    nat = action.nat
    if nat is None:
        return b"".join(_conntrack_frame(action.zone, action.table, action.commit, None, 0, action.writes))
    parameters = b""
    if nat.address is not None:
        if not isinstance(nat.address, IPv4Address):
            raise TypeError(f"no encoding for a translation to {nat.address}")
        parameters = nat.address.packed
        if nat.transport_port is not None:
            parameters += nat.transport_port.to_bytes(2, "big")
    before, after = _conntrack_frame(action.zone, action.table, action.commit, nat.kind, len(parameters), action.writes)
    return before + parameters + after


@lru_cache(maxsize=256)
def _conntrack_frame(
    zone: int, table: str, commit: bool, nat_kind: str | None, parameter_bytes: int, writes: tuple[Move, ...]
) -> tuple[bytes, bytes]:
    """What stands before and after the parameters of a translation. Groups have one in each bucket."""
    nested = b"" if nat_kind is None else _nat(nat_kind, parameter_bytes)
    flags = nicira_ext.NX_CT_F_COMMIT if commit else 0
    next_table = TABLES[table].number if table else nicira_ext.NX_CT_RECIRC_NONE
    # A zone given as a number has no field.
    fixed = _CONNTRACK.pack(flags, 0, zone, next_table, 0)
    whole = _vendor_action(nicira_ext.NXAST_CT, fixed + nested + encode_actions(writes))
    split = _VENDOR.size + len(fixed) + _VENDOR.size + _NAT.size
    return whole[:split], whole[split + parameter_bytes :]


def _nat(kind: str, parameter_bytes: int) -> bytes:
    """A translation whose parameters are still zeros.

    They are the smallest address and transport port of a range; without a largest it is a range of one.
    """
    present = nicira_ext.NX_NAT_RANGE_IPV4_MIN if parameter_bytes else 0
    present |= nicira_ext.NX_NAT_RANGE_PROTO_MIN if parameter_bytes > 4 else 0
    return _vendor_action(nicira_ext.NXAST_NAT, _NAT.pack(_NAT_FLAGS[kind], present) + bytes(parameter_bytes))


def _learn(action: Learn) -> bytes:
    table_number = TABLES[action.table].number
    fixed = _LEARN.pack(action.idle_timeout_s, 0, action.priority, action.cookie, _DELETE_LEARNED, table_number, 0, 0)
    kind = nicira_ext.NX_LEARN_SRC_IMMEDIATE | nicira_ext.NX_LEARN_DST_MATCH
    specs = _LEARN_VALUE.pack(16 | kind, ETH_TYPE_IPV4, _nxm_number("eth_type"), 0)
    specs += b"".join([_learned_field(name, nicira_ext.NX_LEARN_DST_MATCH) for name in action.same])
    specs += b"".join([_learned_field(name, nicira_ext.NX_LEARN_DST_LOAD) for name in action.remembered])
    return _vendor_action(nicira_ext.NXAST_LEARN, fixed + specs)


def _learned_field(name: str, use: int) -> bytes:
    """A whole field of the packet that is learned, for the same field of the packets to come."""
    number = _nxm_number(name)
    return _LEARN_FIELD.pack(FIELDS[name].bits | nicira_ext.NX_LEARN_SRC_FIELD | use, number, 0, number, 0)


def _vendor_action(subtype: int, body: bytes) -> bytes:
    used = _VENDOR.size + len(body)
    length = used + -used % 8
    head = _VENDOR.pack(ofproto.OFPAT_EXPERIMENTER, length, ofproto_common.NX_EXPERIMENTER_ID, subtype)
    return head + body + bytes(length - used)


def _nxm_number(name: str) -> int:
    return int.from_bytes(_oxm_header(name, False), "big")


def _padded(encoded: bytes) -> bytes:
    return encoded + bytes(-len(encoded) % 8)
