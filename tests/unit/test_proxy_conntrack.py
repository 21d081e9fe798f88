"""Which UDP connections are forgotten after a change, and how conntrack's messages are read."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Address

from testbed.proxy.conntrack import Connection, is_to, read_connection, udp_fronts
from tests.unit.proxy_states import NODES, port

_DNS = replace(
    port("dns", "10.96.0.10", "10.244.0.2:53", "10.244.1.2:53", number=53, protocol="UDP"),
    node_port=30053,
    load_balancer_ip=IPv4Address("198.18.0.1"),
)


def _connection(to: str, answered_by: str, ip_proto: int = socket.IPPROTO_UDP) -> Connection:
    ends = []
    for text in (to, answered_by):
        address, _, number = text.partition(":")
        ends.append((IPv4Address(address), int(number)))
    return Connection(ip_proto, ends[0], ends[1], ends[0] != ends[1], b"")


def test_connections_to_an_endpoint_that_is_gone_are_stale() -> None:
    now = replace(_DNS, endpoints=_DNS.endpoints[:1])
    fronts = udp_fronts(NODES[0], [_DNS], [now])
    for address in ("10.96.0.10:53", "198.18.0.1:53", "192.168.1.11:30053", "10.244.0.1:30053"):
        assert fronts.is_stale(_connection(address, "10.244.1.2:53")), address
        assert not fronts.is_stale(_connection(address, "10.244.0.2:53")), address


def test_nothing_else_is_stale() -> None:
    fronts = udp_fronts(NODES[0], [_DNS], [replace(_DNS, endpoints=())])
    assert not fronts.is_stale(_connection("10.96.0.11:53", "10.244.1.2:53")), "another Service"
    assert not fronts.is_stale(_connection("192.168.1.12:30053", "10.244.1.2:53")), "another node's port"
    assert not fronts.is_stale(_connection("10.96.0.10:53", "10.244.1.2:53", socket.IPPROTO_TCP))


def test_connections_from_before_the_service_are_stale() -> None:
    fronts = udp_fronts(NODES[0], [], [_DNS])
    assert fronts.is_stale(_connection("10.96.0.10:53", "10.96.0.10:53"))


def test_connections_to_a_service_that_is_gone_are_stale() -> None:
    fronts = udp_fronts(NODES[0], [_DNS], [])
    assert fronts.is_stale(_connection("10.96.0.10:53", "10.244.0.2:53"))


def test_an_address_that_another_service_has_now_is_its() -> None:
    heir = replace(_DNS, name="heir", node_port=None, load_balancer_ip=None)
    fronts = udp_fronts(NODES[0], [_DNS], [heir])
    assert not fronts.is_stale(_connection("10.96.0.10:53", "10.244.0.2:53"))
    assert fronts.is_stale(_connection("192.168.1.11:30053", "10.244.0.2:53"))


def test_tcp_services_need_no_look() -> None:
    assert not udp_fronts(NODES[0], [port("web", "10.96.0.20", "10.244.0.2:80")], [])


def test_translated_tcp_connections_to_an_endpoint_that_has_gone_are_found() -> None:
    gone = {(IPv4Address("10.244.1.2"), 80)}
    assert is_to(gone, _connection("10.96.0.20:80", "10.244.1.2:80", socket.IPPROTO_TCP))
    assert not is_to(gone, _connection("10.96.0.20:80", "10.244.1.2:81", socket.IPPROTO_TCP)), "another program's"
    assert not is_to(gone, _connection("10.244.1.2:80", "10.244.1.2:80", socket.IPPROTO_TCP)), "by no Service"
    assert not is_to(gone, _connection("10.96.0.20:80", "10.244.1.2:80")), "UDP"


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _tuple(kind: int, source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    addresses = _attribute(1, IPv4Address(source).packed) + _attribute(2, IPv4Address(destination).packed)
    ports = _attribute(1, b"\x11") + _attribute(2, struct.pack(">H", source_port))
    ports += _attribute(3, struct.pack(">H", destination_port))
    return _attribute(0x8000 | kind, _attribute(0x8000 | 1, addresses) + _attribute(0x8000 | 2, ports))


def test_reading_a_connection() -> None:
    original = _tuple(1, "10.244.0.5", "10.96.0.10", 4000, 53)
    reply = _tuple(2, "10.244.1.2", "10.244.0.5", 5353, 4000)
    found = read_connection(original + reply + _attribute(3, struct.pack(">I", 0x28)))
    assert found == Connection(17, (IPv4Address("10.96.0.10"), 53), (IPv4Address("10.244.1.2"), 5353), True, original)
