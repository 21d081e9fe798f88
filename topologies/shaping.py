"""A link's shaping as the kernel's queueing disciplines (tc-tbf(8), tc-netem(8))."""

from __future__ import annotations

from topologies.fabric import Shaping

# A bucket holds one millisecond at the link's rate, and never less than one frame of the largest MTU (9000 and header).
_BURST_S = 0.001
_SMALLEST_BURST_BYTES = 10_000
# How long a packet may wait in the buffer of a rate-limited link whose queue is not given in packets.
_BUFFER_MS = 50


def qdisc_commands(interface: str, shaping: Shaping) -> tuple[tuple[str, ...], ...]:
    """The ``tc`` commands, as argument lists, that give one interface its outgoing shaping; none for no shaping.

    With a rate, tbf is the root and netem its child: so all waiting is in netem, and ``queue_packets`` limits it.
    Jitter is a standard deviation (normal distribution).
    """
    commands: list[tuple[str, ...]] = []
    replace = ("tc", "qdisc", "replace", "dev", interface)
    parent: tuple[str, ...] = ("root",)
    if shaping.rate_mbit is not None:
        burst_bytes = max(_SMALLEST_BURST_BYTES, int(shaping.rate_mbit * 1e6 / 8 * _BURST_S))
        rate = ("rate", f"{round(shaping.rate_mbit * 1e6)}bit")
        bucket = ("burst", f"{burst_bytes}b", "latency", f"{_BUFFER_MS}ms")
        commands.append((*replace, *parent, "handle", "1:", "tbf", *rate, *bucket))
        parent = ("parent", "1:1")
    if shaping.needs_netem:
        commands.append((*replace, *parent, "handle", "10:", "netem", *_netem_options(shaping)))
    return tuple(commands)


def _netem_options(shaping: Shaping) -> tuple[str, ...]:
    options: tuple[str, ...] = ()
    if shaping.queue_packets is not None:
        options += ("limit", str(shaping.queue_packets))
    if shaping.delay_ms is not None or shaping.jitter_ms is not None:
        options += ("delay", _microseconds(shaping.delay_ms or 0.0))
    if shaping.jitter_ms:
        options += (_microseconds(shaping.jitter_ms), "distribution", "normal")
    if shaping.loss_pct is not None:
        options += ("loss", "random", f"{shaping.loss_pct:g}%")
    return options


def _microseconds(milliseconds: float) -> str:
    return f"{round(milliseconds * 1000)}us"
