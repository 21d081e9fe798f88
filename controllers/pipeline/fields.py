"""The packet and register fields that flows may match or set, by their OXM names.

One entry says everything the other modules need to know of a field: how wide it is, how ``ovs-ofctl`` spells it, how it
goes on the wire, and which Ethernet type and IP protocol a flow must match before it may use the field. Sources:
OpenFlow 1.3.5 section 7.2.3.7 (OXM fields and prerequisites) and ovs-fields(7) (NXM names, registers, ct_state).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from testbed.cluster.values import IPAddress, IPNetwork, Protocol

ETH_TYPE_IPV4 = 0x0800
ETH_TYPE_ARP = 0x0806
ARP_REQUEST = 1
ARP_REPLY = 2
IP_PROTO_ICMP = 1
IP_PROTO_TCP = 6
IP_PROTO_UDP = 17
IP_PROTO_SCTP = 132
# RFC 792: destination unreachable, time exceeded, parameter problem. They quote the packet that they are about.
ICMP_ERRORS = (3, 11, 12)
# ovs-fields(7): the bit of ip_frag that every part of a fragmented packet has. No part has ports that can be matched.
IP_FRAGMENT = (1, 1)

FieldKind = Literal["decimal", "hexadecimal", "mac", "ipv4", "ct_state", "ip_frag"]
# A number with a mask is given as (number, mask); a state of connections as text, "+est-rpl+trk".
FieldValue = int | str | IPAddress | IPNetwork | tuple[int, int]

_OXM_BASIC = 0x8000
_NXM_REGISTERS = 0x0001


@dataclass(frozen=True)
class Field:
    """One field.

    ``match_text`` is the name in a printed match, ``set_text`` in ``set_field:...->``, ``nxm_text`` in ``move`` and
    ``output:``. ``oxm_class`` and ``oxm_number`` make the header on the wire. ``eth_type`` and ``ip_proto`` are the
    prerequisites.
    """

    name: str
    bits: int
    kind: FieldKind
    match_text: str
    set_text: str
    nxm_text: str
    oxm_class: int
    oxm_number: int
    eth_type: int | None = None
    ip_proto: int | None = None

    @property
    def full_mask(self) -> int:
        return (1 << self.bits) - 1


def _register(number: int) -> Field:
    name = f"reg{number}"
    return Field(name, 32, "hexadecimal", name, name, f"NXM_NX_REG{number}", _NXM_REGISTERS, number)


def _transport(protocol: str, ip_proto: int, first_oxm_number: int) -> tuple[Field, Field]:
    """The two port fields of a protocol. ovs-ofctl has one name for all protocols' in a match."""
    return tuple(  # type: ignore[return-value]
        Field(
            f"{protocol}_{end}",
            16,
            "decimal",
            f"tp_{end}",
            f"{protocol}_{end}",
            f"NXM_OF_{protocol.upper()}_{end.upper()}",
            _OXM_BASIC,
            first_oxm_number + offset,
            ETH_TYPE_IPV4,
            ip_proto,
        )
        for offset, end in enumerate(("src", "dst"))
    )


# In the order in which ovs-ofctl prints them; a match is kept and printed in this order. The Ethernet type and the IP
# protocol are printed as one word (`ip`, `arp`, `tcp`).
_ALL = (
    Field("ct_state", 32, "ct_state", "ct_state", "", "NXM_NX_CT_STATE", _NXM_REGISTERS, 105),
    Field("ct_mark", 32, "hexadecimal", "ct_mark", "ct_mark", "NXM_NX_CT_MARK", _NXM_REGISTERS, 107),
    Field("eth_type", 16, "hexadecimal", "", "eth_type", "NXM_OF_ETH_TYPE", _OXM_BASIC, 5),
    Field("ip_proto", 8, "decimal", "nw_proto", "nw_proto", "NXM_OF_IP_PROTO", _OXM_BASIC, 10, ETH_TYPE_IPV4),
    *(_register(number) for number in range(8)),
    Field("in_port", 32, "decimal", "in_port", "in_port", "NXM_OF_IN_PORT", _OXM_BASIC, 0),
    Field("eth_src", 48, "mac", "dl_src", "eth_src", "NXM_OF_ETH_SRC", _OXM_BASIC, 4),
    Field("eth_dst", 48, "mac", "dl_dst", "eth_dst", "NXM_OF_ETH_DST", _OXM_BASIC, 3),
    Field("ipv4_src", 32, "ipv4", "nw_src", "ip_src", "NXM_OF_IP_SRC", _OXM_BASIC, 11, ETH_TYPE_IPV4),
    Field("ipv4_dst", 32, "ipv4", "nw_dst", "ip_dst", "NXM_OF_IP_DST", _OXM_BASIC, 12, ETH_TYPE_IPV4),
    Field("ip_frag", 8, "ip_frag", "nw_frag", "", "NXM_NX_IP_FRAG", _NXM_REGISTERS, 26, ETH_TYPE_IPV4),
    Field("arp_spa", 32, "ipv4", "arp_spa", "arp_spa", "NXM_OF_ARP_SPA", _OXM_BASIC, 22, ETH_TYPE_ARP),
    Field("arp_tpa", 32, "ipv4", "arp_tpa", "arp_tpa", "NXM_OF_ARP_TPA", _OXM_BASIC, 23, ETH_TYPE_ARP),
    Field("arp_op", 16, "decimal", "arp_op", "arp_op", "NXM_OF_ARP_OP", _OXM_BASIC, 21, ETH_TYPE_ARP),
    Field("arp_sha", 48, "mac", "arp_sha", "arp_sha", "NXM_NX_ARP_SHA", _OXM_BASIC, 24, ETH_TYPE_ARP),
    Field("arp_tha", 48, "mac", "arp_tha", "arp_tha", "NXM_NX_ARP_THA", _OXM_BASIC, 25, ETH_TYPE_ARP),
    *_transport("tcp", IP_PROTO_TCP, 13),
    *_transport("udp", IP_PROTO_UDP, 15),
    *_transport("sctp", IP_PROTO_SCTP, 17),
    Field("icmp_type", 8, "decimal", "icmp_type", "", "NXM_OF_ICMP_TYPE", _OXM_BASIC, 19, ETH_TYPE_IPV4, IP_PROTO_ICMP),
)
FIELDS = {entry.name: entry for entry in _ALL}
FIELD_ORDER = {entry.name: position for position, entry in enumerate(_ALL)}

# The words that stand for an Ethernet type, and for IPv4 with a protocol, in a printed match.
ETH_TYPE_WORDS = {ETH_TYPE_IPV4: "ip", ETH_TYPE_ARP: "arp"}
IP_PROTO_WORDS = {IP_PROTO_ICMP: "icmp", IP_PROTO_TCP: "tcp", IP_PROTO_UDP: "udp", IP_PROTO_SCTP: "sctp"}

# The flags of ct_state, from bit 0 up (ovs-fields(7)).
CT_STATE_FLAGS = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")


@dataclass(frozen=True)
class Transport:
    """The number and the port fields of a transport protocol."""

    ip_proto: int
    source: str
    destination: str


TRANSPORTS: dict[Protocol, Transport] = {
    "TCP": Transport(IP_PROTO_TCP, "tcp_src", "tcp_dst"),
    "UDP": Transport(IP_PROTO_UDP, "udp_src", "udp_dst"),
    "SCTP": Transport(IP_PROTO_SCTP, "sctp_src", "sctp_dst"),
}
TRANSPORT_BY_IP_PROTO = {transport.ip_proto: transport for transport in TRANSPORTS.values()}


@dataclass(frozen=True)
class Family:
    """The field names that differ between the address families."""

    eth_type: int
    source: str
    destination: str


_IPV4 = Family(ETH_TYPE_IPV4, "ipv4_src", "ipv4_dst")


def family(address: IPAddress | IPNetwork) -> Family:
    """The fields for an address's family.

    Raises NotImplementedError for IPv6: its neighbours are found by ICMPv6, for which there is no responder here.
    """
    if isinstance(address, IPv6Address | IPv6Network):
        raise NotImplementedError(f"no flows for IPv6 ({address})")
    return _IPV4


def value_number(field: Field, value: FieldValue) -> tuple[int, int]:
    """A value as (number, mask), both as wide as the field. Raises ValueError if it does not fit."""
    mask = field.full_mask
    if isinstance(value, int):
        number = value
    elif isinstance(value, tuple):
        number, mask = value
        if not 0 <= mask <= field.full_mask or number & ~mask:
            raise ValueError(f"{field.name}: {number:#x} has bits outside of the mask {mask:#x}")
    elif field.kind == "ct_state" and isinstance(value, str):
        number, mask = _ct_state(value)
    elif isinstance(value, str):
        if field.kind != "mac":
            raise ValueError(f"{field.name} takes no text: {value!r}")
        number = int(value.replace(":", ""), 16)
    elif isinstance(value, IPv4Network):
        number, mask = int(value.network_address), int(value.netmask)
    elif isinstance(value, IPv4Address):
        number = int(value)
    else:
        raise ValueError(f"{field.name} takes no IPv6 address: {value}")
    if not 0 <= number <= field.full_mask:
        raise ValueError(f"{field.name} has {field.bits} bits, {value!r} does not fit")
    return number, mask


def ct_state_text(number: int, mask: int) -> str:
    """A state of connections as ovs-ofctl prints it."""
    return "".join(
        ("+" if number >> bit & 1 else "-") + flag for bit, flag in enumerate(CT_STATE_FLAGS) if mask >> bit & 1
    )


def _ct_state(text: str) -> tuple[int, int]:
    number = mask = 0
    words = re.findall(r"([+-])([a-z]+)", text)
    if not words or "".join(sign + flag for sign, flag in words) != text:
        raise ValueError(f"{text!r} is no state of connections")
    for sign, flag in words:
        bit = 1 << CT_STATE_FLAGS.index(flag)
        mask |= bit
        number |= bit if sign == "+" else 0
    return number, mask


def number_text(field: Field, number: int) -> str:
    """A number as ovs-ofctl prints it for this field."""
    if field.kind == "mac":
        return number.to_bytes(6, "big").hex(":")
    if field.kind == "ipv4":
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return f"{number:#x}" if field.kind == "hexadecimal" and number else str(number)


def text_number(field: Field, text: str) -> int:
    """The number that ``text`` (as printed by ovs-ofctl) means. Raises ValueError if it is none."""
    if field.kind == "mac":
        return int.from_bytes(bytes.fromhex(text.replace(":", "")), "big")
    if field.kind == "ipv4":
        return int(IPv4Address(text))
    return int(text, 0)
