"""``throughput``: one stream of iperf3, a value for every interval of 0.1 s."""

from __future__ import annotations

import json
import math
from typing import Any

from testbed.measure.probes.base import IPERF3_PORT, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, run_program

INTERVAL_S = 0.1
# RFC 9438. Linux's own default, but distributions and administrators set others, and results should not depend on that.
CONGESTION_CONTROL = "cubic"
# An interval that the end of the test cut short says little; iperf3 adds one of a few milliseconds.
_SHORTEST_S = INTERVAL_S / 2
# Intervals begin up to a few milliseconds beside the time they should.
_TOLERANCE_S = INTERVAL_S / 10


def run(context: Context) -> Result:
    """Megabit per second as the receiver got it, per interval: what a sender's socket takes fills queues first."""
    probe = context.probe
    destination = context.destination("udp" if probe.protocol == "udp" else "tcp", IPERF3_PORT)
    if len(destination.backends) > 1:
        # iperf3's connections, one to agree and one for the data, would end at different servers.
        raise ProbeFailure(f"{context.target} has {len(destination.backends)} endpoints, and iperf3 needs exactly one")
    (backend,) = destination.backends
    interval = ["-i", str(INTERVAL_S), "-J"]
    listen = ["-B", str(backend.server_ip), "-p", str(backend.server_port)]
    context.servers.ensure(backend.endpoint, ["iperf3", "-s", *listen, *interval])
    # iperf3 knows whole seconds only, and the receiver's figures come only after a test that was not interrupted.
    seconds = math.ceil(probe.warmup_s + probe.duration_s)
    argv = ["iperf3", "-c", str(destination.address), "-p", str(destination.request_port), "-t", str(seconds)]
    argv += ["--get-server-output", *interval]
    # UDP: as fast as the sender can; what counts is what arrives.
    argv += ["-u", "-b", "0"] if probe.protocol == "udp" else ["-C", CONGESTION_CONTROL]
    output = run_program(context.network, context.source, argv, seconds + PROGRAM_LIMIT_S)
    values, retransmits = parse(output.decode(errors="replace"), probe.warmup_s, probe.warmup_s + probe.duration_s)
    return Result((("throughput_mbps", values),), retransmits=retransmits)


def parse(output: str, begin_s: float, end_s: float) -> tuple[list[float], int]:
    """iperf3's JSON: (Mbit/s of each interval between two times of the test, TCP segments sent again in them).

    Raises :class:`ProbeFailure` with iperf3's own words when it failed.
    """
    try:
        document: dict[str, Any] = json.loads(output)
    except ValueError:
        raise ProbeFailure("iperf3 printed no result") from None
    if error := document.get("error"):
        raise ProbeFailure(f"iperf3: {error}")
    received = _between(document.get("server_output_json", {}), begin_s, end_s)
    if not received:
        raise ProbeFailure("iperf3 gave no interval after the warm-up")
    values = [round(interval["bits_per_second"] / 1e6, 3) for interval in received]
    return values, sum(int(interval.get("retransmits", 0)) for interval in _between(document, begin_s, end_s))


def _between(side: dict[str, Any], begin_s: float, end_s: float) -> list[dict[str, Any]]:
    """The whole intervals of one side's figures that begin between two times of the test."""
    return [
        interval["sum"]
        for interval in side.get("intervals", [])
        if begin_s - _TOLERANCE_S <= interval["sum"]["start"] < end_s - _TOLERANCE_S
        and interval["sum"]["seconds"] >= _SHORTEST_S
    ]
