"""``first_packet``: what the first packet and the first connection pay that later ones do not."""

from __future__ import annotations

import subprocess
import time

from testbed.measure.placement import on_measuring_processor
from testbed.measure.probes.base import ANSWER_LIMIT_S, ECHO_PORT, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, client_argv, read_line, start, stop

_METRICS = {"udp": "first_packet_us", "tcp": "first_connection_us"}


def run(context: Context) -> Result:
    """Empties the caches and times one exchange, a datagram and a connection in turn, until the duration is over."""
    for protocol in _METRICS:
        context.servers.echo(context.target, protocol, ECHO_PORT)
    arguments = (context.address, ECHO_PORT, context.source_port, context.payload_bytes, ANSWER_LIMIT_S)
    argv = on_measuring_processor(client_argv("first.py", *arguments))
    process = start(context.network, context.source, argv, stdin=subprocess.PIPE, bufsize=0)
    values: dict[str, list[float]] = {metric: [] for metric in _METRICS.values()}
    lost, begin = 0, time.monotonic()
    try:
        read_line(process, PROGRAM_LIMIT_S)
        while not lost + sum(map(len, values.values())) or time.monotonic() - begin < context.probe.duration_s:
            for protocol, metric in _METRICS.items():
                answer = _first(context, process, protocol)
                if answer is None:
                    lost += 1
                else:
                    values[metric].append(answer)
    finally:
        stop(process)
    if not any(values.values()):
        raise ProbeFailure(f"no answer to a first packet from {context.target}")
    exchanges = sum(map(len, values.values()))
    return Result(tuple((metric, figures) for metric, figures in values.items() if figures), lost, exchanges)


def _first(context: Context, process: subprocess.Popen[bytes], protocol: str) -> float | None:
    context.network.cool(context.source, context.target)
    assert process.stdin is not None
    process.stdin.write(protocol.encode() + b"\n")
    return parse(read_line(process, 3 * ANSWER_LIMIT_S))


def parse(line: str) -> float | None:
    """One line of our client: microseconds, or None when no answer came. Raises :class:`ProbeFailure` otherwise."""
    if line == "lost":
        return None
    if not line.isdigit():
        raise ProbeFailure(f"first.py said {line!r}")
    return int(line) / 1000
