"""What a Service's address costs by OpenFlow: a round trip against one to the pod itself, and the first connection when
there are many Services.

*Round trips*: one server in one pod is asked at its pod's address, at a port that no Service has, and through a
Service. The two take turns in an order drawn anew each round, the pod's address twice, which gives this run's noise.

*First connections*: caches are emptied before each (see the probe ``first_packet``). The cluster is filled up to 10,000
Services and emptied to 10 again in turn, so that a drift of the machine meets both; each turn is a round.

A figure is the mean over the rounds of the paired ratio of medians with its 95% interval.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.boxed import boxed
from benchmarks.figures import Figure
from benchmarks.ours import Stopwatch
from testbed.analysis.statistics import log_ratios, ratio_intervals, ratio_of
from testbed.cluster.kinds import ENDPOINT_SLICE, SERVICE
from testbed.cluster.namespaces import namespace_object
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.values import MODES, Mode
from testbed.measure.placement import SwitchPlacement
from testbed.measure.probes import exchange, first_packet
from testbed.measure.probes.base import PROGRAM_LIMIT_S, Context, serve_echo
from testbed.measure.process import Servers, run_program
from testbed.network.builder import built, choose_datapath
from testbed.network.testbed import Testbed
from testbed.spec import filler
from testbed.spec.endpoints import EndpointRef, parse_target
from testbed.spec.models import Generate, Probe
from tests.box.clusters import plan_of, pod

AT_MOST = 1.10
_ROUNDS, _CELL_S, _WARMUP_S, _PAYLOAD_BYTES = 40, 0.15, 0.05, 64
_TURNS, _TURN_S = 10, 0.5
_FEW, _MANY = 10, 10_000
_SEED = 1
_CLIENT, _SERVER = EndpointRef("pod", "default", "client"), EndpointRef("pod", "default", "server")
_VIP, _POD = parse_target("service/echo:7000"), parse_target("server:7001")
_ARMS = {"vip": _VIP, "pod": _POD, "again": _POD}


def figures() -> list[Figure]:
    """The ratio per mode with its noise, and that of first connections."""
    found = []
    for mode in MODES:
        medians_us = boxed(lambda mode=mode: _round_trips(mode))  # type: ignore[misc]
        found.append(_figure(f"RTT, {mode}: VIP", medians_us["vip"], medians_us["pod"], "pod IP", AT_MOST))
        found.append(
            _figure(f"RTT, {mode}: pod IP twice (noise)", medians_us["again"], medians_us["pod"], "pod IP", None)
        )
    medians_us = boxed(_first_connections)
    what = f"first connection, {_MANY:,} Services"
    found.append(_figure(what, medians_us["many"], medians_us["few"], f"{_FEW} Services", AT_MOST))
    return found


def _figure(
    what: str, above_us: Sequence[float], below_us: Sequence[float], beside: str, at_most: float | None
) -> Figure:
    """A ratio above the target whose interval still reaches down to it cannot be told from noise and is not judged."""
    logs = log_ratios(above_us, below_us)
    ratio = ratio_of(logs)
    interval = ratio_intervals([logs], _SEED)[0]
    met = None
    if at_most is not None and (ratio <= at_most or interval is None or interval.low > at_most):
        met = ratio <= at_most
    return Figure(
        what,
        statistics.median(above_us),
        "us",
        statistics.median(below_us),
        beside,
        ratio,
        interval=None if interval is None else (interval.low, interval.high),
        target="" if at_most is None else f"<= {at_most:.2f}",
        met=met,
    )


@contextmanager
def _cluster(protocols: Sequence[str]) -> Iterator[Testbed]:
    """A client and a server two leaves apart, and a Service before the server."""
    server = pod("server", "n4")
    server["metadata"]["labels"] = {"app": "echo"}
    ports = [{"name": protocol.lower(), "protocol": protocol, "port": 7000} for protocol in protocols]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo"},
        "spec": {"selector": {"app": "echo"}, "ports": ports},
    }
    plan = plan_of("leaf_spine", [pod("client", "n1"), server, service], leaves=2, spines=2, nodes_per_leaf=2)
    with built(plan, choose_datapath("auto"), Stopwatch()) as testbed:
        testbed.wait_pods_ready()
        testbed.wait_settled()
        yield testbed


def _round_trips(mode: Mode) -> Mapping[str, list[float]]:
    """Each round's median RTT in us, per arm. Inside the box."""
    order = random.Random(_SEED)
    medians_us: dict[str, list[float]] = {arm: [] for arm in _ARMS}
    with _cluster(["UDP"]) as testbed, Servers(testbed) as servers, SwitchPlacement() as placement:
        testbed.set_mode(mode)
        placement.together()
        for _ in range(_ROUNDS):
            for arm in order.sample(list(_ARMS), len(_ARMS)):
                medians_us[arm].append(_median_rtt_us(testbed, servers, arm))
    return medians_us


def _median_rtt_us(testbed: Testbed, servers: Servers, arm: str) -> float:
    destination = serve_echo(testbed, servers, _ARMS[arm], "udp")
    argv = exchange.command(
        "udp_rr",
        str(destination.address),
        request_port=destination.request_port,
        payload_bytes=_PAYLOAD_BYTES,
        duration_s=_CELL_S,
        warmup_s=_WARMUP_S,
    )
    sent, lost, times_ns = exchange.parse(run_program(testbed, _CLIENT, argv, PROGRAM_LIMIT_S))
    assert lost == 0, f"{lost} of {sent} packets were lost"
    return statistics.median(times_ns) / 1e3


def _first_connections() -> Mapping[str, list[float]]:
    """Each turn's median in us, with few and with many Services. Inside the box."""
    medians_us: dict[str, list[float]] = {"few": [], "many": []}
    with _cluster(["TCP"]) as testbed, Servers(testbed) as servers, SwitchPlacement() as placement:
        others = _others(testbed)
        kept = 2 * (_FEW - 1)  # each a Service and its slice
        testbed.store.create(namespace_object(filler.NAMESPACE))
        testbed.apply(others[:kept])
        testbed.wait_programmed()
        placement.together()
        for _ in range(_TURNS):
            medians_us["few"].append(_first_connection_us(testbed, servers))
            testbed.apply(others[kept:])
            testbed.wait_programmed()
            medians_us["many"].append(_first_connection_us(testbed, servers))
            for wire in others[kept:]:
                kind = SERVICE if wire["kind"] == "Service" else ENDPOINT_SLICE
                testbed.store.delete(kind, object_name(wire), filler.NAMESPACE)
            testbed.wait_settled()
    return medians_us


def _others(testbed: Testbed) -> list[JsonObject]:
    """All Services but the one that is measured, each before its slice."""
    generate = Generate(services=_MANY - 1, endpoints=1)
    pods: list[Any] = filler.filler_pods(testbed.plan.pods)
    slices = filler.filler_slices(generate, pods)
    return [wire for pair in zip(filler.filler_services(generate), slices, strict=True) for wire in pair]


def _first_connection_us(testbed: Testbed, servers: Servers) -> float:
    probe = Probe.model_validate({"kind": "first_packet", "duration_s": _TURN_S})
    result = first_packet.run(Context(testbed, servers, probe, _CLIENT, _VIP, _PAYLOAD_BYTES, 0))
    return statistics.median(dict(result.values)["first_connection_us"])
