"""Connections as a datapath and a kernel really printed them, and what a packet finds among them."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.trace.conntrack import Connections, Entry, parse_connections, parse_kernel_connections
from testbed.trace.values import FiveTuple
from tests.unit.test_trace_ofproto import golden


def tcp(source: str, source_port: int, destination: str, destination_port: int) -> FiveTuple:
    return FiveTuple("tcp", IPv4Address(source), source_port, IPv4Address(destination), destination_port)


def test_the_datapaths_connections() -> None:
    entries = parse_connections(golden("dpctl_conntrack.txt"))
    assert entries == [
        Entry(1, tcp("10.244.0.2", 40001, "10.96.1.1", 80), tcp("10.244.1.2", 8000, "10.244.0.2", 40001)),
        Entry(1, tcp("10.244.0.1", 40002, "10.96.1.1", 80), tcp("10.244.1.3", 8000, "10.244.0.1", 40002), mark=1),
        Entry(2, tcp("10.244.0.1", 40002, "10.244.1.3", 8000), tcp("10.244.1.3", 8000, "10.244.0.254", 40002)),
    ]
    assert [(entry.destination_translated, entry.source_translated) for entry in entries] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_the_kernels_connections() -> None:
    assert parse_kernel_connections(golden("conntrack.txt")) == [
        Entry(0, tcp("10.244.0.2", 40003, "10.96.1.1", 80), tcp("10.244.0.3", 8000, "10.244.0.2", 40003))
    ]


def test_connections_that_are_not_followed_are_left_out() -> None:
    other = "sctp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=2),reply=(src=10.0.0.2,dst=10.0.0.1,sport=2,dport=1)\n"
    other += "tcp,orig=(src=fe80::1,dst=fe80::2,sport=1,dport=2),reply=(src=fe80::2,dst=fe80::1,sport=2,dport=1)\n"
    assert parse_connections(other) == []


def test_a_packet_finds_its_connection_in_its_zone_and_direction() -> None:
    known = Connections(parse_connections(golden("dpctl_conntrack.txt")))
    request = tcp("10.244.0.2", 40001, "10.96.1.1", 80)
    found = known.look_up(1, request)
    assert not found.is_reply
    assert found.translated(request) == tcp("10.244.0.2", 40001, "10.244.1.2", 8000)
    assert found.state(translated=True) == "est|trk|dnat"
    reply = tcp("10.244.1.2", 8000, "10.244.0.2", 40001)
    found = known.look_up(1, reply)
    assert found.is_reply
    assert found.translated(reply) == request.reversed
    assert found.state(translated=False) == "est|rpl|trk"
    for zone, stranger in ((2, request), (1, tcp("10.244.0.2", 40009, "10.96.1.1", 80))):
        found = known.look_up(zone, stranger)
        assert found.entry is None
        assert found.translated(stranger) == stranger
        assert found.state(translated=False) == "new|trk"


def test_a_committed_connection_is_found_by_its_reply() -> None:
    known = Connections()
    before, after = tcp("10.0.0.1", 1000, "10.96.0.1", 80), tcp("10.9.9.9", 1000, "10.0.0.2", 8080)
    known.commit(1, before, after, mark=1)
    reply = after.reversed
    assert known.look_up(1, reply).translated(reply) == before.reversed
    known.commit(1, before, after, mark=3)
    assert [entry.mark for entry in known.entries] == [3]
