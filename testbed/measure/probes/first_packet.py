"""``first_packet``: what the first packet and the first connection pay that later ones do not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

from testbed.measure.destination import Destination, Transport, transports
from testbed.measure.placement import on_measuring_processor
from testbed.measure.probes.base import ANSWER_LIMIT_S, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, client_argv, read_line, start, stop

_METRICS: dict[Transport, str] = {"udp": "first_packet_us", "tcp": "first_connection_us"}


def run(context: Context) -> Result:
    """Empties the caches and times one exchange, a datagram and a connection in turn, until the duration is over.

    Of a Service that has a port for only one of the two protocols, that one alone.
    """
    destinations = {transport: context.echo(transport) for transport in transports(context.network, context.target)}
    if not destinations:
        raise ProbeFailure(f"{context.target} has no TCP or UDP port")
    any_destination = next(iter(destinations.values()))
    arguments = (any_destination.address, any_destination.request_port, context.source_port, context.payload_bytes)
    argv = on_measuring_processor(client_argv("first.py", *arguments, ANSWER_LIMIT_S))
    process = start(context.network, context.source, argv, stdin=subprocess.PIPE, bufsize=0)
    values: dict[str, list[float]] = {_METRICS[transport]: [] for transport in destinations}
    lost = dict.fromkeys(values, 0)
    begin = time.monotonic()
    try:
        read_line(process, PROGRAM_LIMIT_S)
        while not _done(values, lost) or time.monotonic() - begin < context.probe.duration_s:
            for transport, destination in destinations.items():
                answer = _first(context, process, transport, destination)
                if answer is None:
                    lost[_METRICS[transport]] += 1
                else:
                    values[_METRICS[transport]].append(answer)
    finally:
        stop(process)
    if not any(values.values()):
        raise ProbeFailure(f"no answer to a first packet from {context.target}")
    figures = tuple((metric, found) for metric, found in values.items() if found)
    return Result(figures, sum(lost.values()), sum(map(len, values.values())), lost_of=lost)


def _done(values: Mapping[str, Sequence[float]], lost: Mapping[str, int]) -> bool:
    return all(len(values[metric]) + lost[metric] for metric in values)


def _first(
    context: Context, process: subprocess.Popen[bytes], transport: Transport, destination: Destination
) -> float | None:
    context.network.cool(context.source, *(backend.endpoint for backend in destination.backends))
    assert process.stdin is not None
    process.stdin.write(transport.encode() + b"\n")
    return parse(read_line(process, 3 * ANSWER_LIMIT_S))


def parse(line: str) -> float | None:
    """One line of our client: microseconds, or None when no answer came. Raises :class:`ProbeFailure` otherwise."""
    if line == "lost":
        return None
    if not line.isdigit():
        raise ProbeFailure(f"first.py said {line!r}")
    return int(line) / 1000
