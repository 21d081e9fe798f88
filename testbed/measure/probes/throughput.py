"""``throughput``: one stream of iperf3, a value for every interval of 0.1 s."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.measure.probes.base import IPERF3_PORT, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, start, stop

INTERVAL_S = 0.1
# RFC 9438. Linux's own default, but distributions and administrators set others, and results should not depend on that.
CONGESTION_CONTROL = "cubic"
# An interval that the end of the test cut short says little; iperf3 adds one of a few milliseconds.
_SHORTEST_S = INTERVAL_S / 2
# Intervals begin up to a few milliseconds beside the time they should.
_TOLERANCE_S = INTERVAL_S / 10
# A TCP test has two connections: one for control, one for data. The test's clock starts soon after the second.
_CONNECTIONS = 2
_START_S = 0.05
_POLL_S = 0.002


def run(context: Context) -> Result:
    """Megabit per second as the receiver got it (UDP) or as the sender's socket took it (TCP), per interval."""
    probe = context.probe
    interval = ["-i", str(INTERVAL_S), "-p", str(IPERF3_PORT), "-J"]
    context.servers.ensure(context.target, ["iperf3", "-s", "-B", context.address, *interval])
    seconds = probe.warmup_s + probe.duration_s
    argv = ["iperf3", "-c", context.address, "-t", str(math.ceil(seconds)), *interval]
    if probe.protocol == "udp":
        # As fast as the sender can; what counts is what arrives, so the server's figures are asked for.
        argv += ["-u", "-b", "0", "--get-server-output"]
        seconds = math.ceil(seconds)  # the server's figures come only after a test that was not interrupted
    else:
        argv += ["-C", CONGESTION_CONTROL]
    process = start(context.network, context.source, argv)
    try:
        output = _output_after(process, seconds)
    finally:
        stop(process)
    values, retransmits = parse(output.decode(errors="replace"), probe.warmup_s, probe.warmup_s + probe.duration_s)
    return Result((("throughput_mbps", values),), retransmits=retransmits)


def _output_after(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    # iperf3 knows whole seconds only; for less, a SIGINT makes it end the test in order and print its figures.
    if not float(seconds).is_integer():
        _wait_connected(process)
        try:
            return process.communicate(timeout=seconds + _START_S)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=seconds + PROGRAM_LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        raise ProbeFailure("iperf3 did not end") from None


def _wait_connected(process: subprocess.Popen[bytes]) -> None:
    """Wait until the test runs, or iperf3 has ended without."""
    deadline = time.monotonic() + PROGRAM_LIMIT_S
    table = Path(f"/proc/{process.pid}/net/tcp")
    while process.poll() is None:
        with suppress(OSError):  # it ended after poll() had looked
            if count_connections(table.read_text(), IPERF3_PORT) >= _CONNECTIONS:
                return
        if time.monotonic() > deadline:
            raise ProbeFailure("iperf3 did not connect")
        time.sleep(_POLL_S)


def count_connections(table: str, server_port: int) -> int:
    """Established connections (state 01) to a port in the text of /proc/net/tcp (proc(5))."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(row[2].endswith(f":{server_port:04X}") and row[3] == "01" for row in rows)


def parse(output: str, begin_s: float, end_s: float) -> tuple[list[float], int]:
    """iperf3's JSON: (Mbit/s of each interval between two times of the test, TCP segments sent again in them).

    Raises :class:`ProbeFailure` with iperf3's own words when it failed.
    """
    try:
        document: dict[str, Any] = json.loads(output)
    except ValueError:
        raise ProbeFailure("iperf3 printed no result") from None
    error = str(document.get("error", ""))
    if error and "interrupt" not in error:
        raise ProbeFailure(f"iperf3: {error}")
    receiver = document.get("server_output_json", document)
    kept = [
        interval["sum"]
        for interval in receiver.get("intervals", [])
        if begin_s - _TOLERANCE_S <= interval["sum"]["start"] < end_s - _TOLERANCE_S
        and interval["sum"]["seconds"] >= _SHORTEST_S
    ]
    if not kept:
        raise ProbeFailure("iperf3 gave no interval after the warm-up")
    values = [round(interval["bits_per_second"] / 1e6, 3) for interval in kept]
    return values, sum(int(interval.get("retransmits", 0)) for interval in kept)
