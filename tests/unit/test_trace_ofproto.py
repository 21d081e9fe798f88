"""What Open vSwitch 3.1 really printed (tests/golden/trace), read into values."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from testbed.trace.kernel import parse_of_ports
from testbed.trace.ofproto import (
    ConntrackAction,
    UnreadableTrace,
    fields_packet,
    fields_text,
    packet_fields,
    parse_conntrack,
    parse_fields,
    parse_trace,
)
from testbed.trace.values import FiveTuple, Packet

GOLDEN = Path(__file__).parents[1] / "golden" / "trace"


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


def test_a_packet_that_leaves() -> None:
    (section,) = parse_trace(golden("pod_to_pod.txt"))
    assert [(table.number, table.priority, table.match) for table in section.tables] == [
        (0, 100, "in_port=10"),
        (1, 100, "ip,in_port=10,dl_src=0a:58:0a:f4:00:02,nw_src=10.244.0.2"),
        (3, 10, "ip"),
        (4, 10, "ip"),
        (5, 100, "ip,reg0=0x4,nw_dst=10.244.0.0/16"),
        (14, 200, "ip,nw_dst=10.244.1.0/24"),
        (15, 100, ""),
    ]
    assert section.tables[0].cookie == 0x771390024055DCC3
    assert [action.text for action in section.tables[5].actions] == [
        "set_field:0e:01:00:00:00:01->eth_src",
        "set_field:0e:01:00:00:00:02->eth_dst",
        "dec_ttl",
        "set_field:0x1->reg1",
        "goto_table:15",
    ]
    assert section.tables[6].actions[0].remarks == ("output port is 1",)
    assert not any(table.drops for table in section.tables)
    ports = parse_of_ports(golden("dpif_show.txt"))
    assert [ports[number] for number in section.output_numbers] == [(1, "vxlan0")]
    assert section.final["nw_ttl"] == "63"
    assert section.conntrack is None
    assert not section.wants_hash


def test_a_packet_that_no_flow_takes() -> None:
    (section,) = parse_trace(golden("spoofed.txt"))
    last = section.tables[-1]
    assert (last.number, last.matched, last.drops) == (1, False, True)
    assert section.output_numbers == ()


def test_a_packet_that_a_flow_drops() -> None:
    (section,) = parse_trace(golden("nobody.txt"))
    last = section.tables[-1]
    assert (last.number, last.priority, last.match, last.drops) == (14, 200, "ip,nw_dst=10.244.0.0/24", True)


def test_a_packet_whose_ttl_is_used_up() -> None:
    (section,) = parse_trace(golden("ttl_expired.txt"))
    assert section.output_numbers == ()
    (action,) = (action for action in section.tables[-1].actions if action.troubles)
    assert (action.text, action.troubles) == ("dec_ttl", ("IPv4 decrement TTL exception",))


def test_an_answered_arp_request() -> None:
    (section,) = parse_trace(golden("arp.txt"))
    assert section.final["arp_op"] == "2"
    assert section.final["arp_sha"] == "0a:58:0a:f4:00:01"
    ports = parse_of_ports(golden("dpif_show.txt"))
    assert [ports[number][0] for number in section.output_numbers] == [10]


def test_a_packet_that_goes_to_connection_tracking_and_then_waits_for_a_hash() -> None:
    first, second = parse_trace(golden("service.txt"))
    assert first.conntrack == ConntrackAction(zone=1, table=7, commit=False, nat="")
    assert first.output_numbers == ()
    assert second.flow["ct_state"] == "new|trk"
    assert second.flow["reg2"] == "0x2"
    assert second.wants_hash
    assert second.tables[-1].actions[-1].text == "group:2"


def test_the_bucket_that_was_chosen() -> None:
    before, after = parse_trace(golden("service_bucket.txt"))
    chosen = before.tables[-1]
    assert [action.text for action in chosen.actions] == ["group:2"]
    assert chosen.actions[0].remarks == ("using bucket 2",)
    assert chosen.bucket_actions[0].text.startswith("ct(commit,table=13,zone=1,nat(dst=10.244.1.3:8000)")
    assert before.conntrack == ConntrackAction(zone=1, table=13, commit=True, nat="dst=10.244.1.3:8000")
    translated = fields_packet(after.flow, packet()).tuple
    assert (translated.destination, translated.destination_port) == (IPv4Address("10.244.1.3"), 8000)
    assert after.errors


def test_a_table_that_was_only_looked_into_is_deeper() -> None:
    (section,) = parse_trace(golden("service_affinity.txt"))
    looked_into = next(table for table in section.tables if table.number == 9)
    assert (looked_into.depth, looked_into.matched) == (1, False)
    # What a trace itself does not do is no trouble of the packet's.
    assert not any(action.troubles for table in section.tables for action in table.actions)


@pytest.mark.parametrize("text", ["", "ovs-vswitchd: no such bridge", 'Flow: tcp\n\nbridge("br")\n'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UnreadableTrace):
        parse_trace(text)


def test_a_flow_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UnreadableTrace, match="table 3: something else"):
        parse_trace('Flow: tcp\n\nbridge("br")\n-----\n 3. something else\n\nFinal flow: unchanged\n')


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("ct(table=7,zone=1,nat)", ConntrackAction(1, 7, False, "")),
        ("ct(commit,zone=2,nat(src=10.0.0.1),table=14)", ConntrackAction(2, 14, True, "src=10.0.0.1")),
        ("ct(commit,zone=3)", ConntrackAction(3, None, True, None)),
        ("ct(commit,exec(move:NXM_NX_REG3[]->NXM_NX_CT_MARK[]))", ConntrackAction(0, None, True, None)),
        ("ct_clear", None),
        ("group:2", None),
    ],
)
def test_connection_tracking_actions(text: str, action: ConntrackAction | None) -> None:
    assert parse_conntrack(text) == action


def test_a_zone_from_a_register_is_refused() -> None:
    with pytest.raises(UnreadableTrace, match="zone"):
        parse_conntrack("ct(zone=NXM_NX_REG6[0..15])")


def packet(protocol: str = "tcp") -> Packet:
    known = FiveTuple(protocol, IPv4Address("10.244.0.2"), 40000, IPv4Address("10.96.1.1"), 80)  # type: ignore[arg-type]
    return Packet(known, ttl=64, eth_src="0a:58:0a:f4:00:02", eth_dst="0a:58:0a:f4:00:01")


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_a_packet_becomes_fields_and_back(protocol: str) -> None:
    sent = packet(protocol)
    fields = packet_fields(sent, 10)
    assert fields["in_port"] == "10"
    assert fields_packet(fields, sent) == sent
    assert parse_fields(fields_text(fields)).keys() == {
        {"tp_src": "udp_src", "tp_dst": "udp_dst"}.get(name, name) if protocol == "udp" else name for name in fields
    }


def test_an_echo_reply_is_told_from_a_request() -> None:
    known = packet("icmp")
    reply = Packet(known.tuple, eth_src=known.eth_src, eth_dst=known.eth_dst, is_reply=True)
    assert packet_fields(known, 1)["icmp_type"] == "8"
    assert packet_fields(reply, 1)["icmp_type"] == "0"
