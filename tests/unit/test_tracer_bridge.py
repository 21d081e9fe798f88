"""The tracer does with a packet what Open vSwitch does, and refuses what it cannot follow."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from controllers.pipeline import BridgeTracer, Flow, TraceError
from controllers.pipeline.cluster_tracer import ip_packet
from controllers.pipeline.fields import ETH_TYPE_IPV4
from controllers.pipeline.flow import Action, Actions, DecTTL, FieldMatch, GotoTable, OutputField, match, set_field
from controllers.pipeline.tables import CLASSIFIER, CONNTRACK, L3_FORWARDING, OUTPUT, REG_SOURCE, REG_TARGET, UN_SNAT

PACKET = ip_packet("0a:00:00:00:00:01", "0a:00:00:00:00:02", IPv4Address("10.0.0.1"), IPv4Address("10.0.1.2"))
IP = match(eth_type=ETH_TYPE_IPV4)
ENTER = (
    Flow(CLASSIFIER, 1, match(in_port=1), (set_field(REG_SOURCE, 1), GotoTable("UnSNAT")), 1),
    Flow(UN_SNAT, 1, (), (GotoTable("Conntrack"),), 1),
    Flow(CONNTRACK, 1, (), (GotoTable("L3Forwarding"),), 1),
)
LEAVE = Flow(OUTPUT, 1, (), (OutputField(REG_TARGET),), 1)


def to(of_port: int, *first: Action) -> Actions:
    return (*first, set_field(REG_TARGET, of_port), GotoTable("Output"))


def destination(text: str) -> tuple[FieldMatch, ...]:
    return match(eth_type=ETH_TYPE_IPV4, ipv4_dst=IPv4Network(text))


def test_the_flow_of_the_highest_priority_decides() -> None:
    tracer = BridgeTracer(
        [
            *ENTER,
            LEAVE,
            Flow(L3_FORWARDING, 10, destination("10.0.0.0/8"), to(5), 1),
            Flow(L3_FORWARDING, 30, destination("10.0.1.0/24"), to(6), 1),
            Flow(L3_FORWARDING, 40, destination("10.0.2.0/24"), to(7), 1),
        ]
    )
    result = tracer.trace(1, PACKET)
    assert result.outputs == ((6, PACKET),)
    assert [step.table.name for step in result.steps] == ["Classifier", "UnSNAT", "Conntrack", "L3Forwarding", "Output"]


def test_a_miss_and_a_flow_without_actions_drop_and_say_so() -> None:
    assert BridgeTracer(ENTER).trace(1, PACKET).drop_reason == "L3Forwarding: no flow matches"
    assert BridgeTracer(ENTER).trace(2, PACKET).drop_reason == "Classifier: no flow matches"
    dropping = BridgeTracer([*ENTER, Flow(L3_FORWARDING, 1, IP, (), 1)]).trace(1, PACKET)
    assert dropping.drop_reason == "L3Forwarding: a flow drops it"
    assert dropping.outputs == ()


def test_a_packet_never_leaves_by_the_port_it_came_from() -> None:
    result = BridgeTracer([*ENTER, LEAVE, Flow(L3_FORWARDING, 1, IP, to(1), 1)]).trace(1, PACKET)
    assert result.outputs == ()
    assert "the port it came from" in result.drop_reason


@pytest.mark.parametrize(("ttl", "leaves"), [(2, True), (1, False), (0, False)])
def test_a_packet_whose_ttl_runs_out_stops(ttl: int, leaves: bool) -> None:
    tracer = BridgeTracer([*ENTER, LEAVE, Flow(L3_FORWARDING, 1, IP, to(5, DecTTL()), 1)])
    result = tracer.trace(1, {**PACKET, "ip_ttl": ttl})
    assert bool(result.outputs) is leaves
    if leaves:
        assert result.outputs[0][1]["ip_ttl"] == ttl - 1


def test_two_flows_of_one_priority_that_both_match_are_an_error() -> None:
    flows = [*ENTER, Flow(L3_FORWARDING, 1, IP, to(5), 1), Flow(L3_FORWARDING, 1, destination("10.0.0.0/8"), to(6), 1)]
    with pytest.raises(TraceError, match="two flows of priority 1 match"):
        BridgeTracer(flows).trace(1, PACKET)


def test_a_header_it_does_not_know_is_an_error() -> None:
    with pytest.raises(TraceError, match="vlan_vid"):
        BridgeTracer(ENTER).trace(1, {**PACKET, "vlan_vid": 80})


def test_a_match_it_cannot_read_is_an_error() -> None:
    foreign = Flow(CLASSIFIER, 1, (), (), 1)
    object.__setattr__(foreign, "match", (FieldMatch("vlan_vid", 1, 1),))  # no table allows it, so it cannot be built
    with pytest.raises(TraceError, match="vlan_vid"):
        BridgeTracer([foreign])


def test_an_action_it_cannot_follow_is_an_error() -> None:
    @dataclass(frozen=True)
    class PushVlan:
        pass

    foreign = Flow(CLASSIFIER, 1, (), (), 1)
    object.__setattr__(foreign, "actions", (cast(Action, PushVlan()),))
    with pytest.raises(TraceError, match="PushVlan"):
        BridgeTracer([foreign]).trace(1, PACKET)
