"""``icmp_rtt``: ``ping``, every reply as a sample."""

from __future__ import annotations

import math
import re

from testbed.measure.probes.base import ANSWER_LIMIT_S, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, run_program

_REPLY = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=\d+ .*time=([\d.]+) ms", re.MULTILINE)
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")
_CLOSED_LOOP_RATE = 200_000  # more replies a second than any path here can give; a limit to the count only


def run(context: Context) -> Result:
    """Round trips in microseconds as ping prints them: whole microseconds below 1 ms, three digits above.

    Without an interval the next request leaves when the reply is there (``-i 0``). ping sends at its interval whatever
    becomes of the replies, but times each from when it was really sent.
    """
    probe = context.probe
    total_s = probe.duration_s + probe.warmup_s
    argv = ["ping", "-n", "-D", "-s", str(context.payload_bytes), "-W", str(ANSWER_LIMIT_S)]
    if probe.interval_ms:
        argv += [
            "-i",
            f"{probe.interval_ms / 1000:.6f}",
            "-c",
            str(max(1, math.floor(total_s * 1000 / probe.interval_ms))),
        ]
    else:
        argv += ["-i", "0", "-c", str(math.ceil(total_s * _CLOSED_LOOP_RATE))]
    # ping counts its deadline in whole seconds; for less, a SIGINT makes it print its summary.
    argv = [
        "timeout",
        "--preserve-status",
        "-s",
        "INT",
        f"{total_s + (ANSWER_LIMIT_S if probe.interval_ms else 0):.3f}",
        *argv,
    ]
    argv.append(context.address)
    output = run_program(context.network, context.source, argv, total_s + PROGRAM_LIMIT_S)
    lost, times_us = parse(output.decode(errors="replace"), probe.warmup_s)
    if not times_us:
        raise ProbeFailure(f"ping got no reply from {context.target} ({lost} lost)")
    return Result((("rtt_us", times_us),), lost, len(times_us))


def parse(output: str, warmup_s: float) -> tuple[int, list[float]]:
    """ping's output: (requests without a reply, round trips in us of the replies after the warm-up)."""
    replies = [(float(when), float(milliseconds)) for when, milliseconds in _REPLY.findall(output)]
    summary = _SUMMARY.search(output)
    lost = int(summary[1]) - int(summary[2]) if summary else 0
    begin = replies[0][0] + warmup_s if replies else 0.0
    return lost, [round(milliseconds * 1000, 3) for when, milliseconds in replies if when >= begin]
