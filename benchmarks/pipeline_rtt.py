"""What our pipeline costs a round trip, against the fewest flows that carry the same packets over the same wires.

The flows beside it are written by hand and know nothing of pods: what comes in at one port goes out at another, nothing
is checked, rewritten or looked up (the pods' neighbour tables and the tunnel's forwarding entries name the other pod's
MAC, so that no flow has to). The two take turns in an order drawn anew each round, the pipeline twice, which gives the
noise of this very run. A figure is the mean over the rounds of the paired ratio of medians with its 95% interval.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boxed import boxed
from benchmarks.figures import Figure
from benchmarks.ours import Stopwatch
from testbed.analysis.statistics import log_ratios, ratio_intervals, ratio_of
from testbed.cluster.identity import (
    BRIDGE,
    POD_INTERFACE_IN_POD,
    TUNNEL_INTERFACE,
    TUNNEL_OF_PORT,
    pod_namespace,
    switch_namespace,
)
from testbed.cluster.values import PodNetwork
from testbed.measure.placement import SwitchPlacement
from testbed.measure.probes import exchange
from testbed.measure.probes.base import ECHO_PORT, PROGRAM_LIMIT_S
from testbed.measure.process import Servers, run_program
from testbed.network.builder import built, choose_datapath
from testbed.network.netlink import Netlink, forwarding_entry, neighbour
from testbed.network.netns import entered
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import EndpointRef
from tests.box.clusters import plan_of, pod

AT_MOST = 1.10
_ROUNDS, _CELL_S, _WARMUP_S, _PAYLOAD_BYTES = 40, 0.15, 0.05, 64
_SEED = 1
# Node of the second pod: the first's own, and one on the other leaf.
_PATHS = {"same node": "n1", "cross node, overlay": "n4"}
_ARMS = ("pipeline", "minimal", "again")

Flows = Mapping[str, str]


def figures() -> list[Figure]:
    """The ratio per path, and the pipeline's against itself."""
    found = []
    for path, node in _PATHS.items():
        medians_us = boxed(lambda node=node: _measure(node))  # type: ignore[misc]
        found.append(_figure(f"RTT, {path}: pipeline", medians_us, "minimal", AT_MOST))
        found.append(_figure(f"RTT, {path}: pipeline twice (noise)", medians_us, "again", None))
    return found


def _figure(what: str, medians_us: Mapping[str, list[float]], beside: str, at_most: float | None) -> Figure:
    logs = log_ratios(medians_us["pipeline"], medians_us[beside])
    ratio = ratio_of(logs)
    interval = ratio_intervals([logs], _SEED)[0]
    return Figure(
        what,
        statistics.median(medians_us["pipeline"]),
        "us",
        statistics.median(medians_us[beside]),
        beside,
        ratio,
        interval=None if interval is None else (interval.low, interval.high),
        target="" if at_most is None else f"<= {at_most:.2f}",
        met=None if at_most is None else ratio <= at_most,
    )


def _measure(other_node: str) -> dict[str, list[float]]:
    """Each round's median RTT in us per arm, between a pod on n1 and one on another node. Inside the box."""
    plan = plan_of("leaf_spine", [pod("client", "n1"), pod("server", other_node)], leaves=2, spines=2, nodes_per_leaf=2)
    order = random.Random(_SEED)
    medians_us: dict[str, list[float]] = {arm: [] for arm in _ARMS}
    with (
        built(plan, choose_datapath("auto"), Stopwatch()) as testbed,
        Servers(testbed) as servers,
        SwitchPlacement() as placement,
    ):
        ends = _Ends.of(testbed)
        servers.echo(ends.server_place, "udp", ECHO_PORT)
        placement.together()
        pipeline = _dump(testbed)
        minimal = ends.minimal_flows()
        for _ in range(_ROUNDS):
            for arm in order.sample(_ARMS, len(_ARMS)):
                if arm == "minimal":
                    ends.resolve_gateway(lambda _, other: other.pod_mac)
                    _install(testbed, minimal)
                else:
                    ends.resolve_gateway(lambda mine, _: testbed.state.node_by_name[mine.node_name].gateway_mac)
                    _install(testbed, {name: pipeline[name] for name in minimal})
                medians_us[arm].append(ends.median_rtt_us())
        _install(testbed, pipeline)
        assert _dump(testbed) == pipeline, "these are not the flows of the beginning"
    return medians_us


@dataclass(frozen=True)
class _Ends:
    """The two pods that are measured."""

    testbed: Testbed
    client: PodNetwork
    server: PodNetwork

    client_place = EndpointRef("pod", "default", "client")
    server_place = EndpointRef("pod", "default", "server")

    @classmethod
    def of(cls, testbed: Testbed) -> _Ends:
        by_name = {found.name: found for found in testbed.state.pods}
        return cls(testbed, by_name["client"], by_name["server"])

    def minimal_flows(self) -> Flows:
        """Two flows on each bridge concerned; and the tunnel is told where each pod's MAC is."""
        client, server = self.client, self.server
        if client.node_name == server.node_name:
            return {client.node_name: _wire(client.of_port, server.of_port)}
        for here, there in ((client, server), (server, client)):
            node = self.testbed.state.node_by_name[there.node_name]
            with entered(switch_namespace(here.node_name)), Netlink() as kernel:
                tunnel = kernel.index(TUNNEL_INTERFACE)
                kernel.request([forwarding_entry(tunnel, there.pod_mac, node.node_ip)])
        return {end.node_name: _wire(end.of_port, TUNNEL_OF_PORT) for end in (client, server)}

    def resolve_gateway(self, mac: Callable[[PodNetwork, PodNetwork], str]) -> None:
        """Tell both pods the MAC of their gateway and of each other, so that no cell waits for an answer to ARP."""
        for mine, other in ((self.client, self.server), (self.server, self.client)):
            gateway = self.testbed.state.node_by_name[mine.node_name].gateway_ip
            with entered(pod_namespace(mine.namespace, mine.name)), Netlink() as kernel:
                index = kernel.index(POD_INTERFACE_IN_POD)
                entries = [neighbour(index, gateway, mac(mine, other))]
                if mine.node_name == other.node_name:
                    entries.append(neighbour(index, other.pod_ip, other.pod_mac))
                kernel.request(entries)

    def median_rtt_us(self) -> float:
        """The median of one cell."""
        argv = exchange.command(
            "udp_rr",
            str(self.server.pod_ip),
            payload_bytes=_PAYLOAD_BYTES,
            duration_s=_CELL_S,
            warmup_s=_WARMUP_S,
        )
        sent, lost, times_ns = exchange.parse(run_program(self.testbed, self.client_place, argv, PROGRAM_LIMIT_S))
        assert lost == 0, f"{lost} of {sent} packets were lost"
        return statistics.median(times_ns) / 1e3


def _wire(one: int, other: int) -> str:
    """The flows that join two ports of a bridge."""
    return f"in_port={one},actions=output:{other}\nin_port={other},actions=output:{one}\n"


def _dump(testbed: Testbed) -> Flows:
    """Each bridge's flows, in an order that does not depend on the order in which they came."""
    dumps = {name: switch.ofctl("--no-stats", "dump-flows", BRIDGE) for name, switch in testbed.switches.items()}
    return {name: "\n".join(sorted(dump.splitlines())) for name, dump in dumps.items()}


def _install(testbed: Testbed, flows: Flows) -> None:
    for name, text in flows.items():
        file = Path(f"/run/{name}.flows")
        file.write_text(text)
        testbed.switches[name].ofctl("--bundle", "replace-flows", BRIDGE, str(file))
