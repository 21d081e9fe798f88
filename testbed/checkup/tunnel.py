"""The overlay's VXLAN devices: there, up, in the right network, with an entry for every other node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from testbed.checkup.findings import Finding, exec_command
from testbed.checkup.running import RunningCluster
from testbed.cluster.identity import TUNNEL_INTERFACE, switch_namespace
from testbed.cluster.values import NodeNetwork
from testbed.network.openvswitch import DAEMON_PID_FILE


@dataclass(frozen=True)
class TunnelFacts:
    """A node's VXLAN device. ``forwarding``: where it sends a MAC's frames, by the MAC. ``daemon``: the process id of
    the node's ovs-vswitchd, which is in the same namespace."""

    node: str
    there: bool
    up: bool = False
    vni: int = 0
    forwarding: Mapping[str, str] = field(default_factory=dict)
    daemon: int = 0


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each device that cannot carry its node's traffic; nothing to say of a routed cluster."""
    if cluster.state.config.mode != "overlay":
        return []
    facts = [_look_at(cluster, node) for node in cluster.state.nodes]
    return judge(facts, cluster.state.nodes, cluster.state.config.vni, cluster.name)


def _look_at(cluster: RunningCluster, node: NodeNetwork) -> TunnelFacts:
    device = cluster.kernel.interfaces(switch_namespace(node.name)).get(TUNNEL_INTERFACE)
    if device is None:
        return TunnelFacts(node.name, False)
    forwarding = {}
    for other in cluster.state.nodes:
        entries = cluster.kernel.forwarding(device, other.vtep_mac)
        if other != node and entries:
            forwarding[other.vtep_mac] = str(entries[0].get("dst", ""))
    daemon = int((cluster.switches[node.name].directory / DAEMON_PID_FILE).read_text())
    return TunnelFacts(node.name, True, device.up, int(device.vxlan.get("id", 0)), forwarding, daemon)


def judge(facts: list[TunnelFacts], nodes: tuple[NodeNetwork, ...], vni: int, cluster: str) -> list[Finding]:
    """What is wrong with the devices of these nodes in the network ``vni``."""
    found = []
    for one in facts:
        space = switch_namespace(one.node)
        where = f"VXLAN device {TUNNEL_INTERFACE} of {one.node}"
        if not one.there:
            remedy = "a device that was deleted is made only with the cluster: testbed down, testbed up"
            found.append(Finding("tunnel", "fault", f"{where} is not there", f"namespace {space}", remedy))
            continue
        if not one.up:
            remedy = _command(one, cluster, "ip", "link", "set", TUNNEL_INTERFACE, "up")
            found.append(Finding("tunnel", "fault", f"{where} is down", f"ip link in namespace {space}", remedy))
        if one.vni != vni:
            remedy = "testbed down, testbed up"
            found.append(
                Finding("tunnel", "fault", f"{where} is in another network", f"VNI {one.vni} not {vni}", remedy)
            )
        for other in nodes:
            known = one.forwarding.get(other.vtep_mac)
            if other.name != one.node and known != str(other.node_ip):
                what = f"{where} does not know the way to {other.name}"
                evidence = f"{other.vtep_mac} dst {known or 'missing'}, not {other.node_ip}"
                entry = (other.vtep_mac, "dev", TUNNEL_INTERFACE, "dst", str(other.node_ip), "self", "permanent")
                remedy = _command(one, cluster, "bridge", "fdb", "replace", *entry)
                found.append(Finding("tunnel", "fault", what, evidence, remedy))
    return found or [Finding("tunnel", "ok", f"VXLAN devices that are up and know all nodes: {len(facts)}")]


def _command(one: TunnelFacts, cluster: str, *argv: str) -> str:
    """What runs a command beside the device: its namespace has no name where ``testbed exec`` leads."""
    return exec_command(cluster, f"node/{one.node}", "nsenter", f"--net=/proc/{one.daemon}/ns/net", *argv)
