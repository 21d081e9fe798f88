"""What the rules of a real node do with packets: the same questions to the rules of both kernel proxies.

The rule sets are node n1's (192.168.1.11, pods 10.244.0.0/24) as nft and iptables-save printed them. Services: web
(10.96.1.1, three endpoints), np (NodePort 30086), sticky (with session affinity), none and loc (NodePort 30087) without
endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest

from testbed.trace import iptables, nftables
from testbed.trace.conntrack import Entry
from testbed.trace.netfilter import BaseChain, Firewall, Hook, Ruling
from testbed.trace.values import FiveTuple, Packet
from tests.unit.test_trace_ofproto import golden

POD, REMOTE_POD = IPv4Address("10.244.0.2"), IPv4Address("10.244.1.9")
LOCAL_ENDPOINT, FAR_ENDPOINT = IPv4Address("10.244.0.3"), IPv4Address("10.244.1.3")
WEB, NONE, STICKY, UNKNOWN = (IPv4Address(f"10.96.{end}") for end in ("1.1", "1.3", "1.4", "77.7"))
NODE, GATEWAY, OUTSIDE = IPv4Address("192.168.1.11"), IPv4Address("10.244.0.1"), IPv4Address("192.168.1.77")


class Node:
    """The namespace that the rules were taken from."""

    def __init__(self, remembered: Sequence[str] = ()) -> None:
        self.remembered = frozenset(remembered)

    def holds(self, address: object) -> bool:
        return address in (NODE, GATEWAY)

    def addresses_of(self, device: str) -> tuple[str, ...]:
        return {"gw": (str(GATEWAY),), "n1-eth0": (str(NODE),)}[device]

    def recent(self, name: str) -> frozenset[str]:
        return self.remembered if name == "KUBE-SEP-PAF4RPNIC6K22IQJ" else frozenset()


def nftables_chains(wanted: IPv4Address | None) -> Iterable[BaseChain]:
    listed = json.loads(golden("nft.json"))["nftables"]
    return nftables.base_chains(listed, nftables.rule_texts(golden("nft.txt")), frozenset(), wanted)


def iptables_chains(wanted: IPv4Address | None) -> Iterable[BaseChain]:
    return iptables.base_chains(iptables.parse_tables(golden("iptables.txt")), wanted)


Chains = Callable[[IPv4Address | None], Iterable[BaseChain]]
PROXIES = pytest.mark.parametrize("chains", [nftables_chains, iptables_chains])


def packet(source: IPv4Address, destination: IPv4Address, number: int = 80) -> Packet:
    return Packet(FiveTuple("tcp", source, 40000, destination, number))


def passing(firewall: Firewall, hooks: Sequence[Hook], start: Packet, iif: str = "", oif: str = "") -> Ruling:
    """The packet after all hooks, or at the one where it ends; the steps of all."""
    steps: list[Any] = []
    ruling = Ruling(start)
    for hook in hooks:
        ruling = firewall.ask(hook, ruling.packet, iif if hook != "postrouting" else "", oif)
        steps += ruling.steps
        if ruling.fate is not None:
            break
    assert not [step for step in steps if step.kind == "note"], steps
    return Ruling(ruling.packet, tuple(steps), ruling.fate, ruling.reason)


FORWARD: tuple[Hook, ...] = ("prerouting", "forward", "postrouting")


@PROXIES
@pytest.mark.parametrize("endpoint", [LOCAL_ENDPOINT, FAR_ENDPOINT])
def test_a_pods_connection_is_translated_and_so_is_its_reply(chains: Chains, endpoint: IPv4Address) -> None:
    firewall = Firewall(chains(endpoint), (), Node())
    sent = packet(POD, WEB)
    ruling = passing(firewall, FORWARD, sent, "gw", "gw")
    assert ruling.packet.tuple == FiveTuple("tcp", POD, 40000, endpoint, 8000)
    choice = next(step for step in ruling.steps if step.kind == "group")
    assert choice.data["chosen"] == f"{endpoint}:8000"
    assert choice.data["candidates"] == pytest.approx(
        {"10.244.0.3:8000": 1 / 3, "10.244.1.2:8000": 1 / 3, "10.244.1.3:8000": 1 / 3}, abs=1e-6
    )
    reply = Packet(ruling.packet.tuple.reversed, is_reply=True)
    back = passing(firewall, FORWARD, reply, "gw", "gw")
    assert back.packet.tuple == sent.tuple.reversed


@PROXIES
def test_a_pod_that_reaches_itself_is_masqueraded(chains: Chains) -> None:
    firewall = Firewall(chains(LOCAL_ENDPOINT), (), Node())
    ruling = passing(firewall, FORWARD, packet(LOCAL_ENDPOINT, WEB), "gw", "gw")
    assert ruling.packet.tuple == FiveTuple("tcp", GATEWAY, 40000, LOCAL_ENDPOINT, 8000)
    assert ruling.packet.mark == 0
    back = passing(firewall, FORWARD, Packet(ruling.packet.tuple.reversed, is_reply=True), "gw", "gw")
    assert back.packet.tuple == packet(LOCAL_ENDPOINT, WEB).tuple.reversed


@PROXIES
def test_a_nodeport_from_outside_is_masqueraded(chains: Chains) -> None:
    firewall = Firewall(chains(FAR_ENDPOINT), (), Node())
    ruling = passing(firewall, FORWARD, packet(OUTSIDE, NODE, 30086), "n1-eth0", "gw")
    assert ruling.packet.tuple == FiveTuple("tcp", GATEWAY, 40000, FAR_ENDPOINT, 8000)


@PROXIES
def test_what_the_node_itself_sends_is_translated(chains: Chains) -> None:
    firewall = Firewall(chains(FAR_ENDPOINT), (), Node())
    ruling = passing(firewall, ("output", "postrouting"), packet(GATEWAY, WEB), "", "gw")
    assert ruling.packet.tuple.destination == FAR_ENDPOINT


@PROXIES
@pytest.mark.parametrize(("destination", "number"), [(NONE, 80), (WEB, 81)])
def test_what_refuses_a_packet_is_named(chains: Chains, destination: IPv4Address, number: int) -> None:
    ruling = passing(Firewall(chains(None), (), Node()), FORWARD, packet(POD, destination, number), "gw", "gw")
    assert ruling.fate == "refused"
    assert "reject with tcp reset" in ruling.reason or "--reject-with tcp-reset" in ruling.reason
    assert "chain" in ruling.reason


@PROXIES
def test_a_nodeport_without_endpoints_is_refused_where_it_would_be_delivered(chains: Chains) -> None:
    firewall = Firewall(chains(None), (), Node())
    ruling = passing(firewall, ("prerouting", "input"), packet(OUTSIDE, NODE, 30087), "n1-eth0")
    assert ruling.fate == "refused"


def test_an_address_that_no_service_has_is_dropped_by_nftables() -> None:
    firewall = Firewall(nftables_chains(None), (), Node())
    ruling = passing(firewall, FORWARD, packet(POD, UNKNOWN), "gw", "gw")
    assert ruling.fate == "dropped"
    assert ruling.reason == (
        "nftables table ip kube-proxy, chain filter-forward > cluster-ips-check: "
        'ip daddr 10.96.0.0/12 drop comment "no Service has this address"'
    )


@PROXIES
def test_what_is_for_no_service_passes_unchanged(chains: Chains) -> None:
    sent = packet(POD, REMOTE_POD, 8000)
    ruling = passing(Firewall(chains(None), (), Node()), FORWARD, sent, "gw", "gw")
    assert (ruling.fate, ruling.packet, ruling.steps) == (None, sent, ())


@PROXIES
def test_a_known_connection_keeps_its_endpoint(chains: Chains) -> None:
    sent = packet(POD, WEB)
    known = Entry(0, sent.tuple, FiveTuple("tcp", FAR_ENDPOINT, 8000, POD, 40000))
    ruling = passing(Firewall(chains(LOCAL_ENDPOINT), [known], Node()), FORWARD, sent, "gw", "gw")
    assert ruling.packet.tuple.destination == FAR_ENDPOINT
    assert [step.kind for step in ruling.steps] == ["conntrack"]


def test_iptables_remembers_a_client() -> None:
    firewall = Firewall(iptables_chains(None), (), Node(remembered=[str(POD)]))
    ruling = passing(firewall, FORWARD, packet(POD, STICKY), "gw", "gw")
    assert ruling.packet.tuple.destination == IPv4Address("10.244.1.2")
    assert not [step for step in ruling.steps if step.kind == "group"]


def test_nftables_remembers_a_client() -> None:
    listed = json.loads(golden("nft.json"))["nftables"]
    for entry in listed:
        if entry.get("set", {}).get("name", "").startswith("affinity") and "10.244.1.2" in entry["set"]["name"]:
            entry["set"]["elem"] = [{"elem": {"val": str(POD), "timeout": 10800, "expires": 10000}}]
    firewall = Firewall(nftables.base_chains(listed, {}, frozenset()), (), Node())
    ruling = passing(firewall, FORWARD, packet(POD, STICKY), "gw", "gw")
    assert ruling.packet.tuple.destination == IPv4Address("10.244.1.2")


def test_the_frames_that_the_bridge_marks_are_refused() -> None:
    firewall = Firewall(nftables_chains(None), (), Node())
    marked = Packet(packet(POD, NONE).tuple, eth_src="0e:00:00:00:00:02", eth_dst="0a:58:0a:f4:00:01")
    ruling = firewall.ask("prerouting", marked, "gw", "")
    assert (ruling.fate, "table ip testbed, chain refused > refuse" in ruling.reason) == ("refused", True)


def test_a_rule_that_cannot_be_judged_is_passed_over_and_named() -> None:
    text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m quota --quota 5 -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT\n"
    firewall = Firewall(iptables.base_chains(iptables.parse_tables(text)), (), Node())
    ruling = firewall.ask("forward", packet(POD, REMOTE_POD), "gw", "n1-eth0")
    assert ruling.fate == "dropped"
    assert ruling.reason == "iptables table filter, chain FORWARD: -j DROP"
    assert [step.text for step in ruling.steps] == [
        "iptables table filter, chain FORWARD: cannot judge “-m quota --quota 5 -j ACCEPT” (--quota); passed over"
    ]


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        ("-s 10.244.0.0/24", True),
        ("! -s 10.244.0.0/24", False),
        ("-d 10.244.0.0/24", False),
        ("-i gw", True),
        ("-i g+", True),
        ("-o gw", False),
        ("-p tcp -m tcp --dport 8000", True),
        ("-p tcp -m tcp --dport 8001:9000", False),
        ("-p udp", False),
        ("-m mark --mark 0x1/0x1", True),
        ("-m mark ! --mark 0x1/0x1", False),
        ("-m conntrack --ctstate NEW", True),
        ("-m conntrack --ctstate RELATED,ESTABLISHED", False),
        ('-m comment --comment "a -j ACCEPT of words"', True),
    ],
)
def test_conditions_of_iptables(rule: str, dropped: bool) -> None:
    text = f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule} -j DROP\nCOMMIT\n"
    firewall = Firewall(iptables.base_chains(iptables.parse_tables(text)), (), Node())
    marked = Packet(packet(POD, REMOTE_POD, 8000).tuple, mark=1)
    assert (firewall.ask("forward", marked, "gw", "n1-eth0").fate == "dropped") is dropped


@pytest.mark.parametrize(
    ("expression", "dropped"),
    [
        ([("payload", "ip", "saddr", "==", {"prefix": {"addr": "10.244.0.0", "len": 24}})], True),
        ([("payload", "ip", "saddr", "!=", {"prefix": {"addr": "10.244.0.0", "len": 24}})], False),
        ([("payload", "tcp", "dport", "==", {"set": [80, 8000]})], True),
        ([("payload", "tcp", "dport", "==", {"range": [1, 79]})], False),
        ([("payload", "udp", "dport", "==", 8000)], False),
        ([("meta", "iifname", "", "==", "gw*")], True),
        ([("meta", "l4proto", "", "==", "udp")], False),
        ([("ct", "state", "", "in", ["established", "related"])], False),
        ([("ct", "state", "", "in", "new"), ("meta", "mark", "", "==", 1)], True),
    ],
)
def test_conditions_of_nftables(expression: list[tuple[str, str, str, str, Any]], dropped: bool) -> None:
    matches = []
    for kind, first, second, operator, right in expression:
        body = {"protocol": first, "field": second} if kind == "payload" else {"key": first}
        matches.append({"match": {"op": operator, "left": {kind: body}, "right": right}})
    base = {"family": "inet", "table": "t"}
    listed = [
        {"table": {"family": "inet", "name": "t"}},
        {"chain": {**base, "name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
        {"rule": {**base, "chain": "c", "handle": 3, "expr": [*matches, {"drop": None}]}},
    ]
    firewall = Firewall(nftables.base_chains(listed, {}, frozenset()), (), Node())
    marked = Packet(packet(POD, REMOTE_POD, 8000).tuple, mark=1)
    assert (firewall.ask("forward", marked, "gw", "n1-eth0").fate == "dropped") is dropped


def test_a_policy_of_dropping_is_named() -> None:
    text = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
    firewall = Firewall(iptables.base_chains(iptables.parse_tables(text)), (), Node())
    ruling = firewall.ask("forward", packet(POD, REMOTE_POD), "gw", "n1-eth0")
    assert (ruling.fate, ruling.reason) == ("dropped", "iptables table filter, chain FORWARD: policy DROP")
