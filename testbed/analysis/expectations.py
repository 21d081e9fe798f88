"""Whether the result is what the experiment's author expected."""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]

_RATIO_FIELDS = {"ratio": "ratio", "ratio_ci_low": "ratio_ci_low", "ratio_ci_high": "ratio_ci_high"}
_NOUNS = {
    "ratio": "ratio{pair}",
    "ratio_ci_low": "lower bound of the ratio{pair}",
    "ratio_ci_high": "upper bound of the ratio{pair}",
    "median": "median",
    "p99": "99th percentile",
    "loss": "loss",
}


def evaluate(expectation: Entry, comparisons: list[Entry], arms: list[Entry], smoke: bool = False) -> Entry:
    """One expectation with ``met`` (true, false, or null when a smoke run cannot judge it) and the figures
    ``observed``.

    An expectation that names no build, path or payload speaks about all of them and is met when every one of them
    meets it. One that nothing was measured for is not met. ``comparisons`` and ``arms`` are those of the summary.
    """
    statistic = expectation.get("statistic", "ratio")
    if statistic in _RATIO_FIELDS:
        rows = [row for row in comparisons if row["headline"] and row["statistic"] == "median"]
        field = _RATIO_FIELDS[statistic]
    else:
        rows = [row for row in arms if not row["control"]]
        field = statistic
    rows = [row for row in rows if row["probe"] == expectation["probe"]]
    pairs = {f" {row['numerator']}/{row['denominator']}" for row in rows} if statistic in _RATIO_FIELDS else set()
    observed = []
    for row in rows:
        if any(expectation.get(key) not in (None, row[key]) for key in _KEYS):
            continue
        place = {key: row[key] for key in ("build", "path", "payload_bytes", "metric")}
        where = {**place, "arm": row["arm"] if "arm" in row else _which(row, pairs)}
        observed.append({**where, "value": row[field], "met": _holds(expectation, row[field])})
    if smoke:
        met, detail = None, "not judged (smoke)"
    elif not observed:
        met, detail = False, "nothing was measured that it speaks about"
    else:
        met = all(entry["met"] for entry in observed)
        detail = "; ".join(_observed_text(entry) for entry in observed)
    return {
        "text": expectation_text(expectation, pairs.pop() if len(pairs) == 1 else ""),
        "met": met,
        "detail": detail,
        "observed": observed,
        "expected": expectation,
    }


def _which(row: Entry, pairs: set[str]) -> str:
    """What tells a ratio from the others of its path: what is compared, where that varies, and in what."""
    return " ".join(filter(None, (row["numerator"] if len(pairs) > 1 else "", row["within"])))


def expectation_text(expectation: Entry, pair: str = "") -> str:
    """An expectation as a sentence, for example ``udp_rr: ratio overlay/routed on cross_leaf at most 1.5``.

    ``pair`` names what the ratio is of, with a space before it, where it is of one pair only.
    """
    statistic = expectation.get("statistic", "ratio")
    words = [f"{expectation['probe']}: {_NOUNS[statistic].format(pair=pair)}"]
    words += [f"in {expectation[key]}" for key in ("mode", "proxy") if expectation.get(key)]
    words.append(f"on {expectation['path']}" if expectation.get("path") else "on every path")
    if expectation.get("payload_bytes") is not None:
        words.append(f"with {expectation['payload_bytes']} bytes")
    if expectation.get("build"):
        words.append(f"in build {expectation['build']}")
    bounds = [f"{word} {expectation[key]:g}" for key, word in _BOUNDS if expectation.get(key) is not None]
    return " ".join([*words, " and ".join(bounds)])


_KEYS = ("build", "path", "payload_bytes", "mode", "proxy")
_BOUNDS = (("at_least", "at least"), ("at_most", "at most"))


def _holds(expectation: Entry, value: float | None) -> bool:
    if value is None:
        return False
    low, high = expectation.get("at_least"), expectation.get("at_most")
    return (low is None or value >= low) and (high is None or value <= high)


def _observed_text(entry: Entry) -> str:
    value = "not available" if entry["value"] is None else f"{entry['value']:.4g}"
    build = "" if entry["build"] == "main" else entry["build"]
    place = " ".join(word for word in (build, entry["path"], entry.get("arm", "")) if word)
    payload = f" {entry['payload_bytes']} bytes" if entry["payload_bytes"] is not None else ""
    return f"{place}{payload}: {value}"
