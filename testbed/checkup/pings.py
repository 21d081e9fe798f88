"""Echo requests between places of the cluster, many at once."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from testbed.checkup.running import RunningCluster, namespace_of
from testbed.cluster.values import IPAddress, NodeNetwork
from testbed.network import netns

# Beyond so many nodes each is tried with the next one only.
_ALL_PAIRS = 8
_TIMEOUT_S = 20
ICMP_HEADERS_BYTES = 28  # IPv4 without options, and ICMP


@dataclass(frozen=True)
class Spot:
    """Where echo requests come from and go to: a pod of a node, or the node itself where it has no ready pod.

    ``name`` is as a trace is asked for it.
    """

    name: str
    namespace: str
    address: IPAddress
    node: NodeNetwork


@dataclass(frozen=True)
class Ping:
    """What ``ping`` said: whether any answer came, its average round trip (None without any), its last words."""

    answered: bool
    average_ms: float | None
    words: str


def spot_of(cluster: RunningCluster, node: NodeNetwork) -> Spot:
    """A node's place in the pod network."""
    ready = cluster.ready_pods(node.name)
    if not ready:
        return Spot(f"node/{node.name}", node.name, node.gateway_ip, node)
    pod = ready[0]
    return Spot(pod.key, namespace_of(pod), pod.pod_ip, node)


def pairs(cluster: RunningCluster) -> list[tuple[Spot, Spot]]:
    """Places of different nodes that are to reach each other, and with them all nodes."""
    spots = [spot_of(cluster, node) for node in cluster.nodes]
    if len(spots) <= _ALL_PAIRS:
        return list(combinations(spots, 2))
    return list(zip(spots, [*spots[1:], spots[0]], strict=True))


def ping_all(wanted: Mapping[str, tuple[str, IPAddress]], *options: str) -> dict[str, Ping]:
    """Ping (namespace, address) pairs side by side, by any key."""
    running = {}
    for key, (namespace, address) in wanted.items():
        argv = ["ping", "-n", "-q", *options, str(address)]
        with netns.entered(namespace):
            running[key] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = {}
    for key, process in running.items():
        said, _ = process.communicate(timeout=_TIMEOUT_S)
        found[key] = parse_ping(said, process.returncode)
    return found


def try_all(wanted: Mapping[str, tuple[str, IPAddress]], *options: str) -> dict[str, Ping]:
    """The same until an answer comes, or for a second: a link may lose packets."""
    return ping_all(wanted, "-c", "1", "-i", "0.2", "-w", "1", *options)


def parse_ping(said: str, status: int) -> Ping:
    """Read what iputils' ping prints."""
    average = re.search(r"rtt min/avg/max/mdev = [\d.]+/([\d.]+)/", said)
    lines = [line for line in said.splitlines() if line and not line.startswith(("PING", "---", "rtt", "pipe"))]
    return Ping(status == 0, float(average[1]) if average else None, "; ".join(dict.fromkeys(lines)))


def key_of(pair: Sequence[Spot]) -> str:
    return f"{pair[0].name} -> {pair[1].name}"
