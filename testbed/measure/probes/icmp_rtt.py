"""``icmp_rtt``: ``ping``, every reply as a sample."""

from __future__ import annotations

import math
import re
import time

from testbed.measure.placement import on_measuring_processor
from testbed.measure.probes.base import ANSWER_LIMIT_S, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, run_program

_REPLY = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) .*time=([\d.]+) ms", re.MULTILINE)
_SEQUENCE_NUMBERS = 1 << 16  # then they begin anew (RFC 792)
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")


def run(context: Context) -> Result:
    """Round trips in microseconds as ping prints them: whole microseconds below 1 ms, three digits above.

    Without an interval the next request leaves when the reply is there (``-i 0``). ping sends at its interval whatever
    becomes of the replies, but times each from when it was really sent.
    """
    probe = context.probe
    if context.target.endpoint is None:
        raise ProbeFailure(f"{context.target} takes TCP and UDP, and no ICMP")
    total_s = probe.duration_s + probe.warmup_s
    interval_s = (probe.interval_ms or 0) / 1000
    # ping counts its own deadline in whole seconds; for less, SIGINT ends it in order.
    limit_s = total_s + (ANSWER_LIMIT_S if interval_s else 0)
    argv = ["timeout", "--preserve-status", "-s", "INT", f"{limit_s:.3f}"]
    argv += ["ping", "-n", "-D", "-s", str(context.payload_bytes), "-W", str(ANSWER_LIMIT_S), "-i", f"{interval_s:.6f}"]
    if interval_s:
        argv += ["-c", str(max(1, math.floor(total_s / interval_s)))]
    argv = on_measuring_processor([*argv, str(context.network.address(context.target.endpoint))])
    output = run_program(context.network, context.source, argv, total_s + PROGRAM_LIMIT_S)
    ended = None if interval_s else time.time()
    lost, times_us = parse(output.decode(errors="replace"), probe.warmup_s, interrupted_at=ended)
    if not times_us:
        raise ProbeFailure(f"ping got no reply from {context.target} ({lost} lost)")
    return Result((("rtt_us", times_us),), lost, len(times_us))


def parse(output: str, warmup_s: float, interrupted_at: float | None) -> tuple[int, list[float]]:
    """ping's output: (requests without a reply, round trips in us of the replies after the warm-up).

    ``interrupted_at``: when ping was ended (seconds since the epoch) while requests may have been under way. Those
    after the last reply are then not counted as lost, unless they had the time to be answered. They may be several:
    without a reply ``-i 0`` sends again after 10 ms.
    """
    replies = [(float(when), int(sequence), float(ms)) for when, sequence, ms in _REPLY.findall(output)]
    summary = _SUMMARY.search(output)
    if summary is None:
        raise ProbeFailure("ping printed no summary")
    sent, received = int(summary[1]), int(summary[2])
    if interrupted_at is not None and replies and interrupted_at - replies[-1][0] < ANSWER_LIMIT_S:
        sent -= (sent - replies[-1][1]) % _SEQUENCE_NUMBERS
    begin = replies[0][0] + warmup_s if replies else 0.0
    return sent - received, [round(ms * 1000, 3) for when, _, ms in replies if when >= begin]
