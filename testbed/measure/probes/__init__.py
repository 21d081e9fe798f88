"""The probes, one file each: a pure ``parse`` and a thin ``run``. :data:`PROBES` says which kind is run by which."""

from __future__ import annotations

from collections.abc import Callable

from testbed.measure.probes import (
    command,
    exchange,
    first_packet,
    flow_count,
    http,
    icmp_rtt,
    program,
    sockperf,
    throughput,
)
from testbed.measure.probes.base import Context, Result

PROBES: dict[str, Callable[[Context], Result]] = {
    "icmp_rtt": icmp_rtt.run,
    "udp_rr": exchange.run,
    "tcp_rr": exchange.run,
    "tcp_crr": exchange.run,
    "http": http.run,
    "throughput": throughput.run,
    "first_packet": first_packet.run,
    "flow_count": flow_count.run,
    "program": program.run,
    "command": command.run,
}

# They measure time, so everything on the way shares one processor (see testbed.measure.placement). Not http: the pods'
# own servers, which answer it, run where the scheduler puts them.
LATENCY_KINDS = frozenset({"icmp_rtt", "udp_rr", "tcp_rr", "tcp_crr", "first_packet"})


def run_probe(context: Context) -> Result:
    """Run one cell. Raises :class:`testbed.measure.process.ProbeFailure` with the cause when it gives no figures."""
    run = sockperf.run if context.probe.tool == "sockperf" else PROBES[context.probe.kind]
    return run(context)
