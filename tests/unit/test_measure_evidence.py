"""What captured frames prove; the decoder and the pcap files behind it. Frames are made byte by byte."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster.values import (
    ClusterState,
    IPAddress,
    Mode,
    NetworkConfig,
    NodeNetwork,
    PodNetwork,
    ServiceEndpoint,
    ServicePort,
)
from testbed.measure.capture import Frame, pcap
from testbed.measure.decode import decode
from testbed.measure.evidence import judge
from testbed.measure.expectation import End, Expected, expected
from testbed.measure.probes.base import ECHO_PORT
from testbed.measure.process import ProbeFailure
from testbed.spec.endpoints import parse_endpoint, parse_target

MARKER = b"testbed evidence"
POD1, POD2 = IPv4Address("10.244.0.2"), IPv4Address("10.244.1.2")
NODE1, NODE2 = IPv4Address("192.168.1.1"), IPv4Address("192.168.2.1")
SOURCE, ENDS = frozenset({POD1}), (End(POD2, "n2", ECHO_PORT),)
OVERLAY = Expected(SOURCE, ENDS, "n1", "n1", turn_is_node=True, mode="overlay", vni=7)
ROUTED = replace(OVERLAY, mode="routed")
SAME_NODE = replace(OVERLAY, ends=(End(POD2, "n1", ECHO_PORT),))


def udp(source: IPv4Address, target: IPv4Address, ports: tuple[int, int], payload: bytes, ttl: int = 64) -> bytes:
    """An Ethernet frame with a UDP datagram (RFC 768, RFC 791), checksums left zero."""
    segment = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, ttl, 17, 0) + source.packed + target.packed
    return bytes.fromhex("0a5800000002 0a5800000001 0800") + header + segment


def vxlan(inner: bytes, vni: int = 7, ttl: int = 64, source: IPv4Address = NODE1, target: IPv4Address = NODE2) -> bytes:
    """The frame inside VXLAN (RFC 7348 figure 1)."""
    return udp(source, target, (50000, 4789), bytes.fromhex("08000000") + vni.to_bytes(3, "big") + b"\0" + inner, ttl)


def request(ttl: int = 64) -> bytes:
    return udp(POD1, POD2, (20000, ECHO_PORT), MARKER, ttl)


def answer(ttl: int = 64) -> bytes:
    return udp(POD2, POD1, (ECHO_PORT, 20000), MARKER, ttl)


def seen(*places: tuple[str, bool, bytes]) -> list[Frame]:
    return [Frame(element, f"{element}-eth0", outgoing, 1, data) for element, outgoing, data in places]


class TestDecoder:
    def test_vxlan_is_opened(self) -> None:
        packet = decode(vxlan(request(), vni=0xABCDEF, ttl=61))
        assert packet is not None and packet.inner is not None
        assert (packet.ipv4_src, packet.ipv4_dst, packet.udp_dst, packet.ttl) == (NODE1, NODE2, 4789, 61)
        assert packet.vni == 0xABCDEF
        assert (packet.inner.ipv4_src, packet.inner.udp_src, packet.inner.payload) == (POD1, 20000, MARKER)
        assert packet.innermost is packet.inner
        assert packet.inner.eth_dst == "0a:58:00:00:00:02"

    def test_ethernet_padding_is_not_payload(self) -> None:
        packet = decode(udp(POD1, POD2, (1, 2), b"x") + bytes(17))
        assert packet is not None and packet.payload == b"x"

    def test_options_of_ipv4_are_skipped(self) -> None:
        frame = bytearray(udp(POD1, POD2, (1, 2), b"x"))
        frame[14] = 0x46
        frame[16:18] = (33).to_bytes(2, "big")
        frame[34:34] = b"\x01\x01\x01\x00"
        packet = decode(bytes(frame))
        assert packet is not None and (packet.udp_src, packet.udp_dst, packet.payload) == (1, 2, b"x")

    def test_later_fragments_have_no_ports(self) -> None:
        frame = bytearray(udp(POD1, POD2, (1, 4789), bytes(20)))
        frame[20:22] = (185).to_bytes(2, "big")
        packet = decode(bytes(frame))
        assert packet is not None and packet.udp_dst is None and not packet.is_vxlan

    def test_without_the_valid_vni_flag_nothing_is_inside(self) -> None:
        frame = bytearray(vxlan(request()))
        frame[42] = 0
        packet = decode(bytes(frame))
        assert packet is not None and packet.is_vxlan and packet.vni is None and packet.inner is None

    def test_arp_is_not_a_packet(self) -> None:
        assert decode(bytes.fromhex("ffffffffffff 0a5800000001 0806") + bytes(28)) is None

    @given(st.binary(max_size=120), st.integers(0, 60))
    def test_no_frame_breaks_it(self, noise: bytes, keep: int) -> None:
        decode(noise)
        decode(vxlan(request())[:keep])
        decode(vxlan(request())[: 14 + 20 + 8 + 8] + noise)


class TestJudgement:
    def test_overlay(self) -> None:
        frames = seen(
            ("leaf2", False, vxlan(request(), ttl=62)),
            ("n1", True, vxlan(request(), ttl=64)),
            ("leaf1", False, vxlan(request(), ttl=64)),
            ("leaf1", True, vxlan(request(), ttl=63)),
            ("spine2", False, vxlan(request(), ttl=63)),
            ("spine2", True, vxlan(request(), ttl=62)),
            ("leaf2", True, vxlan(request(), ttl=61)),
            ("n2", False, vxlan(request(), ttl=61)),
            ("n2", True, vxlan(answer(), source=NODE2, target=NODE1)),
        )
        finding = judge(OVERLAY, frames, MARKER, answered=True)
        assert finding.ok, finding.detail
        assert finding.via == ("leaf1", "spine2", "leaf2")
        assert finding.vni == 7
        assert finding.outer is not None and finding.outer["udp_dst"] == 4789
        assert finding.inner is not None and finding.inner["ipv4_src"] == "10.244.0.2"
        assert finding.packets == 9
        way = [(frame.element, frame.outgoing) for frame in finding.frames]
        assert way[:4] == [("n1", True), ("leaf1", False), ("leaf1", True), ("spine2", False)]
        assert way[-1] == ("n2", True)

    def test_routed(self) -> None:
        frames = seen(("n1", True, request(62)), ("n2", False, request(62)), ("n2", True, answer(62)))
        finding = judge(ROUTED, frames, MARKER, answered=True)
        assert finding.ok, finding.detail
        assert finding.outer is None and finding.vni is None

    def test_one_node(self) -> None:
        finding = judge(SAME_NODE, seen(("n1", True, udp(NODE1, NODE2, (1, 2), b"else"))), MARKER, answered=True)
        assert finding.ok, finding.detail
        assert finding.packets == 0

    @pytest.mark.parametrize(
        ("wanted", "frames", "cause"),
        [
            (OVERLAY, [], "not seen on the fabric"),
            (OVERLAY, [request()], "bare in overlay"),
            (OVERLAY, [vxlan(request()), request()], "bare in overlay"),
            (OVERLAY, [vxlan(request(), vni=8)], "VNI 8 instead of 7"),
            (OVERLAY, [vxlan(udp(NODE1, POD2, (20000, ECHO_PORT), MARKER))], "from 192.168.1.1 to 10.244.1.2"),
            (ROUTED, [vxlan(request())], "VXLAN packets on the fabric in routed mode"),
            (
                ROUTED,
                [request(), vxlan(udp(POD1, POD2, (1, 2), b"other"))],
                "VXLAN packets on the fabric in routed mode",
            ),
            (ROUTED, [udp(NODE1, POD2, (20000, ECHO_PORT), MARKER)], "from 192.168.1.1"),
            (replace(OVERLAY, ends=(replace(ENDS[0], is_pod=False),)), [vxlan(request())], "was encapsulated"),
            (SAME_NODE, [request()], "on one node was seen"),
        ],
    )
    def test_what_proves_nothing_says_why(self, wanted: Expected, frames: list[bytes], cause: str) -> None:
        finding = judge(wanted, seen(*(("n1", True, frame) for frame in frames)), MARKER, answered=True)
        assert not finding.ok
        assert cause in finding.detail

    def test_without_an_answer_nothing_is_proven(self) -> None:
        frames = seen(("n1", True, vxlan(request())))
        assert judge(OVERLAY, frames, MARKER, answered=False).detail == "the probe packet was not answered"


NODES = tuple(
    NodeNetwork(
        f"n{k}",
        IPv4Address(f"192.168.{k}.1"),
        IPv4Network(f"10.244.{k - 1}.0/24"),
        IPv4Address(f"10.244.{k - 1}.1"),
        "",
        "",
        k,
        IPv4Address(f"10.244.{k - 1}.254"),
    )
    for k in (1, 2)
)
ADDRESSES = {"a": ("n1", POD1), "b": ("n1", IPv4Address("10.244.0.3")), "c": ("n2", POD2)}
PODS = tuple(PodNetwork("default", name, node, ip, "", "", 10) for name, (node, ip) in ADDRESSES.items())
EXT1 = IPv4Address("203.0.113.1")


def network(mode: Mode, *services: ServicePort) -> Any:
    """A cluster of two nodes with two pods on the first and one on the second, and a hostNetwork pod on the first."""
    known = {f"node/{node.name}": node.node_ip for node in NODES} | {"ext/ext1": EXT1}
    known |= {pod.name: pod.pod_ip for pod in PODS}
    # A hostNetwork pod on n1: no pod of the network, but its node's address and namespace.
    known["agent"] = NODES[0].node_ip
    return SimpleNamespace(
        state=ClusterState(NetworkConfig(mode=mode, vni=9), NODES, PODS, services),
        address=lambda endpoint: known[str(endpoint)],
        namespace={parse_endpoint("agent"): "n1"}.get,
    )


@pytest.mark.parametrize("mode", ["overlay", "routed"])
@pytest.mark.parametrize(
    ("source", "target", "on_fabric", "tunnelled", "source_ip"),
    [
        ("a", "c", True, True, "10.244.0.2"),
        ("a", "b", False, False, "10.244.0.2"),
        ("node/n1", "node/n2", True, False, "192.168.1.1"),
        ("node/n1", "c", True, True, "10.244.0.1"),
        ("node/n1", "a", False, False, "192.168.1.1"),
        ("a", "node/n2", True, False, "10.244.0.2"),
        ("ext/ext1", "a", True, False, "203.0.113.1"),
        ("a", "ext/ext1", True, False, "10.244.0.2"),
        ("agent", "c", True, True, "10.244.0.1"),
        ("agent", "a", False, False, "192.168.1.1"),
        ("c", "agent", True, False, "10.244.1.2"),
    ],
)
def test_what_a_path_must_show(
    mode: Mode, source: str, target: str, on_fabric: bool, tunnelled: bool, source_ip: str
) -> None:
    wanted = expected(network(mode), parse_endpoint(source), parse_target(target), "udp", ECHO_PORT)
    in_tunnel = tunnelled and mode == "overlay"
    own_address = "192.168.1.1" if source in ("node/n1", "agent") and not in_tunnel else source_ip
    elements = {"a": "n1", "b": "n1", "c": "n2", "agent": "n1"}
    origin, goal = (elements.get(name, name.rpartition("/")[2]) for name in (source, target))
    (end,) = wanted.ends
    assert (wanted.sources, wanted.origin, wanted.turn) == ({IPv4Address(own_address)}, origin, origin)
    assert (end.address, end.element, end.server_port) == (
        network(mode).address(parse_endpoint(target)),
        goal,
        ECHO_PORT,
    )
    assert (wanted.may_stay, wanted.always_tunnelled) == (not on_fabric, in_tunnel)
    assert wanted.asked is None and wanted.vni == 9


class TestServices:
    """Endpoints a (on n1) and c (on n2), asked in every way."""

    ENDPOINTS = (ServiceEndpoint(POD1, 8080, "n1"), ServiceEndpoint(POD2, 8080, "n2"))
    WEB = ServicePort(
        "default",
        "web",
        "http",
        "UDP",
        IPv4Address("10.96.0.20"),
        80,
        0,
        ENDPOINTS,
        node_port=30080,
        load_balancer_ip=IPv4Address("198.18.0.1"),
    )

    def wanted(self, source: str, target: str, service: ServicePort = WEB, mode: Mode = "overlay") -> Expected:
        return expected(network(mode, service), parse_endpoint(source), parse_target(target), "udp", ECHO_PORT)

    @staticmethod
    def masks(*nodes: str) -> set[IPAddress]:
        return {
            ip for node in NODES if node.name in nodes for ip in (node.masquerade_ip, node.gateway_ip, node.node_ip)
        }

    def test_a_pods_address_is_preserved_to_any_endpoint(self) -> None:
        wanted = self.wanted("b", "service/web:80")
        assert wanted.sources == {ADDRESSES["b"][1]}
        assert [(end.element, end.server_port) for end in wanted.ends] == [("n1", 8080), ("n2", 8080)]
        assert (wanted.turn, wanted.front, wanted.may_stay, wanted.always_tunnelled) == ("n1", False, True, False)
        assert self.wanted("b", "service/web:80", replace(self.WEB, endpoints=self.ENDPOINTS[1:])).always_tunnelled

    def test_a_node_may_be_masked_by_an_address_of_its_own(self) -> None:
        assert self.wanted("node/n2", "service/web:80").sources == self.masks("n2")

    def test_a_node_port_masks_the_client_on_the_node_that_was_asked(self) -> None:
        wanted = self.wanted("ext/ext1", "node/n2:30080")
        assert wanted.sources == self.masks("n2")
        assert (wanted.origin, wanted.turn, wanted.front) == ("ext1", "n2", True)
        assert wanted.asked == (NODES[1].node_ip, 30080)

    def test_a_local_node_port_preserves_the_client_and_stays(self) -> None:
        wanted = self.wanted("ext/ext1", "node/n2:30080", replace(self.WEB, external_local=True))
        assert wanted.sources == {EXT1}
        assert [end.element for end in wanted.ends] == ["n2"]
        assert wanted.may_stay

    def test_the_fabric_chooses_the_node_of_a_load_balancer(self) -> None:
        wanted = self.wanted("ext/ext1", "loadbalancer/web:80")
        assert wanted.sources == self.masks("n1", "n2")
        assert (wanted.turn, wanted.front) == ("", True)

    @pytest.mark.parametrize(
        ("target", "cause"),
        [("service/web:81", "has no UDP port"), ("service/other:80", "has no UDP port")],
    )
    def test_what_cannot_be_asked(self, target: str, cause: str) -> None:
        with pytest.raises(ProbeFailure, match=cause):
            self.wanted("a", target)
        with pytest.raises(ProbeFailure, match="no usable endpoint"):
            self.wanted("a", "service/web:80", replace(self.WEB, endpoints=()))

    def test_from_outside_both_legs_are_proven(self) -> None:
        wanted = replace(self.wanted("ext/ext1", "node/n1:30080"), vni=7)
        asked = udp(EXT1, NODES[0].node_ip, (20000, 30080), MARKER)
        masked = vxlan(udp(IPv4Address("10.244.0.254"), POD2, (20000, 8080), MARKER))
        front = (("ext1", True, asked), ("n1", False, asked))
        legs = seen(*front, ("n1", True, masked), ("n2", False, masked))
        finding = judge(wanted, legs, MARKER, True)
        assert finding.ok, finding.detail
        assert finding.inner is not None and finding.inner["ipv4_dst"] == str(POD2)
        assert judge(wanted, seen(*front), MARKER, True).ok, "the endpoint on the node itself"
        back = vxlan(udp(POD2, IPv4Address("10.244.0.254"), (8080, 20000), MARKER), source=NODE2, target=NODE1)
        home = udp(NODE1, EXT1, (30080, 20000), MARKER, ttl=62)
        answer = seen(("n1", True, home), ("ext1", False, home), ("n2", True, back), ("n1", False, back))
        way = [(frame.element, frame.outgoing) for frame in judge(wanted, [*legs, *answer], MARKER, True).frames]
        assert way[4:] == [("n2", True), ("n1", False), ("n1", True), ("ext1", False)], "by the tunnel, then bare"
        bare = vxlan(udp(EXT1, POD2, (20000, 8080), MARKER))
        for frames, cause in (
            (seen(("n1", True, masked), ("n2", False, masked)), "not seen on its way to 192.168.1.1 port 30080"),
            (seen(*front, ("n1", True, bare), ("n2", False, bare)), "from 203.0.113.1 to 10.244.1.2"),
        ):
            assert cause in judge(wanted, frames, MARKER, True).detail

    def test_the_services_own_address_must_not_reach_the_fabric(self) -> None:
        wanted = self.wanted("b", "service/web:80", mode="routed")
        asked = udp(ADDRESSES["b"][1], self.WEB.cluster_ip, (20000, 80), MARKER)
        assert "own address 10.96.0.20" in judge(wanted, seen(("n1", True, asked)), MARKER, True).detail

    def test_a_connection_is_evidence_too(self) -> None:
        wanted = self.wanted("b", "service/web:80", mode="routed")
        segment = struct.pack("!HHIIBBHHH", 40000, 8080, 0, 0, 0x50, 0x18, 0, 0, 0) + b"GET /" + MARKER
        source = ADDRESSES["b"][1]
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0) + source.packed + POD2.packed
        frame = bytes.fromhex("0a5800000002 0a5800000001 0800") + header + segment
        finding = judge(wanted, seen(("n1", True, frame), ("n2", False, frame)), MARKER, True)
        assert finding.ok, finding.detail
        assert finding.inner is not None and (finding.inner["protocol"], finding.inner["tcp_dst"]) == ("tcp", 8080)


def test_a_capture_with_a_gap_is_no_proof() -> None:
    wanted = ROUTED
    whole = seen(("n1", True, request()), ("leaf1", False, request()), ("n2", False, request()))
    assert judge(wanted, whole, MARKER, True).ok
    finding = judge(wanted, whole[:2], MARKER, True)
    assert not finding.ok
    assert "not seen arriving at n2" in finding.detail
    assert "not seen leaving n1" in judge(wanted, whole[1:], MARKER, True).detail


def test_a_pcap_file_holds_every_frame_with_its_time(tmp_path: Path) -> None:
    frames = [Frame("n1", "n1-eth0", True, 1_700_000_000_123_456_789, vxlan(request())), *seen(("n2", False, answer()))]
    data = pcap(frames)
    magic, major, minor, _, _, _, link_type = struct.unpack_from("=IHHiIII", data)
    assert (magic, major, minor, link_type) == (0xA1B23C4D, 2, 4, 1)
    seconds, nanoseconds, captured, length = struct.unpack_from("=IIII", data, 24)
    assert (seconds, nanoseconds, captured, length) == (1_700_000_000, 123_456_789, len(frames[0].data), captured)
    assert data[40 : 40 + captured] == frames[0].data
    assert len(data) == 24 + 2 * 16 + sum(len(frame.data) for frame in frames)
    if shutil.which("tcpdump"):
        (tmp_path / "x.pcap").write_bytes(data)
        shown = subprocess.run(
            ["tcpdump", "-nr", str(tmp_path / "x.pcap")], capture_output=True, text=True, timeout=10, check=True
        ).stdout
        assert "VXLAN, flags [I] (0x08), vni 7" in shown
        assert "10.244.0.2.20000 > 10.244.1.2.17007" in shown
