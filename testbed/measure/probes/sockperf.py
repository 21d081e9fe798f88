"""``udp_rr`` with ``tool: sockperf``: the same figure from a program that others know, to check our client against."""

from __future__ import annotations

import math
import re

from testbed.measure.placement import on_measuring_processor
from testbed.measure.probes.base import PROGRAM_LIMIT_S, SOCKPERF_PORT, Context, Result
from testbed.measure.process import ProbeFailure, run_program

# A line of --full-log: packet number, time of sending and of receiving in s, "latency" in us: half the round trip.
_PACKET = re.compile(rb"^(\d+), (\d+)\.(\d{9}), (\d+)\.(\d{9}), [\d.]+$", re.MULTILINE)
_DROPPED = re.compile(rb"# dropped messages = (\d+)")
# sockperf 3.7: sleep(2) before it begins; leaves out the first 400 ms and the last 50 ms (src/client.cpp, src/defs.h).
_IDLE_S, _LEFT_OUT_S = 2.0, 0.45


def run(context: Context) -> Result:
    """Full round trips in microseconds, computed from sockperf's own times of sending and receiving.

    The log, not the summary: what the summary calls latency is half of the round trip.
    """
    network = context.network
    destination = context.destination("udp", SOCKPERF_PORT)
    for backend in destination.backends:
        context.servers.ensure(backend.endpoint, server_argv(str(backend.server_ip), backend.server_port))
    seconds = math.ceil(context.probe.duration_s + _LEFT_OUT_S)
    argv = client_argv(
        str(destination.address), seconds, context.payload_bytes, context.source_port, destination.request_port
    )
    output = run_program(network, context.source, argv, seconds + _IDLE_S + PROGRAM_LIMIT_S)
    lost, times_us = parse(output)
    if not times_us:
        raise ProbeFailure(f"sockperf got no answer from {context.target}")
    return Result((("rtt_us", times_us),), lost, len(times_us))


def server_argv(address: str, server_port: int = SOCKPERF_PORT) -> list[str]:
    """sockperf as a server."""
    return on_measuring_processor(["sockperf", "server", "-i", address, "-p", str(server_port)])


def client_argv(
    address: str, seconds: int, payload_bytes: int, source_port: int = 0, request_port: int = SOCKPERF_PORT
) -> list[str]:
    """sockperf as a client for whole seconds, with its log of every packet on standard output."""
    argv = ["sockperf", "ping-pong", "-i", address, "-p", str(request_port), "-t", str(seconds)]
    argv += ["-m", str(payload_bytes), "--client_port", str(source_port), "--full-log", "/dev/stdout"]
    return on_measuring_processor(argv)


def parse(output: bytes) -> tuple[int, list[float]]:
    """sockperf's output with the full log in it: (dropped messages, round trips in us to 3 decimals)."""
    dropped = _DROPPED.search(output)
    times = []
    for _, sent_s, sent_ns, received_s, received_ns in _PACKET.findall(output):
        round_trip_ns = (int(received_s) - int(sent_s)) * 1_000_000_000 + int(received_ns) - int(sent_ns)
        times.append(round_trip_ns / 1000)
    return int(dropped[1]) if dropped else 0, times
