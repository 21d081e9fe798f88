"""Figures of the summary as short texts, the same in the table, the report and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

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
    """The path, with payload, build and proxy where they vary: ``cross_leaf, 1400 B, n4``; of two paths both."""
    names = set(varying)
    words = [f"{entry['path']} / {entry['denominator_path']}" if entry.get("by") == "path" else entry["path"]]
    if "numerator" in names and entry.get("by") == "proxy":
        words.append(entry["numerator"])
    words.append(entry.get("within", ""))
    if "payload_bytes" in names and entry["payload_bytes"] is not None:
        words.append(f"{entry['payload_bytes']} B")
    if "build" in names:
        words.append(entry["build"])
    return ", ".join(word for word in words if word)


def varying(entries: Sequence[Entry]) -> set[str]:
    """Which of payload, build and numerator differ among entries, and so have to be named."""
    keys = ("payload_bytes", "build", "numerator")
    return {key for key in keys if len({entry.get(key) for entry in entries} - {None}) > 1}


def sides(entries: Sequence[Entry]) -> tuple[str, str]:
    """The names of denominator and numerator, as headings over the figures of all entries."""
    found = [tuple(dict.fromkeys(entry[side] for entry in entries)) for side in ("denominator", "numerator")]
    below, above = (names[0] if len(names) == 1 else "" for names in found)
    return below or "baseline", above or "compared"


Side = Literal["numerator", "denominator"]


def side_of(document: Entry, comparison: Entry, side: Side) -> Entry | None:
    """The figures of one side of a comparison, among the arms of a summary."""
    path = comparison["denominator_path"] if side == "denominator" else comparison["path"]
    wanted = {key: comparison[key] for key in ("build", "probe", "metric", "payload_bytes")}
    wanted |= {"path": path, "arm": comparison[f"{side}_arm"]}
    return next((entry for entry in document["arms"] if wanted.items() <= entry.items()), None)


def side_value(document: Entry, comparison: Entry, side: Side) -> float | None:
    """The median, or p99 where the comparison is of that, of one of a comparison's sides."""
    entry = side_of(document, comparison, side)
    return None if entry is None else entry[comparison["statistic"]]


def rounds_text(document: Entry) -> str:
    """``12 of 12 rounds valid, 2 void attempts`` over all builds."""
    builds = document["rounds"]["builds"]
    valid, planned = sum(build["valid"] for build in builds), sum(build["planned"] for build in builds)
    void = sum(build["void"] for build in builds)
    return f"{valid} of {planned} rounds valid, {void} void attempt{'' if void == 1 else 's'}"
