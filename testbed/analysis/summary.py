"""summary.json: what the run says, computed from the raw samples. Figures, table, report and JUnit only show it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.analysis.cells import (
    ATTEMPT,
    COUNTS,
    FAILED,
    FLOWS,
    NO_PAYLOAD,
    SERIES,
    STALE,
    Series,
    cells,
    probe_label,
    samples_with_validity,
    select,
    series_of,
)
from testbed.analysis.comparisons import Comparison, compare_arms, denominator_series
from testbed.analysis.contrasts import Plan
from testbed.analysis.events import event_costs, event_expectations
from testbed.analysis.evidence import evidence_summary
from testbed.analysis.expectations import evaluate
from testbed.analysis.load import Document, Results, load
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
from testbed.stored import FORMAT

_LATENCY_PROBES = ("udp_rr", "tcp_rr", "icmp_rtt", "tcp_crr", "first_packet", "http")


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
    plan = results.plan
    compared = compare_arms(table, plan.contrasts, primary, seed, results.smoke, resamples)
    arms = _arms(samples, table, plan)
    comparisons = [_comparison(item, plan, higher_is_better(experiment, item.series)) for item in compared]
    valid = table[table["valid"]]
    evidence = evidence_summary(results, valid)
    rounds = _rounds(results)
    expectations = [evaluate(item, comparisons, arms, results.smoke) for item in experiment.get("expect") or ()]
    events = event_costs(results)
    expectations += event_expectations(experiment, events, results.smoke)
    document = {
        "format": FORMAT,
        "experiment": results.name,
        "description": experiment.get("description", ""),
        "status": results.run.get("status", "running"),
        "smoke": results.smoke,
        "started": results.run.get("started"),
        "finished": results.run.get("finished"),
        "question": plan.question,
        "primary_probe": primary,
        "kernel_path": results.environment.get("kernel_path"),
        "tool_floor_us": results.environment.get("tool_floor_us"),
        "method": _method(seed, resamples, plan),
        "rounds": rounds,
        "arms": arms,
        "comparisons": comparisons,
        "counts": _counts(samples, plan),
        "stale": _stale(samples, plan),
        "events": events,
        "flows": _flows(samples, plan),
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


def _method(seed: int, resamples: int, plan: Plan) -> Document:
    again = dict.fromkeys(contrast.denominator for contrast in plan.contrasts if contrast.headline)
    return {
        "estimator": "exp of the mean over valid rounds of log(numerator / denominator), paired within the round",
        "round_figure": f"median of the round's samples; 99th percentile from {SAMPLES_FOR_P99} samples a round up",
        "interval": "BCa bootstrap over rounds",
        "resamples": resamples,
        "confidence": CONFIDENCE,
        "test": f"two-sided sign-flip test of the log-ratios, exact up to {EXACT_UP_TO_ROUNDS} rounds",
        "correction": "Holm, over the primary family",
        "significance": SIGNIFICANCE,
        "noise_floor": "largest absolute log bound of the A/A ratio's interval"
        + (f" ({', '.join(again)} twice a round)" if again else ""),
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


def _comparison(item: Comparison, plan: Plan, higher_better: bool) -> Document:
    contrast = item.contrast
    treatment = plan.treatment(contrast.numerator_arm)
    return {
        **_place(item.series),
        "statistic": item.statistic,
        "numerator": contrast.numerator,
        "denominator": contrast.denominator,
        "by": contrast.by,
        "within": contrast.within,
        "mode": None if contrast.by == "mode" else treatment.mode,
        "proxy": treatment.proxy,
        "headline": contrast.headline,
        "numerator_arm": contrast.numerator_arm,
        "denominator_arm": contrast.denominator_arm,
        "denominator_path": denominator_series(contrast, item.series).path,
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


def _arms(samples: pd.DataFrame, table: pd.DataFrame, plan: Plan) -> list[Document]:
    """Per series and arm, of all samples of its valid rounds merged: quantiles, the median's interval, loss."""
    valid = samples[samples["valid"]]
    groups = {
        key: group["value"].to_numpy() for key, group in valid.groupby([*SERIES, "arm"], observed=True, sort=False)
    }
    found = []
    for series in series_of(table):
        rows = select(table, series)
        for arm in plan.order(rows["arm"]):
            of_arm = rows[(rows["arm"] == arm) & rows["valid"]]
            if of_arm.empty:
                continue
            values = groups[(series.build, series.probe, series.metric, series.payload_bytes, series.path, arm)]
            lost, failed = int(of_arm["lost"].sum()), int(of_arm[FAILED].sum())
            median, p99, p999 = np.quantile(values, [0.5, 0.99, 0.999])
            found.append(
                {
                    **_place(series),
                    "arm": arm,
                    "mode": str(of_arm["mode"].iloc[0]),
                    "proxy": str(of_arm["proxy"].iloc[0]),
                    "control": plan.treatment(arm).control,
                    "rounds": len(of_arm),
                    "samples": int(values.size),
                    "median": _number(median),
                    **_bounds("median", median_interval(of_arm["median"])),
                    "p99": _number(p99) if values.size >= SAMPLES_FOR_P99 else None,
                    "p999": _number(p999) if values.size >= SAMPLES_FOR_P999 else None,
                    "lost": lost,
                    "loss": _number((lost + failed) / (lost + failed + values.size)),
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


def _counts(samples: pd.DataFrame, plan: Plan) -> list[Document]:
    """How many requests failed, came late or were lost, per probe that says so, path and arm: per round and in all."""
    probes = samples.loc[samples["metric"] == FAILED, "probe"].unique()
    counted = samples[samples["probe"].isin(probes) & samples["metric"].isin(COUNTS) & samples["valid"]]
    keys = ["build", "probe", "path", "arm", "metric"]
    groups = {key: group["value"] for key, group in counted.groupby(keys, observed=True, sort=False)}
    found = []
    for build, probe, path in dict.fromkeys(key[:3] for key in groups):
        for arm in plan.order(key[3] for key in groups if key[:3] == (build, probe, path)):
            for metric in COUNTS:
                values = groups.get((build, probe, path, arm, metric))
                if values is not None:
                    place = {"build": build, "probe": probe, "path": path, "arm": arm, "metric": metric}
                    figures = {"median": _number(float(values.median())), "maximum": int(values.max())}
                    found.append({**place, "rounds": len(values), "total": int(values.sum()), **figures})
    return found


def _stale(samples: pd.DataFrame, plan: Plan) -> list[Document]:
    """For how long pods that an event removed still answered: per probe, path and arm, over all such events."""
    rows = samples[(samples["metric"] == STALE) & samples["valid"]]
    groups = dict(iter(rows.groupby(["build", "probe", "path", "arm"], observed=True, sort=False)["value"]))
    found = []
    for build, probe, path in dict.fromkeys(key[:3] for key in groups):
        for arm in plan.order(key[3] for key in groups if key[:3] == (build, probe, path)):
            values = groups[build, probe, path, arm]
            place = {"build": build, "probe": probe, "path": path, "arm": arm, "events": len(values)}
            figures = {"median_ms": _number(float(values.median())), "maximum_ms": _number(float(values.max()))}
            found.append({**place, "answered_after": int((values > 0).sum()), **figures})
    return found


def _flows(samples: pd.DataFrame, plan: Plan) -> list[Document]:
    """Flows per bridge, per build and arm, over the valid rounds."""
    counts = samples[(samples["metric"] == FLOWS) & samples["valid"]]
    found = []
    groups = dict(iter(counts.groupby(["build", "arm"], observed=True, sort=False)))
    order = [
        (build, arm)
        for build in dict.fromkeys(key[0] for key in groups)
        for arm in plan.order(key[1] for key in groups)
    ]
    for (build, arm), group in ((key, groups[key]) for key in order if key in groups):
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
        reasons += _inconclusive(document["comparisons"])
    reasons += [
        f"no packet evidence for {item['path']} in {item['arm']} (build {item['build']}) in "
        f"{item['rounds'] - item['ok_rounds']} of {item['rounds']} rounds: {'; '.join(item['problems'])}"
        for item in document["evidence"]
        if item["ok_rounds"] < item["rounds"]
    ]
    if document["status"] != "complete":
        reasons.append(f"the run ended early (status: {document['status']})")
    return {"exit_status": 1 if reasons else 0, "reasons": reasons}


def _inconclusive(comparisons: list[Document]) -> list[str]:
    """Each reason why primary comparisons are inconclusive once, with all that it holds for."""
    labels: dict[str, list[str]] = {}
    for item in comparisons:
        if item["role"] == "primary" and item["verdict"] == "inconclusive":
            labels.setdefault(item["verdict_text"], []).append(_label(item))
    return [f"{', '.join(dict.fromkeys(found))}: {text}" for text, found in labels.items()]


def _label(item: Document) -> str:
    words = [item["probe"], item["path"], item["build"] if item["build"] != "main" else ""]
    if item["by"] == "proxy":
        words.append(item["numerator"])
    words.append(item["within"])
    if item["payload_bytes"] is not None:
        words.append(f"{item['payload_bytes']} bytes")
    return " ".join(word for word in words if word)
