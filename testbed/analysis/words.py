"""Figures of the summary as short texts, the same in the table, the report and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from testbed.analysis.metrics import figures_text, noun, unit

Entry = Mapping[str, Any]
NONE = "–"


def with_unit(value: float | None, metric: str) -> str:
    """``171 µs``; a dash where there is no figure."""
    return NONE if value is None else f"{figures_text(value)} {unit(metric)}".strip()


def ratio_text(entry: Entry) -> str:
    """``1.088 (1.084–1.093)``: a ratio with its 95% interval."""
    if entry["ratio"] is None:
        return NONE
    if entry["ratio_ci_low"] is None:
        return f"{entry['ratio']:.3f}"
    return f"{entry['ratio']:.3f} ({entry['ratio_ci_low']:.3f}–{entry['ratio_ci_high']:.3f})"


def floor_text(floor: float | None) -> str:
    """The noise floor, a factor, as a change in percent: ``±0.6%``."""
    return NONE if floor is None else f"±{(floor - 1) * 100:.1f}%"


def p_text(p: float | None) -> str:
    """A p-value with two significant digits."""
    if p is None:
        return NONE
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def time_text(moment: str | None) -> str:
    """``2026-11-20 12:30 UTC`` from an ISO 8601 time."""
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else ""


def what(entry: Entry) -> str:
    """What a comparison is about, for example ``udp_rr p99`` or ``first connection``."""
    if entry["statistic"] != "median":
        return f"{entry['probe']} {entry['statistic']}"
    if entry["metric"] in ("rtt_us", "throughput_mbps"):
        return str(entry["probe"])
    measured = noun(entry["metric"])
    return measured if entry["probe"] == "first_packet" else f"{entry['probe']}: {measured}"


def place(entry: Entry, varying: Iterable[str]) -> str:
    """The path, with payload and build where they vary: ``cross_leaf, 1400 B, n4``."""
    names = set(varying)
    words = [entry["path"]]
    if "payload_bytes" in names and entry["payload_bytes"] is not None:
        words.append(f"{entry['payload_bytes']} B")
    if "build" in names:
        words.append(entry["build"])
    return ", ".join(word for word in words if word)


def varying(entries: Sequence[Entry]) -> set[str]:
    """Which of payload and build differ among entries, and so have to be named."""
    return {key for key in ("payload_bytes", "build") if len({entry[key] for entry in entries} - {None}) > 1}


def arm_of(document: Entry, comparison: Entry, arm: str) -> Entry | None:
    """The figures of one arm of a comparison."""
    keys = ("build", "probe", "metric", "payload_bytes", "path")
    for entry in document["arms"]:
        if entry["arm"] == arm and all(entry[key] == comparison[key] for key in keys):
            found: Entry = entry
            return found
    return None


def arm_value(document: Entry, comparison: Entry, arm: str) -> float | None:
    """The median, or p99 where the comparison is of that, of one of a comparison's arms."""
    entry = arm_of(document, comparison, arm)
    return None if entry is None else entry[comparison["statistic"]]


def rounds_text(document: Entry) -> str:
    """``12 of 12 rounds valid, 2 void attempts`` over all builds."""
    builds = document["rounds"]["builds"]
    valid, planned = sum(build["valid"] for build in builds), sum(build["planned"] for build in builds)
    void = sum(build["void"] for build in builds)
    return f"{valid} of {planned} rounds valid, {void} void attempt{'' if void == 1 else 's'}"
