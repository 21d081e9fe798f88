"""MTUs: the interfaces have those of the mode, and a packet as large as a pod may send crosses the fabric whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from testbed.checkup.findings import Finding, exec_command
from testbed.checkup.pings import ICMP_HEADERS_BYTES, Ping, key_of, pairs, try_all
from testbed.checkup.running import RunningCluster, json_output, namespace_of
from testbed.cluster.identity import GATEWAY_INTERFACE, POD_INTERFACE_IN_POD
from testbed.errors import RunError
from testbed.trace.places import Places


@dataclass(frozen=True)
class End:
    """An interface of a place (as ``testbed exec`` names it; "" for one that it cannot enter), and the MTU it has and
    should have, in bytes."""

    place: str
    namespace: str
    interface: str
    mtu_bytes: int
    wanted_bytes: int


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each interface of another MTU, and for each pair between which full packets are lost."""
    small = try_all({key_of(pair): (pair[0].namespace, pair[1].address) for pair in pairs(cluster)})
    size = str(cluster.state.config.pod_mtu_bytes - ICMP_HEADERS_BYTES)
    wanted = {
        key_of(pair): (pair[0].namespace, pair[1].address)
        for pair in pairs(cluster)
        if small[key_of(pair)].answered  # else it is no question of size
    }
    full = try_all(wanted, "-M", "do", "-s", size)
    return judge(_ends(cluster), full, cluster.state.config.pod_mtu_bytes, cluster.name)


def _ends(cluster: RunningCluster) -> list[End]:
    config = cluster.state.config
    ends = []
    for node in cluster.state.nodes:
        for interface in cluster.kernel.interfaces(node.name).values():
            if interface.name == GATEWAY_INTERFACE:
                ends.append(
                    End(f"node/{node.name}", node.name, interface.name, interface.mtu_bytes, config.pod_mtu_bytes)
                )
            elif interface.kind == "veth" and interface.addresses:
                wanted = config.underlay_mtu_bytes
                ends.append(End(f"node/{node.name}", node.name, interface.name, interface.mtu_bytes, wanted))
    for name in Places(cluster.state, cluster.kernel).fabric:
        for interface in cluster.kernel.interfaces(name).values():
            if interface.kind == "veth":
                ends.append(End("", name, interface.name, interface.mtu_bytes, config.underlay_mtu_bytes))
    for pod in cluster.state.pods:
        try:
            shown = json_output(namespace_of(pod), ["ip", "-j", "link", "show", POD_INTERFACE_IN_POD])
        except RunError:
            continue  # it is being wired, or has just gone
        place = pod.key.removeprefix("default/")
        ends += [End(place, namespace_of(pod), one["ifname"], one["mtu"], config.pod_mtu_bytes) for one in shown if one]
    return ends


def judge(ends: list[End], full: Mapping[str, Ping], size_bytes: int, cluster: str) -> list[Finding]:
    """From the interfaces, and the pings of ``size_bytes`` that must not be fragmented, by pair."""
    found = []
    for end in ends:
        if end.mtu_bytes != end.wanted_bytes:
            what = f"{end.interface} in {end.namespace} has another MTU than the mode's {end.wanted_bytes}"
            argv = ("ip", "link", "set", end.interface, "mtu", str(end.wanted_bytes))
            remedy = exec_command(cluster, end.place, *argv) if end.place else f"in {end.namespace}: {' '.join(argv)}"
            found.append(Finding("mtu", "fault", what, f"ip link: mtu {end.mtu_bytes}", remedy))
    for key, ping in full.items():
        if not ping.answered:
            what = f"{key}: packets of {size_bytes} bytes are lost, small ones are not"
            evidence = f"ping -M do -s {size_bytes - ICMP_HEADERS_BYTES}: {ping.words}"
            found.append(Finding("mtu", "fault", what, evidence, "some link between them has a smaller MTU"))
    said = f"interfaces that agree: {len(ends)}; pairs that packets of {size_bytes} bytes cross between: {len(full)}"
    return found or [Finding("mtu", "ok", said)]
