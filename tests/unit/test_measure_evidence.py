"""What captured frames prove; the decoder and the pcap files behind it. Frames are made byte by byte."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster.values import ClusterState, NetworkConfig, NodeNetwork, PodNetwork
from testbed.measure.capture import Frame, pcap
from testbed.measure.decode import decode
from testbed.measure.evidence import Expected, expected, judge
from testbed.measure.probes.base import ECHO_PORT
from testbed.spec.endpoints import parse_endpoint

MARKER = b"testbed evidence"
POD1, POD2 = IPv4Address("10.244.0.2"), IPv4Address("10.244.1.2")
NODE1, NODE2 = IPv4Address("192.168.1.1"), IPv4Address("192.168.2.1")
OVERLAY = Expected(POD1, POD2, on_fabric=True, encapsulated=True, vni=7, mode="overlay")
ROUTED = Expected(POD1, POD2, on_fabric=True, encapsulated=False, vni=7, mode="routed")
SAME_NODE = Expected(POD1, POD2, on_fabric=False, encapsulated=False, vni=7, mode="overlay")


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
            (replace(ROUTED, mode="overlay"), [vxlan(request())], "was encapsulated"),
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
    mode: str, source: str, target: str, on_fabric: bool, tunnelled: bool, source_ip: str
) -> None:
    nodes = [
        NodeNetwork(f"n{k}", IPv4Address(f"192.168.{k}.1"), None, IPv4Address(f"10.244.{k - 1}.1"), "", "", k, None)
        for k in (1, 2)
    ]
    addresses = {"a": ("n1", POD1), "b": ("n1", IPv4Address("10.244.0.3")), "c": ("n2", POD2)}
    pods = [PodNetwork("default", name, node, ip, "", "", 10) for name, (node, ip) in addresses.items()]
    state = ClusterState(NetworkConfig(mode=mode, vni=9), tuple(nodes), tuple(pods))
    known = {f"node/{node.name}": node.node_ip for node in nodes} | {"ext/ext1": IPv4Address("203.0.113.1")}
    known |= {pod.name: pod.pod_ip for pod in pods}
    # A hostNetwork pod on n1: no pod of the network, but its node's address and namespace.
    known["agent"] = nodes[0].node_ip
    network = SimpleNamespace(
        state=state, address=lambda endpoint: known[str(endpoint)], namespace={parse_endpoint("agent"): "n1"}.get
    )
    wanted = expected(network, parse_endpoint(source), parse_endpoint(target))
    in_tunnel = tunnelled and mode == "overlay"
    own_address = "192.168.1.1" if source in ("node/n1", "agent") and not in_tunnel else source_ip
    elements = {"a": "n1", "b": "n1", "c": "n2", "agent": "n1"}
    ends = {
        f"{end}_element": elements.get(name, name.rpartition("/")[2])
        for end, name in (("source", source), ("target", target))
    }
    assert wanted == Expected(IPv4Address(own_address), known[target], on_fabric, in_tunnel, 9, mode, **ends)


def test_a_capture_with_a_gap_is_no_proof() -> None:
    wanted = Expected(POD1, POD2, True, False, 9, "routed", source_element="n1", target_element="n2")
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
