"""Whether a run can be believed: what is checked before measuring, and what makes a round void (rules 1, 9 and 10)."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster import identity
from testbed.cluster.values import Mode
from testbed.errors import RunError
from testbed.measure.interface import Network
from testbed.network.netns import entered
from testbed.spec.endpoints import EndpointRef

STEAL_LIMIT_PCT = 2.0
OTHER_LOAD_LIMIT_PCT = 10.0
# The userspace datapath polls all ports of a vswitchd in one thread: above this, idle ports alone lengthen round trips.
PORTS_PER_VSWITCHD_LIMIT = 25

# netdevice(7): struct ifreq with the name and the MTU as an int.
_IFREQ, _SIOCGIFMTU = struct.Struct("16si20x"), 0x8921

Counters = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class CpuTimes:
    """Clock ticks of all processors since boot, from the first line of /proc/stat (proc(5)).

    ``busy``: neither idle nor taken by the hypervisor. ``box``: the part of it that the box's own processes spent.
    """

    total: int
    steal: int
    busy: int
    box: int


def read_cpu_times() -> CpuTimes:
    """The machine's processor times now. Inside the box /proc shows the processes of the box only."""
    processes = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile; its parent has its time once it has been waited for
            processes.append(file.read_text())
    return parse_cpu_times(Path("/proc/stat").read_text(), processes)


def parse_cpu_times(stat: str, processes: Iterable[str]) -> CpuTimes:
    """user, nice, system, idle, iowait, irq, softirq and steal add up to all time; guest is part of user already.

    ``processes``: /proc/PID/stat of each; fields 14 to 17 are its own time and that of children it has waited for.
    """
    ticks = [int(field) for field in stat.splitlines()[0].split()[1:9]]
    # The name, in parentheses, may contain anything; field 3 is the first after it.
    box = sum(int(field) for text in processes for field in text.rpartition(")")[2].split()[11:15])
    total, idle, steal = sum(ticks), ticks[3] + ticks[4], ticks[7]
    return CpuTimes(total, steal, total - idle - steal, box)


def steal_pct(before: CpuTimes, after: CpuTimes) -> float:
    """Percentage of all processor time between two readings that the hypervisor gave to others."""
    total = after.total - before.total
    return 100.0 * (after.steal - before.steal) / total if total > 0 else 0.0


def other_load_pct(before: CpuTimes, after: CpuTimes) -> float:
    """Percentage of all processor time between two readings that programs outside the box used."""
    total = after.total - before.total
    other = (after.busy - before.busy) - (after.box - before.box)
    return 100.0 * max(other, 0) / total if total > 0 else 0.0


def other_load_note(percent: float) -> str | None:
    """What to tell the user when the machine is not the experiment's own. It voids nothing: the modes share it."""
    if percent <= OTHER_LOAD_LIMIT_PCT:
        return None
    return f"other programs used {percent:.0f}% of the processors: round trips are longer and the noise floor is higher"


def steal_causes(percent: float) -> list[str]:
    """The cause for a void round, if the hypervisor took too much."""
    if percent <= STEAL_LIMIT_PCT:
        return []
    return [f"the hypervisor took {percent:.1f}% of the processor time (limit {STEAL_LIMIT_PCT:g}%)"]


def lost_causes(lost: int, probe: str, path: str) -> list[str]:
    """The cause for a void round, if probes were lost; for experiments that configure no loss."""
    return [f"{probe} on {path}: {lost} lost, where no loss is configured"] if lost else []


def counter_causes(before: Counters, after: Counters, mode: Mode, tunnelled_exchanges: int) -> list[str]:
    """Causes for a void round in the bridges' counters around one arm.

    ``tunnelled_exchanges``: how many exchanges of the arm had to cross the tunnels, each once in both directions.
    """
    causes = []
    lost = _moved(before, after, "lost_upcalls")
    if lost:
        causes.append(f"{lost} upcalls lost by the datapath")
    sent = _moved(before, after, "tunnel_tx_packets")
    if mode == "routed" and sent:
        causes.append(f"{sent} packets left through tunnels in routed mode")
    if mode == "overlay" and sent < 2 * tunnelled_exchanges:
        causes.append(
            f"the bridges count {sent} packets into tunnels, at least {2 * tunnelled_exchanges} were measured"
        )
    return causes


def _moved(before: Counters, after: Counters, counter: str) -> int:
    """How far a counter moved on all nodes; one that is lower began again at 0, with the daemon of a node."""
    moves = ((before[node][counter], after[node][counter]) for node in after)
    return sum(last - first if last >= first else last for first, last in moves)


def check_pod_mtus(network: Network, pods: Iterable[EndpointRef], mtu_bytes: int) -> None:
    """Raises :class:`RunError` when a measured pod has another MTU than the arm says: the ends must agree."""
    for pod in pods:
        with entered(network.namespace(pod)):
            found = _mtu_bytes(identity.POD_INTERFACE_IN_POD)
        if found != mtu_bytes:
            raise RunError(f"{pod} has an MTU of {found} bytes, not {mtu_bytes}")


def _mtu_bytes(interface: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = _IFREQ.pack(interface.encode(), 0)
        return int(_IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFMTU, request))[1])


def preflight(network: Network) -> list[str]:
    """Check the built network before anything is measured; returns what should be known though it prevents nothing.

    Raises :class:`RunError` when offloads or MTUs would make the figures wrong.
    """
    return judge_network(network.datapath, network.describe())


def judge_network(datapath: str, facts: Mapping[str, object]) -> list[str]:
    """The decision of :func:`preflight`. Pure; ``facts`` as :meth:`Network.describe` gives them."""
    offloads = facts.get("transmit_checksum_offload")
    if datapath == "netdev" and isinstance(offloads, dict):
        on = sorted(name for name, enabled in offloads.items() if enabled)
        if on:
            raise RunError(
                "transmit checksum offload is on, with which TCP does not work through the userspace datapath: "
                + ", ".join(on)
            )
    ports = facts.get("ports_per_vswitchd")
    warnings = []
    if datapath == "netdev" and isinstance(ports, dict):
        crowded = {node: count for node, count in ports.items() if count > PORTS_PER_VSWITCHD_LIMIT}
        if crowded:
            most = max(crowded.values())
            warnings.append(
                f"{len(crowded)} nodes have more than {PORTS_PER_VSWITCHD_LIMIT} ports (up to {most}) in the "
                "userspace datapath, where idle ports lengthen round trips: compare equal numbers of ports (idle_ports)"
            )
    return warnings
