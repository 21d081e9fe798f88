"""summary.json: what the run says, computed from the raw samples. Figures, table, report and JUnit only show it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.analysis.cells import (
    ARMS,
    ATTEMPT,
    FLOWS,
    NO_PAYLOAD,
    SERIES,
    Series,
    cells,
    probe_label,
    samples_with_validity,
    select,
    series_of,
)
from testbed.analysis.comparisons import Comparison, compare_arms
from testbed.analysis.evidence import evidence_summary
from testbed.analysis.expectations import evaluate
from testbed.analysis.load import FORMAT, Document, Results, load
from testbed.analysis.statistics import (
    CONFIDENCE,
    EXACT_UP_TO_ROUNDS,
    RESAMPLES,
    SAMPLES_FOR_P99,
    SAMPLES_FOR_P999,
    SIGNIFICANCE,
    Interval,
    median_interval,
)
from testbed.analysis.verdict import MINIMUM_ROUNDS

_LATENCY_PROBES = ("udp_rr", "tcp_rr", "icmp_rtt", "tcp_crr", "first_packet")


def summarise(directory: str | Path) -> Document:
    """Compute the summary of a results folder, write it to its summary.json and return it.

    Raises :class:`testbed.errors.InputError` when the folder holds no readable results.
    """
    results = load(directory)
    document = summary(results)
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    (results.directory / "summary.json").write_text(text + "\n", encoding="utf-8")
    return document


def summary(results: Results, resamples: int = RESAMPLES) -> Document:
    """The summary as plain values that JSON can hold. Depends on the stored results and the experiment's seed alone."""
    experiment = results.experiment
    seed = int(experiment.get("seed", 1))
    samples = samples_with_validity(results)
    table = cells(samples, experiment)
    primary = primary_probe(experiment)
    compared = compare_arms(table, primary, seed, results.smoke, resamples)
    arms = _arms(samples, table)
    comparisons = [_comparison(item, higher_is_better(experiment, item.series)) for item in compared]
    valid = table[table["valid"]]
    evidence = evidence_summary(results, valid)
    rounds = _rounds(results)
    expectations = [evaluate(item, comparisons, arms, results.smoke) for item in experiment.get("expect") or ()]
    document = {
        "format": FORMAT,
        "experiment": results.name,
        "description": experiment.get("description", ""),
        "status": results.run.get("status", "running"),
        "smoke": results.smoke,
        "started": results.run.get("started"),
        "finished": results.run.get("finished"),
        "primary_probe": primary,
        "kernel_path": results.environment.get("kernel_path"),
        "tool_floor_us": results.environment.get("tool_floor_us"),
        "method": _method(seed, resamples),
        "rounds": rounds,
        "arms": arms,
        "comparisons": comparisons,
        "flows": _flows(samples),
        "evidence": evidence,
        "expectations": expectations,
    }
    document["outcome"] = _outcome(document)
    return document


def primary_probe(experiment: Document) -> str:
    """The label of the probe whose ratios are the primary family: the one named, or the first that measures latency."""
    if experiment.get("primary"):
        return str(experiment["primary"])
    probes = experiment.get("probes") or []
    latency = [probe for probe in probes if probe.get("kind") in _LATENCY_PROBES]
    return probe_label((latency or probes or [{}])[0])


def higher_is_better(experiment: Document, series: Series) -> bool:
    """Whether a larger figure is the better one: for rates, and where the experiment says so of its own command."""
    if series.metric.endswith(("_mbps", "_per_s")):
        return True
    labels = {probe_label(probe): probe for probe in experiment.get("probes") or ()}
    return bool(labels.get(series.probe, {}).get("higher_is_better", False))


def _method(seed: int, resamples: int) -> Document:
    return {
        "estimator": "exp of the mean over valid rounds of log(numerator / denominator), paired within the round",
        "round_figure": f"median of the round's samples; 99th percentile from {SAMPLES_FOR_P99} samples a round up",
        "interval": "BCa bootstrap over rounds",
        "resamples": resamples,
        "confidence": CONFIDENCE,
        "test": f"two-sided sign-flip test of the log-ratios, exact up to {EXACT_UP_TO_ROUNDS} rounds",
        "correction": "Holm, over the primary family",
        "significance": SIGNIFICANCE,
        "noise_floor": "largest absolute log bound of the A/A ratio's interval (routed twice a round)",
        "minimum_rounds": MINIMUM_ROUNDS,
        "seed": seed,
    }


def _number(value: float | None) -> float | None:
    """A figure for JSON: six significant digits or better, null where there is none."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")


def _place(series: Series) -> Document:
    return {
        "build": series.build,
        "probe": series.probe,
        "metric": series.metric,
        "payload_bytes": None if series.payload_bytes == NO_PAYLOAD else series.payload_bytes,
        "path": series.path,
    }


def _bounds(prefix: str, interval: Interval | None) -> Document:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{prefix}_ci_low": _number(low), f"{prefix}_ci_high": _number(high)}


def _comparison(item: Comparison, higher_better: bool) -> Document:
    return {
        **_place(item.series),
        "statistic": item.statistic,
        "numerator": item.numerator,
        "denominator": item.denominator,
        "role": item.role,
        "better": "higher" if higher_better else "lower",
        "rounds": item.rounds,
        "ratio": _number(item.ratio),
        **_bounds("ratio", item.interval),
        "p": _number(item.p),
        "p_adjusted": _number(item.p_adjusted),
        "aa_ratio": _number(item.aa_ratio),
        **_bounds("aa", item.aa_interval),
        "noise_floor": _number(item.floor),
        "verdict": item.verdict.code,
        "verdict_text": item.verdict.text,
    }


def _arms(samples: pd.DataFrame, table: pd.DataFrame) -> list[Document]:
    """Per series and arm, of all samples of its valid rounds merged: quantiles, the median's interval, loss."""
    valid = samples[samples["valid"]]
    groups = {
        key: group["value"].to_numpy() for key, group in valid.groupby([*SERIES, "arm"], observed=True, sort=False)
    }
    found = []
    for series in series_of(table):
        rows = select(table, series)
        for arm in ARMS:
            of_arm = rows[(rows["arm"] == arm) & rows["valid"]]
            if of_arm.empty:
                continue
            values = groups[(series.build, series.probe, series.metric, series.payload_bytes, series.path, arm)]
            lost = int(of_arm["lost"].sum())
            median, p99, p999 = np.quantile(values, [0.5, 0.99, 0.999])
            found.append(
                {
                    **_place(series),
                    "arm": arm,
                    "mode": str(of_arm["mode"].iloc[0]),
                    "rounds": len(of_arm),
                    "samples": int(values.size),
                    "median": _number(median),
                    **_bounds("median", median_interval(of_arm["median"])),
                    "p99": _number(p99) if values.size >= SAMPLES_FOR_P99 else None,
                    "p999": _number(p999) if values.size >= SAMPLES_FOR_P999 else None,
                    "lost": lost,
                    "loss": _number(lost / (lost + values.size)),
                }
            )
    return found


def _rounds(results: Results) -> Document:
    """Planned, valid and void rounds per build; a round that was planned but never valid is missing."""
    planned = int(results.experiment.get("rounds") or 0)
    attempts = results.rounds
    builds = [str(build["name"]) for build in results.experiment.get("builds") or ()]
    builds += [build for build in attempts["build"].dropna().unique() if build not in builds]
    per_build = []
    for build in builds:
        rows = attempts[attempts["build"] == build]
        valid = int(rows[rows["valid"] == True]["round"].nunique())  # noqa: E712 - a column, elementwise
        per_build.append(
            {
                "build": build,
                "planned": planned,
                "valid": valid,
                "void": len(rows) - int((rows["valid"] == True).sum()),  # noqa: E712
                "missing": max(0, planned - valid),
            }
        )
    void = [
        {
            "build": row["build"],
            **{key: int(row[key]) for key in ("round", "attempt")},
            "causes": list(row["causes"]) if isinstance(row["causes"], list) else [],
            "rerun_valid": bool(
                (
                    (attempts["build"] == row["build"])
                    & (attempts["round"] == row["round"])
                    & (attempts["valid"] == True)  # noqa: E712
                ).any()
            ),
        }
        for _, row in attempts[attempts["valid"] != True].iterrows()  # noqa: E712
    ]
    load_pct = attempts.loc[attempts["valid"] == True, "other_load_pct"].median()  # noqa: E712
    return {"builds": per_build, "void": void, "other_load_pct": _number(load_pct)}


def _flows(samples: pd.DataFrame) -> list[Document]:
    """Flows per bridge, per build and arm, over the valid rounds."""
    counts = samples[(samples["metric"] == FLOWS) & samples["valid"]]
    found = []
    for (build, arm), group in counts.groupby(["build", "arm"], observed=True, sort=False):
        values = group["value"]
        bridges = len(values) // max(1, len(group[ATTEMPT].drop_duplicates()))
        found.append(
            {
                "build": build,
                "arm": arm,
                "bridges": bridges,
                "minimum": int(values.min()),
                "median": _number(float(values.median())),
                "maximum": int(values.max()),
            }
        )
    return found


def _outcome(document: Document) -> Document:
    """Whether the run answers its question: ``exit_status`` 0, or 1 with the reasons."""
    reasons = [
        f"expectation not met: {item['text']} ({item['detail']})"
        for item in document["expectations"]
        if item["met"] is False
    ]
    reasons += [f"build {item['build']}: no valid round" for item in document["rounds"]["builds"] if item["valid"] == 0]
    if not document["smoke"]:
        reasons += [
            f"{_label(item)}: {item['verdict_text']}"
            for item in document["comparisons"]
            if item["role"] == "primary" and item["verdict"] == "inconclusive"
        ]
    reasons += [
        f"no packet evidence for {item['path']} in {item['arm']} (build {item['build']}) in "
        f"{item['rounds'] - item['ok_rounds']} of {item['rounds']} rounds: {'; '.join(item['problems'])}"
        for item in document["evidence"]
        if item["ok_rounds"] < item["rounds"]
    ]
    if document["status"] != "complete":
        reasons.append(f"the run ended early (status: {document['status']})")
    return {"exit_status": 1 if reasons else 0, "reasons": reasons}


def _label(item: Document) -> str:
    words = [item["probe"], item["path"], item["build"] if item["build"] != "main" else ""]
    if item["payload_bytes"] is not None:
        words.append(f"{item['payload_bytes']} bytes")
    return " ".join(word for word in words if word)
