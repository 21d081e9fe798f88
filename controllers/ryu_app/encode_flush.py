"""The vendor's message that removes entries from connection tracking (nicira-ext.h, NXT_CT_FLUSH; OVS 3.1 and later).

Found by experiment with 3.1.0's userspace datapath, and in its source: the message works, but one pass misses up to
half of the entries. Removing entries makes the table shrink under the loop that walks it (corrected in later versions
by "conntrack: Fix flush not flushing all elements"). 2,000 entries are gone after 10 passes, 30,000 after 13. So the
message is sent as many times as the largest number of entries can be halved; a pass that finds nothing costs little.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from controllers.ryu_app.framework import ofproto, ofproto_common
from controllers.ryu_app.stale_connections import Translation
from testbed.cluster.values import IPAddress

# A client has 65,535 source ports; this is enough for 30 clients that use them all towards one endpoint.
PASSES = 21

_SUBTYPE = 32  # ofp-msgs.h: NXT 1.0+ (32)
_IP_PROTOS = {"TCP": 6, "UDP": 17}

# version, type, length, xid, experimenter, subtype, IP protocol
_HEAD = struct.Struct("!BBHIIIB7x")
# TLVs, padded to 8 bytes; the length leaves the padding out.
_TYPE_LENGTH = struct.Struct("!HH")
_ORIGINAL_TUPLE, _REPLY_TUPLE, _ZONE = 0, 1, 2
_SOURCE, _DESTINATION, _SOURCE_PORT, _DESTINATION_PORT = 0, 1, 2, 3


def flush_connections(xid: int, zone: int, stale: Translation) -> bytes:
    """Remove the connections of a zone that were translated so. To be sent PASSES times.

    They are known by what the client sends to (the original tuple's destination) and by whom it is answered (the reply
    tuple's source).
    """
    properties = b""
    service = _address(_DESTINATION, stale.service_ip) + _number(_DESTINATION_PORT, stale.service_port)
    endpoint = _address(_SOURCE, stale.endpoint_ip) + _number(_SOURCE_PORT, stale.target_port)
    if service:
        properties += _nested(_ORIGINAL_TUPLE, service)
    if endpoint:
        properties += _nested(_REPLY_TUPLE, endpoint)
    properties += _number(_ZONE, zone)
    length = _HEAD.size + len(properties)
    return (
        _HEAD.pack(
            ofproto.OFP_VERSION,
            ofproto.OFPT_EXPERIMENTER,
            length,
            xid,
            ofproto_common.NX_EXPERIMENTER_ID,
            _SUBTYPE,
            _IP_PROTOS[stale.protocol],
        )
        + properties
    )


def _nested(kind: int, inner: bytes) -> bytes:
    """A TLV of TLVs, which begin 8 bytes after its own beginning."""
    return _TYPE_LENGTH.pack(kind, 8 + len(inner)) + bytes(4) + inner


def _address(kind: int, address: IPAddress | None) -> bytes:
    """An address as IPv6 has it; IPv4's are mapped (RFC 4291 section 2.5.5.2)."""
    if address is None:
        return b""
    packed = bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed
    return _property(kind, packed)


def _number(kind: int, number: int | None) -> bytes:
    """A number of 16 bits, which OpenFlow's properties always give 4 bytes."""
    if number is None:
        return b""
    return _property(kind, number.to_bytes(2, "big") + bytes(2))


def _property(kind: int, payload: bytes) -> bytes:
    encoded = _TYPE_LENGTH.pack(kind, _TYPE_LENGTH.size + len(payload)) + payload
    return encoded + bytes(-len(encoded) % 8)
