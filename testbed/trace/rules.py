"""Which policy rule sent a packet to a routing table (ip-rule(8)). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Any

from testbed.trace.values import Packet

# What every Linux has; only other rules are worth a word.
_DEFAULT = {"all"}


@dataclass(frozen=True)
class Rule:
    """A rule in words."""

    priority: int
    text: str


def deciding_rule(rules: Sequence[Mapping[str, Any]], packet: Packet, table: str, iif: str) -> Rule | None:
    """The first rule that applies to a packet and leads to ``table``; None if it is one that applies to all packets."""
    for rule in rules:
        if str(rule.get("table")) == table and applies(rule, packet, iif):
            conditions = _conditions(rule)
            if not conditions:
                return None
            return Rule(rule["priority"], f"rule {rule['priority']}: {' '.join(conditions)} lookup {table}")
    return None


def applies(rule: Mapping[str, Any], packet: Packet, iif: str) -> bool:
    """Whether a packet meets all of a rule's conditions."""
    known = packet.tuple
    if not _within(rule, "src", known.source) or not _within(rule, "dst", known.destination):
        return False
    if "iif" in rule and rule["iif"] != (iif or "lo"):
        return False
    if "ipproto" in rule and rule["ipproto"] != known.protocol:
        return False
    if "fwmark" in rule:
        mask = int(str(rule.get("fwmask", "0xffffffff")), 0)
        if packet.mark & mask != int(str(rule["fwmark"]), 0):
            return False
    return _in_range(rule, "sport", known.source_port) and _in_range(rule, "dport", known.destination_port)


def _within(rule: Mapping[str, Any], end: str, address: IPv4Address) -> bool:
    text = rule.get(end, "all")
    if text in _DEFAULT:
        return True
    return address in ip_network(f"{text}/{rule.get(f'{end}len', 32)}")


def _in_range(rule: Mapping[str, Any], end: str, number: int) -> bool:
    if end in rule:
        return int(rule[end]) == number
    if f"{end}_start" in rule:
        return int(rule[f"{end}_start"]) <= number <= int(rule[f"{end}_end"])
    return True


def _conditions(rule: Mapping[str, Any]) -> list[str]:
    said = []
    for end, word in (("src", "from"), ("dst", "to")):
        if rule.get(end, "all") not in _DEFAULT:
            length = rule.get(f"{end}len")
            said.append(f"{word} {rule[end]}{f'/{length}' if length is not None else ''}")
    for name in ("iif", "fwmark", "ipproto", "sport", "dport"):
        if name in rule:
            said.append(f"{name} {rule[name]}")
        elif f"{name}_start" in rule:
            said.append(f"{name} {rule[f'{name}_start']}-{rule[f'{name}_end']}")
    return said
