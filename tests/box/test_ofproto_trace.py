"""Our tracer and Open vSwitch's own agree, flow by flow, on what becomes of a packet."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from controllers.pipeline import BridgeTrace, BridgeTracer, compile_flows
from controllers.pipeline.cluster_tracer import Ports, ip_packet, with_ports
from controllers.pipeline.fields import (
    ETH_TYPE_ARP,
    ETH_TYPE_IPV4,
    ETH_TYPE_WORDS,
    FIELDS,
    IP_PROTO_WORDS,
    TRANSPORT_BY_IP_PROTO,
    number_text,
    text_number,
)
from controllers.pipeline.text import match_words
from controllers.pipeline.tracer import Packet
from testbed.cluster.identity import BRIDGE, GATEWAY_OF_PORT, TUNNEL_OF_PORT, VIRTUAL_ROUTER_MAC
from testbed.cluster.values import MODES, PROTOCOLS, ClusterState, Mode, NodeNetwork
from testbed.network.openvswitch import VSwitch
from tests.box.ovs_harness import cluster_objects, running_cluster, sealed

pytestmark = pytest.mark.box

PACKETS_PER_BRIDGE = 400
FORGED_MAC = "0a:58:00:00:00:99"

# Headers as ovs-ofctl spells them, beyond those that flows match on.
TTL_TEXT = "nw_ttl"
IP_PROTO_BY_WORD = {word: number for number, word in IP_PROTO_WORDS.items()}


@dataclass(frozen=True)
class Verdict:
    """What both tracers say: the tables with the flows that matched, and the packets that come out."""

    steps: tuple[str, ...]
    outputs: tuple[tuple[int, tuple[tuple[str, int], ...]], ...]


def our_verdict(trace: BridgeTrace) -> Verdict:
    steps = []
    for step in trace.steps:
        if step.flow is None:
            steps.append(f"{step.table.number}. No match.")
        else:
            words = ",".join(match_words(step.flow.match))
            condition = f"{words}, " if words else ""
            steps.append(f"{step.table.number}. {condition}priority {step.flow.priority}, cookie {step.flow.cookie:#x}")
    outputs = tuple((of_port, tuple(sorted(packet.items()))) for of_port, packet in trace.outputs)
    return Verdict(tuple(steps), outputs)


def open_vswitch_verdict(
    switch: VSwitch, of_port_by_datapath_port: dict[int, int], in_port: int, packet: Packet
) -> Verdict:
    text = switch.appctl("ofproto/trace", BRIDGE, packet_text(in_port, packet))
    steps = tuple(re.findall(r"^ *(\d+\. .*)$", text, re.MULTILINE))
    # A packet that is looked up among connections is traced in parts, each with its end; the last is where it gets to.
    actions = re.findall(r"^Datapath actions: (.*)$", text, re.MULTILINE)
    final = re.findall(r"^Final flow: (.*)$", text, re.MULTILINE)
    assert actions and final, text
    out = re.search(r"(?:^|,)(\d+)$", actions[-1])
    if out is None:
        assert actions[-1] == "drop" or "controller(reason=2" in actions[-1], text  # reason 2: invalid TTL
        return Verdict(steps, ())
    leaves = read_packet(final[-1]) if final[-1] != "unchanged" else dict(packet)
    return Verdict(steps, ((of_port_by_datapath_port[int(out[1])], tuple(sorted(leaves.items()))),))


def packet_text(in_port: int, packet: Packet) -> str:
    words = [f"in_port={in_port}"]
    for name, number in packet.items():
        if name == "eth_type":
            words.append(IP_PROTO_WORDS.get(packet.get("ip_proto", 0), ETH_TYPE_WORDS[number]))
        elif name == "ip_proto":
            continue
        elif name == "ip_ttl":
            words.append(f"{TTL_TEXT}={number}")
        else:
            # Written, each protocol's ports have names of their own; printed, they have not.
            text = FIELDS[name].match_text if FIELDS[name].ip_proto is None else name
            words.append(f"{text}={number_text(FIELDS[name], number)}")
    return ",".join(words)


FRAGMENT_TEXT = FIELDS["ip_frag"].match_text


def read_packet(text: str) -> Packet:
    """The headers in a printed flow, without registers and what a packet here never varies in."""
    headers = [field for field in FIELDS.values() if not field.name.startswith(("reg", "ct_", "in_port"))]
    by_text = {field.match_text: field for field in headers if field.ip_proto is None}
    packet = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        if word == "arp":
            packet["eth_type"] = ETH_TYPE_ARP
        elif word in IP_PROTO_BY_WORD:
            packet |= {"eth_type": ETH_TYPE_IPV4, "ip_proto": IP_PROTO_BY_WORD[word]}
            transport = TRANSPORT_BY_IP_PROTO[packet["ip_proto"]]
            by_text |= {"tp_src": FIELDS[transport.source], "tp_dst": FIELDS[transport.destination]}
        elif name == TTL_TEXT:
            packet["ip_ttl"] = int(value)
        elif name in by_text and name != FRAGMENT_TEXT:
            packet[by_text[name].name] = text_number(by_text[name], value)
    return packet


def datapath_ports(switch: VSwitch) -> dict[int, int]:
    """of_port by the number that the same port has in the datapath."""
    shown = switch.appctl("dpif/show")
    return {int(datapath): int(of_port) for of_port, datapath in re.findall(r" (\d+)/(\d+): \(", shown)}


def packets(state: ClusterState, node: NodeNetwork, dice: random.Random) -> Iterator[tuple[int, Packet]]:
    """Honest, forged and misdirected packets, by every port."""
    local = state.pods_by_node[node.name]
    of_ports = [TUNNEL_OF_PORT, GATEWAY_OF_PORT, *(pod.of_port for pod in local)]
    macs = [pod.pod_mac for pod in state.pods] + [node.gateway_mac, node.vtep_mac, VIRTUAL_ROUTER_MAC, FORGED_MAC]
    addresses = [pod.pod_ip for pod in state.pods]
    for other in state.nodes:
        addresses += [other.node_ip, other.gateway_ip, other.pod_cidr[77], other.masquerade_ip]
    addresses += [state.config.cluster_cidr[-2], state.config.service_cidr[10]]
    for _ in range(PACKETS_PER_BRIDGE):
        of_port = dice.choice(of_ports)
        sender = next((pod for pod in local if pod.of_port == of_port), None)
        honest = sender is not None and dice.random() < 0.6
        source = sender.pod_ip if sender is not None and honest else dice.choice(addresses)
        eth_src = sender.pod_mac if sender is not None and honest else dice.choice(macs)
        eth_dst = node.vtep_mac if of_port == TUNNEL_OF_PORT and dice.random() < 0.8 else dice.choice(macs)
        if dice.random() < 0.7:
            packet = ip_packet(eth_src, eth_dst, source, dice.choice(addresses))
            ports = Ports(dice.choice(PROTOCOLS), dice.choice([80, 40000]), dice.choice([80, 30080, 40000]))
            yield of_port, with_ports({**packet, "ip_ttl": dice.choice([64, 64, 2, 1])}, ports)
        else:
            yield (
                of_port,
                {
                    "eth_type": ETH_TYPE_ARP,
                    "eth_src": text_number(FIELDS["eth_src"], eth_src),
                    "eth_dst": FIELDS["eth_dst"].full_mask,
                    "arp_op": dice.choice([1, 1, 1, 2]),
                    "arp_spa": int(source),
                    "arp_tpa": int(dice.choice(addresses)),
                    "arp_sha": text_number(FIELDS["arp_sha"], eth_src if honest else dice.choice(macs)),
                    "arp_tha": 0,
                },
            )


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_the_tracers_agree(mode: Mode) -> None:
    dice = random.Random(mode)
    with running_cluster(cluster_objects(3, 7, mode), "ryu") as cluster:
        state = cluster.state
        delivered = 0
        for node in state.nodes:
            switch = cluster.switches[node.name]
            ports = datapath_ports(switch)
            ours = BridgeTracer(compile_flows(state, node.name))
            for in_port, packet in packets(state, node, dice):
                expected = open_vswitch_verdict(switch, ports, in_port, packet)
                assert our_verdict(ours.trace(in_port, packet)) == expected, packet_text(in_port, packet)
                delivered += bool(expected.outputs)
        assert 0.2 < delivered / (PACKETS_PER_BRIDGE * len(state.nodes)) < 0.9, "the packets show too little"
