"""``udp_rr``, ``tcp_rr`` and ``tcp_crr``: request and response with our own client, closed loop or at fixed times."""

from __future__ import annotations

import re
import statistics
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path

from testbed.measure.destination import Transport
from testbed.measure.interface import Network
from testbed.measure.placement import on_measuring_processor
from testbed.measure.probes.base import ANSWER_LIMIT_S, ECHO_PORT, PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, client_argv, run_program
from testbed.network.netns import entered
from testbed.spec.endpoints import EndpointRef

_HEADER = re.compile(rb"sent=(\d+) lost=(\d+) byteorder=(little|big)\n")
METRICS = {"udp_rr": "rtt_us", "tcp_rr": "rtt_us", "tcp_crr": "connect_rtt_us"}


def run(context: Context) -> Result:
    """Full round trips in microseconds, with the nanoseconds kept as decimals.

    In a closed loop of connections also how many there were a second: one after the other, so it is the mean's inverse.
    """
    kind, probe = context.probe.kind, context.probe
    protocol: Transport = "udp" if kind == "udp_rr" else "tcp"
    destination = context.echo(protocol)
    # TCP keeps a five-tuple busy after a connection (TIME-WAIT, RFC 9293 section 3.6), so there the kernel chooses.
    source_port = context.source_port if protocol == "udp" else 0
    argv = command(
        kind,
        str(destination.address),
        request_port=destination.request_port,
        source_port=source_port,
        payload_bytes=context.payload_bytes,
        duration_s=probe.duration_s,
        warmup_s=probe.warmup_s,
        interval_ms=probe.interval_ms,
    )
    limit_s = probe.duration_s + probe.warmup_s + PROGRAM_LIMIT_S
    ends = [context.source, *(backend.endpoint for backend in destination.backends)]
    sent_again = -_segments_sent_again(context.network, ends)
    sent, lost, times_ns = parse(run_program(context.network, context.source, argv, limit_s))
    if not times_ns:
        raise ProbeFailure(f"no answer from {context.target} ({sent} sent, {lost} lost)")
    # TCP hides a lost packet behind a late answer. It may also only have been late, so this alone voids nothing.
    sent_again += _segments_sent_again(context.network, ends)
    values: list[tuple[str, list[float]]] = [(METRICS[kind], [value / 1000 for value in times_ns])]
    if kind == "tcp_crr" and probe.interval_ms is None:
        values.append(("connections_per_s", [1e9 / statistics.fmean(times_ns)]))
    return Result(tuple(values), lost, len(times_ns), sent_again)


def _segments_sent_again(network: Network, ends: Iterable[EndpointRef]) -> int:
    """By the ends' namespaces, since they were made."""
    total = 0
    for namespace in {network.namespace(end) for end in ends}:
        with entered(namespace):
            total += parse_segments_sent_again(Path("/proc/thread-self/net/snmp").read_text())
    return total


def parse_segments_sent_again(snmp: str) -> int:
    """RetransSegs of the two lines ``Tcp:``, names and figures, in the text of /proc/net/snmp (RFC 4022)."""
    names, figures = (line.split() for line in snmp.splitlines() if line.startswith("Tcp:"))
    return int(figures[names.index("RetransSegs")])


def command(
    kind: str,
    address: str,
    *,
    request_port: int = ECHO_PORT,
    payload_bytes: int,
    duration_s: float,
    warmup_s: float,
    source_port: int = 0,
    interval_ms: float | None = None,
) -> list[str]:
    """The command line of our client; the words are explained in its own file."""
    fixed = (kind, address, request_port, source_port, payload_bytes)
    return on_measuring_processor(
        client_argv("exchange.py", *fixed, duration_s, warmup_s, interval_ms or 0, ANSWER_LIMIT_S)
    )


def parse(output: bytes) -> tuple[int, int, array[int]]:
    """Our client's output: (sent, lost, round trips in ns). Raises :class:`ProbeFailure` when it is not that."""
    header = _HEADER.match(output)
    body = output[header.end() :] if header else b""
    times = array("q")
    if header is None or len(body) % times.itemsize:
        raise ProbeFailure("the client's output is cut off")
    times.frombytes(body)
    if header[3].decode() != sys.byteorder:
        times.byteswap()
    return int(header[1]), int(header[2]), times
