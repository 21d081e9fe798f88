"""Counters of links and bridges, read and compared."""

from __future__ import annotations

from testbed.network.traffic import Conversation, _between, _Counters, _device_octets, _flow_packets, _service_pairs

DEVICES = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0
n1-eth0: 1200      12    0    0    0     0          0         0      300       3    0    0    0     0       0
"""

# As `ovs-appctl dpctl/dump-flows` of Open vSwitch 3.1 prints them.
FLOWS = (
    "flow-dump from the main thread:\n"
    "ct_state(-trk),recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth(src=0e:01:00:00:00:01,dst=0e:01:00:00:00:02),"
    "eth_type(0x0800),ipv4(src=10.244.0.3,dst=10.244.1.2,proto=6,frag=no), packets:11, bytes:992, used:0.231s, "
    "flags:SFP., actions:set(eth(src=0a:58:0a:f4:01:01,dst=0a:58:0a:f4:01:02)),4\n"
    "ct_state(-trk),recirc_id(0),in_port(5),packet_type(ns=0,id=0),eth_type(0x0800),"
    "ipv4(src=10.244.0.3,dst=10.96.1.1/255.240.0.0,frag=no), packets:29, bytes:2591, used:0.230s, "
    "actions:ct(zone=1,nat),recirc(0x2)\n"
    "recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth_type(0x0806),arp(sip=10.244.0.2,tip=10.244.0.1,op=1), "
    "packets:0, bytes:0, used:never, actions:userspace(pid=0,slow_path(action))\n"
)
CONNECTIONS = (
    "tcp,orig=(src=10.244.0.3,dst=10.96.1.1,sport=40000,dport=8000),reply=(src=10.244.1.2,dst=10.244.0.3,sport=8000,"
    "dport=40000),zone=1,protoinfo=(state=TIME_WAIT)\n"
    "udp,orig=(src=10.244.0.3,dst=10.244.0.2,sport=40000,dport=53),reply=(src=10.244.0.2,dst=10.244.0.3,sport=53,"
    "dport=40000),zone=1\n"
)


def test_octets_of_both_directions_are_added() -> None:
    assert dict(_device_octets(DEVICES)) == {"lo": 0, "n1-eth0": 1500}


def test_flows_between_two_addresses_are_conversations_those_to_subnets_are_not() -> None:
    assert list(_flow_packets(FLOWS)) == [(("10.244.0.3", "10.244.1.2"), 11)]


def test_connections_that_were_translated_name_the_service() -> None:
    assert _service_pairs(CONNECTIONS) == {("10.244.0.3", "10.244.1.2"): "10.96.1.1"}


def test_rates_are_differences_by_the_time_between() -> None:
    pair, quiet = ("10.244.0.3", "10.244.1.2"), ("10.244.0.4", "10.244.1.2")
    before = _Counters(10.0, (1000, None, 500), {pair: 10, quiet: 7}, {})
    now = _Counters(12.0, (3000, 50, None), {pair: 30, quiet: 7}, {pair: "10.96.1.1"})
    traffic = _between(before, now)
    assert traffic.links == (8000.0, None, None)
    assert traffic.conversations == (Conversation(*pair, "10.96.1.1", 10.0),)


def test_a_first_look_and_one_after_a_long_time_tell_no_rates() -> None:
    pair = ("10.244.0.3", "10.244.1.2")
    now = _Counters(100.0, (3000,), {pair: 30}, {})
    for before in (None, _Counters(10.0, (1000,), {pair: 10}, {})):
        traffic = _between(before, now)
        assert traffic.links == (None,)
        assert traffic.conversations == (Conversation(*pair, None, None),)


def test_a_bridge_that_was_started_again_counts_from_nothing() -> None:
    before, now = _Counters(1.0, (9000,), {}, {}), _Counters(2.0, (10,), {}, {})
    assert _between(before, now).links == (0.0,)
