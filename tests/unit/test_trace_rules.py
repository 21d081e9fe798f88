"""Which policy rule applies: the rules of a real node, and others in the form that iproute2 prints."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any

import pytest

from testbed.trace.rules import applies, deciding_rule
from testbed.trace.values import FiveTuple, Packet
from tests.unit.test_trace_ofproto import golden

RULES = json.loads(golden("ip_rules.json"))


def packet(destination: str, number: int, mark: int = 0, source: str = "192.168.1.99") -> Packet:
    return Packet(FiveTuple("tcp", IPv4Address(source), 40000, IPv4Address(destination), number), mark=mark)


@pytest.mark.parametrize(
    ("destination", "number", "iif", "table", "priority"),
    [
        ("192.168.1.11", 30080, "n1-eth0", "100", 5),
        ("192.168.1.11", 80, "gw", "local", 4),
        ("192.168.1.11", 80, "n1-eth0", "local", None),  # by the rule that every Linux has
        ("192.168.1.12", 30080, "n1-eth0", "main", None),
    ],
)
def test_the_rules_of_a_node(destination: str, number: int, iif: str, table: str, priority: int | None) -> None:
    rule = deciding_rule(RULES, packet(destination, number), table, iif)
    assert (rule.priority if rule else None) == priority


def test_a_rule_in_words() -> None:
    rule = deciding_rule(RULES, packet("192.168.1.11", 30080), "100", "n1-eth0")
    assert rule is not None
    assert rule.text == "rule 5: to 192.168.1.11 ipproto tcp dport 30000-32767 lookup 100"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"src": "192.168.1.0", "srclen": 24}, True),
        ({"src": "192.168.2.0", "srclen": 24}, False),
        ({"dst": "10.0.0.5"}, True),
        ({"dst": "10.0.0.6"}, False),
        ({"fwmark": "0x4000", "fwmask": "0x4000"}, True),
        ({"fwmark": "0x4000"}, False),
        ({"sport": 40000, "dport": 80}, True),
        ({"dport": 81}, False),
        ({"ipproto": "udp"}, False),
        ({"iif": "eth0"}, True),
        ({"iif": "lo"}, False),
    ],
)
def test_conditions(rule: dict[str, Any], expected: bool) -> None:
    met = packet("10.0.0.5", 80, mark=0x4001)
    assert applies({"src": "all", "table": "7", "priority": 1, **rule}, met, "eth0") is expected
