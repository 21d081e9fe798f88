"""How a metric, whose name ends with its unit, and its figures are written for people."""

from __future__ import annotations

_TIMES = ("µs", "ms", "ns", "s")
_UNITS = {
    "us": "µs",
    "ms": "ms",
    "ns": "ns",
    "s": "s",
    "mbps": "Mbit/s",
    "bytes": "bytes",
    "pct": "%",
}
_NOUNS = {
    "rtt_us": "round-trip time",
    "connect_rtt_us": "connect, request and close",
    "first_packet_us": "first packet",
    "first_connection_us": "first connection",
    "throughput_mbps": "throughput",
    "request_us": "request",
    "stale_ms": "answers of removed pods after the event",
    "program_ms": "time to program an endpoint change",
}


def quantity(metric: str) -> str:
    """A metric as an axis label: ``rtt_us`` is "round-trip time (µs)"."""
    return f"{noun(metric)} ({unit(metric)})" if unit(metric) else noun(metric)


def noun(metric: str) -> str:
    """What a metric measures, without its unit: ``jitter_ms`` is "jitter", ``requests_per_s`` "requests"."""
    if metric in _NOUNS:
        return _NOUNS[metric]
    words = metric.removesuffix("_per_s") if metric.endswith("_per_s") else metric.rpartition("_")[0]
    return (words if unit(metric) else metric).replace("_", " ")


def is_time(metric: str) -> bool:
    """Whether a metric is a time, so that more of it is slower."""
    return unit(metric) in _TIMES


def unit(metric: str) -> str:
    """The unit that a metric's name ends with, as it is printed; "" where it names none."""
    return "1/s" if metric.endswith("_per_s") else _UNITS.get(metric.rpartition("_")[2], "")


def figures_text(value: float) -> str:
    """Three significant digits, thousands with a comma: 0.123, 12.3, 168, 1,230."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
