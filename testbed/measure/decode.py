"""Decode captured Ethernet frames as far as evidence needs: Ethernet, IPv4, UDP and TCP, and what is inside VXLAN."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.cluster.values import VXLAN_UDP_PORT

_ETHERNET = struct.Struct("!6s6sH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
# RFC 9293 section 3.1, as far as the data offset.
_TCP = struct.Struct("!HHIIB7x")
# RFC 7348 section 5: flags (8 bits, I = 0x08), reserved (24), VNI (24), reserved (8).
_VXLAN = struct.Struct("!B3sI")
_VNI_IS_VALID = 0x08

ETHERTYPE_IPV4 = 0x0800
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
_FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True)
class Packet:
    """One IPv4 packet in its frame. Ports are None for other protocols and for later fragments.

    ``inner`` is the packet that a VXLAN packet carries, and ``vni`` its network identifier.
    """

    eth_src: str
    eth_dst: str
    ipv4_src: IPv4Address
    ipv4_dst: IPv4Address
    ttl: int
    protocol: int
    udp_src: int | None = None
    udp_dst: int | None = None
    tcp_src: int | None = None
    tcp_dst: int | None = None
    payload: bytes = b""
    vni: int | None = None
    inner: Packet | None = None

    @property
    def innermost(self) -> Packet:
        """The packet as the sender wrote it: what is inside a tunnel, or the packet itself."""
        return self if self.inner is None else self.inner.innermost

    @property
    def destination_port(self) -> int | None:
        """The port that the packet goes to, of either protocol."""
        return self.udp_dst if self.udp_dst is not None else self.tcp_dst

    @property
    def is_vxlan(self) -> bool:
        return self.udp_dst == VXLAN_UDP_PORT


def decode(frame: bytes) -> Packet | None:
    """Read an Ethernet frame; None when it is not IPv4 (RFC 791) or is cut off. A frame may end in padding."""
    if len(frame) < _ETHERNET.size:
        return None
    eth_dst, eth_src, ethertype = _ETHERNET.unpack_from(frame)
    packet = frame[_ETHERNET.size :]
    if ethertype != ETHERTYPE_IPV4 or len(packet) < _IPV4.size:
        return None
    version, _, length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
    header_bytes = (version & 0x0F) * 4
    if version >> 4 != 4 or not _IPV4.size <= header_bytes <= length <= len(packet):
        return None
    addresses = (_mac(eth_src), _mac(eth_dst), IPv4Address(source), IPv4Address(destination))
    segment = packet[header_bytes:length]
    first = not fragment & _FRAGMENT_OFFSET
    if protocol == PROTOCOL_TCP and first and len(segment) >= _TCP.size:
        tcp_src, tcp_dst, _, _, offset = _TCP.unpack_from(segment)
        return Packet(*addresses, ttl, protocol, tcp_src=tcp_src, tcp_dst=tcp_dst, payload=segment[(offset >> 4) * 4 :])
    if protocol != PROTOCOL_UDP or not first or len(segment) < _UDP.size:
        return Packet(*addresses, ttl, protocol, payload=segment)
    udp_src, udp_dst, _, _ = _UDP.unpack_from(segment)
    payload = segment[_UDP.size :]
    vni, inner = _vxlan(payload) if udp_dst == VXLAN_UDP_PORT else (None, None)
    return Packet(*addresses, ttl, protocol, udp_src, udp_dst, payload=payload, vni=vni, inner=inner)


def _vxlan(payload: bytes) -> tuple[int | None, Packet | None]:
    if len(payload) < _VXLAN.size:
        return None, None
    flags, _, vni_and_reserved = _VXLAN.unpack_from(payload)
    if not flags & _VNI_IS_VALID:
        return None, None
    return vni_and_reserved >> 8, decode(payload[_VXLAN.size :])


def _mac(octets: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in octets)
