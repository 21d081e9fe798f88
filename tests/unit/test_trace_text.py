"""A trace as people and programs see it."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

from testbed.trace.text import trace_as_data, trace_as_text
from testbed.trace.values import End, FiveTuple, Hop, Packet, Step, Trace, Way

_TUPLE = FiveTuple("tcp", IPv4Address("10.244.0.2"), 45678, IPv4Address("10.244.1.2"), 80)
_PACKET = Packet(_TUPLE, eth_src="0a:58:0a:f4:00:02", eth_dst="0a:58:0a:f4:00:01")
_OUTER = FiveTuple("udp", IPv4Address("192.168.1.11"), 0, IPv4Address("192.168.1.12"), 4789)


def flow(table: str, priority: int | None, match: str | None, subject: str, text: str) -> Step:
    data = {"table": table, "priority": priority, "match": match, "cookie": "0x1", "subject": subject, "drops": False}
    return Step("flow", text, data)


def a_trace() -> Trace:
    hops = (
        Hop("pod a", Packet(_TUPLE), (Step("route", "default via 10.244.0.1 dev eth0, MTU 1450"),)),
        Hop(
            "bridge of n1, in by a-9efb361",
            _PACKET,
            (
                flow("Classifier", 100, "in_port=a-9efb361", "pod a", "came from a pod"),
                Step("conntrack", "zone 1: a new connection"),
                flow("L3Forwarding", None, None, "", "NO FLOW MATCHES: dropped"),
            ),
        ),
        Hop("node n1", Packet(_OUTER, inner=_PACKET, vni=1), ()),
    )
    end = End("dropped", "bridge of n1", "table L3Forwarding: no flow matches", _PACKET)
    return Trace("a", "b:80", Way(hops, (end,)), None, ("The client's port is taken to be 45678.",))


def test_the_text_lines_up() -> None:
    assert trace_as_text(a_trace()) == (
        "a -> b:80\n"
        "\n"
        "REQUEST\n"
        " 1  pod a   [tcp 10.244.0.2:45678 -> 10.244.1.2:80, TTL 64]\n"
        "    route      default via 10.244.0.1 dev eth0, MTU 1450\n"
        " 2  bridge of n1, in by a-9efb361   [tcp 10.244.0.2:45678 -> 10.244.1.2:80, TTL 64]\n"
        "    flow       Classifier     100  in_port=a-9efb361  pod a  came from a pod\n"
        "    conntrack  zone 1: a new connection\n"
        "    flow       L3Forwarding     -  -                  -      NO FLOW MATCHES: dropped\n"
        " 3  node n1   [udp 192.168.1.11 -> 192.168.1.12:4789, TTL 64 around tcp 10.244.0.2:45678 -> 10.244.1.2:80]\n"
        "=>  DROPPED at bridge of n1: table L3Forwarding: no flow matches\n"
        "\n"
        "Assumed\n"
        "  - The client's port is taken to be 45678.\n"
    )


def test_a_refusal_is_told_in_both_directions() -> None:
    refused = End("delivered", "pod b", "nothing listens on TCP port 80", _PACKET)
    back = End("delivered", "pod a", "", _PACKET)
    hop = (Hop("pod a", Packet(_TUPLE), ()),)
    text = trace_as_text(Trace("a", "b:80", Way(hop, (refused,)), Way(hop, (back,))))
    assert "=>  REFUSED by pod b: nothing listens on TCP port 80\n" in text
    assert text.endswith("=>  DELIVERED to pod a: that refusal\n")
    answered = trace_as_text(Trace("a", "b:80", Way(hop, (back,)), Way(hop, (back,))))
    assert answered.count("=>  DELIVERED to pod a\n") == 2


def test_the_data_hold_every_fact() -> None:
    data = json.loads(json.dumps(trace_as_data(a_trace())))
    assert (data["format"], data["from"], data["to"], data["succeeded"]) == ("testbed-trace/v1", "a", "b:80", False)
    assert data["reply"] is None
    hop = data["request"]["hops"][1]
    assert hop["packet"] == {
        "protocol": "tcp",
        "source": "10.244.0.2",
        "source_port": 45678,
        "destination": "10.244.1.2",
        "destination_port": 80,
        "ttl": 64,
        "eth_src": "0a:58:0a:f4:00:02",
        "eth_dst": "0a:58:0a:f4:00:01",
    }
    assert hop["steps"][0]["kind"] == "flow"
    assert hop["steps"][0]["table"] == "Classifier"
    assert data["request"]["hops"][2]["packet"]["inner"] == hop["packet"]
    assert data["request"]["hops"][2]["packet"]["vni"] == 1
    assert data["request"]["ends"][0]["fate"] == "dropped"
