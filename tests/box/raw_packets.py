"""Packets made by hand, for what no program of this machine would send: SCTP, ICMP errors, impossible TCP flags."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

from testbed.network import netns

_CRC32C = 0x82F63B78  # RFC 9260 appendix A: the polynomial of CRC-32C, reflected
_IP_HEADER_BYTES = 20
_TTL = 64


def raw_socket(namespace: str, ip_proto: int, timeout_s: float) -> socket.socket:
    """A socket that sends payloads of a protocol, and receives every such packet that comes in, with its IP header."""
    with netns.entered(namespace):
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW, ip_proto)
    made.settimeout(timeout_s)
    return made


def ip_payload(packet: bytes) -> tuple[IPv4Address, bytes]:
    """Who sent a received packet, and what is in it."""
    return IPv4Address(packet[12:16]), packet[(packet[0] & 0xF) * 4 :]


def internet_checksum(data: bytes) -> int:
    """RFC 1071; 0 over data that has its right checksum in it."""
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_segment(
    source: tuple[IPv4Address, int], destination: tuple[IPv4Address, int], flags: int, sequence: int
) -> bytes:
    """A TCP header without data or options; ``flags`` as in its 14th byte (RFC 9293 section 3.1)."""
    header = struct.pack("!HHIIBBHHH", source[1], destination[1], sequence, 0, 5 << 4, flags, 0xFFFF, 0, 0)
    pseudo = source[0].packed + destination[0].packed + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header))
    return header[:16] + struct.pack("!H", internet_checksum(pseudo + header)) + header[18:]


def fragmentation_needed(mtu: int, source: tuple[IPv4Address, int], destination: tuple[IPv4Address, int]) -> bytes:
    """The ICMP message that a router with a next link of ``mtu`` bytes sends about a UDP datagram (RFC 1191)."""
    udp = struct.pack("!HHHH", source[1], destination[1], 1400, 0)
    quoted = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        _IP_HEADER_BYTES + 1400,
        0,
        0x4000,  # do not fragment
        _TTL,
        socket.IPPROTO_UDP,
        0,
        source[0].packed,
        destination[0].packed,
    )
    quoted = quoted[:10] + struct.pack("!H", internet_checksum(quoted)) + quoted[12:]
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted + udp
    return message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]


def sctp_packet(source_port: int, destination_port: int, tag: int, chunk: bytes) -> bytes:
    """An SCTP packet with one chunk and its right checksum (RFC 9260 section 3)."""
    header = struct.pack("!HHI", source_port, destination_port, tag)
    checksum = crc32c(header + bytes(4) + chunk)
    return header + struct.pack("<I", checksum) + chunk


def sctp_init(chunk_type: int, tag: int) -> bytes:
    """An INIT (1) or INIT ACK (2) chunk: tag, window, streams, first sequence number; no parameters."""
    return struct.pack("!BBHIIHHI", chunk_type, 0, 20, tag, 0xFFFF, 1, 1, 1)


def sctp_is_intact(packet: bytes) -> bool:
    """Whether an SCTP packet's checksum is right."""
    return crc32c(packet[:8] + bytes(4) + packet[12:]) == int.from_bytes(packet[8:12], "little")


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit: packets here are short."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (_CRC32C if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF
