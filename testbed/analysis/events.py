"""What the events of a run cost the clients: which requests are put down to which event, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.cells import ATTEMPT, probe_label
from testbed.analysis.load import Results

Entry = dict[str, Any]

_CELL = [*ATTEMPT, "arm", "path", "probe"]
# Whose pods go one after the other, by its strategy: until then their answers are right.
_GRADUAL = ("rollout",)
_NONE = -1


def owners(requests: pd.DataFrame, events: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each request of a cell the place of the event that it is put down to; -1 for none.

    It is the last event before the request was due; or the first that came while the request was under way, where no
    event was before it, or the one before was over when it was due.
    """
    written, confirmed = events["written_ms"].to_numpy(), events["confirmed_ms"].to_numpy()
    due, over = requests["due_ms"].to_numpy(), requests["over_ms"].to_numpy()
    before = np.searchsorted(written, due, side="right") - 1
    after = np.minimum(before + 1, len(written) - 1)
    met = (before + 1 < len(written)) & (written[after] <= over)
    free = (before == _NONE) | (confirmed[np.maximum(before, 0)] <= due)
    placed: np.ndarray[Any, np.dtype[np.int64]] = np.where(met & free, before + 1, before)
    return placed


def is_good(requests: pd.DataFrame) -> pd.Series[bool]:
    """Which requests had a good answer."""
    return requests["status"].between(200, 399)


def stale(requests: pd.DataFrame, events: pd.DataFrame, place: int) -> pd.Series[bool]:
    """Which good answers came from pods that the event at ``place`` had removed, to requests that were due after it.

    A pod may come back with a later event. Of an event whose pods go one after the other there are none: nobody says
    here when each of them went.
    """
    found = pd.Series(False, index=requests.index)
    event = events.iloc[place]
    if event["action"] in _GRADUAL:
        return found
    later = [entry for _, entry in events.iloc[place + 1 :].iterrows()]
    for pod in event["removed"]:
        back_ms = min((entry["written_ms"] for entry in later if pod in entry["added"]), default=float("inf"))
        found |= (
            (requests["pod"] == pod) & (requests["due_ms"] >= event["written_ms"]) & (requests["over_ms"] < back_ms)
        )
    return found & is_good(requests)


def event_costs(results: Results) -> list[Entry]:
    """What each event cost, per build, probe, path and arm, over the valid rounds.

    ``lost``: requests without a good answer; ``late``: good answers after the probe's limit; ``recovered_s``: from the
    event until the last lost request was due, or the last stale answer; ``confirmed_s``: until all that follows from it
    was done. Each with median and maximum over the rounds.
    """
    if results.events.empty:
        return []
    late_ms = {probe_label(probe): probe.get("late_ms", 100.0) for probe in results.experiment.get("probes") or ()}
    rows = list(_rows(results, late_ms))
    if not rows:
        return []
    keys = ["build", "probe", "path", "arm", "number"]
    groups = dict(iter(pd.DataFrame(rows).groupby(keys, sort=False)))
    arms = results.plan.order({key[3] for key in groups})
    order = sorted(groups, key=lambda key: arms.index(key[3]))
    found = []
    for place in dict.fromkeys((*key[:3], key[4]) for key in groups):
        for key in (key for key in order if (*key[:3], key[4]) == place):
            found.append(_entry(dict(zip(keys, key, strict=True)), groups[key], results))
    return found


def _entry(place: Entry, rows: pd.DataFrame, results: Results) -> Entry:
    entry: Entry = {
        **place,
        "number": int(place["number"]),
        "control": results.plan.treatment(place["arm"]).control,
        "what": str(rows["what"].iloc[0]),
        "action": str(rows["action"].iloc[0]),
        "at_s": round(float(rows["at_s"].median()), 3),
        "rounds": len(rows),
    }
    for figure in ("lost", "late"):
        values = rows[figure]
        entry |= {figure: int(values.sum()), f"{figure}_median": float(values.median())}
        entry[f"{figure}_maximum"] = int(values.max())
    for figure in ("recovered_s", "confirmed_s"):
        entry |= {figure: round(float(rows[figure].median()), 4)}
        entry[f"{figure}_maximum"] = round(float(rows[figure].max()), 4)
    return entry


def _rows(results: Results, late_ms: Mapping[str, float]) -> Iterator[Entry]:
    """One row per event of each cell of a valid round."""
    rounds = results.rounds
    valid = set(rounds.loc[rounds["valid"] == True, ATTEMPT].itertuples(index=False, name=None))  # noqa: E712
    requests = dict(iter(results.requests.groupby(_CELL, observed=True, sort=False)))
    for key, events in results.events.groupby(_CELL, sort=False):
        if key[: len(ATTEMPT)] not in valid or key not in requests:
            continue
        place = dict(zip(_CELL, key, strict=True))
        yield from _costs_of_cell(place, requests[key], events.sort_values("written_ms"), late_ms)


def _costs_of_cell(
    place: Entry, requests: pd.DataFrame, events: pd.DataFrame, late_ms: Mapping[str, float]
) -> Iterator[Entry]:
    owner, good = owners(requests, events), is_good(requests)
    took_ms = requests["over_ms"] - requests["due_ms"]
    late = good & (took_ms > late_ms.get(place["probe"], 100.0))
    for number, (_, event) in enumerate(events.iterrows()):
        own = owner == number
        wrong = stale(requests, events, number)
        ends_ms = [event["written_ms"], *requests.loc[own & ~good, "due_ms"], *requests.loc[wrong, "over_ms"]]
        yield {
            **{key: place[key] for key in ("build", "probe", "path", "arm")},
            "number": number,
            "what": event["what"],
            "action": event["action"],
            "at_s": event["written_ms"] / 1e3,
            "lost": int((own & ~good).sum()),
            "late": int((own & late).sum()),
            "recovered_s": (max(ends_ms) - event["written_ms"]) / 1e3,
            "confirmed_s": (event["confirmed_ms"] - event["written_ms"]) / 1e3,
        }


# -- expectations -----------------------------------------------------------------------------------------------------

# Field of the file: figure of the entry (its largest in any round), and the words.
_LIMITS = {
    "lost_at_most": ("lost_maximum", "at most {:g} lost"),
    "late_at_most": ("late_maximum", "at most {:g} late"),
    "recovered_within_s": ("recovered_s_maximum", "recovered within {:g} s"),
    "confirmed_within_s": ("confirmed_s_maximum", "over within {:g} s"),
}


def event_expectations(experiment: Mapping[str, Any], costs: list[Entry], smoke: bool = False) -> list[Entry]:
    """What events were expected to cost, in the form of :func:`testbed.analysis.expectations.evaluate`.

    One is met when the event stayed below the limit in every valid round, on every path and in every arm.
    """
    found = []
    for probe in experiment.get("probes") or ():
        events = sorted(probe.get("events") or (), key=lambda event: event["at_s"])
        for number, event in enumerate(events):
            for field, limit in (event.get("expect") or {}).items():
                if limit is not None:
                    found.append(_evaluated(probe_label(probe), number, event["at_s"], field, limit, costs, smoke))
    return found


def _evaluated(
    probe: str, number: int, at_s: float, field: str, limit: float, costs: list[Entry], smoke: bool
) -> Entry:
    figure, words = _LIMITS[field]
    rows = [row for row in costs if (row["probe"], row["number"]) == (probe, number) and not row["control"]]
    what = rows[0]["what"] if rows else f"event {number + 1}"
    observed = [
        {
            **{key: row[key] for key in ("build", "path", "arm")},
            "payload_bytes": None,
            "metric": field,
            "value": row[figure],
            "met": row[figure] <= limit,
        }
        for row in rows
    ]
    if smoke:
        met, detail = None, "not judged (smoke)"
    elif not observed:
        met, detail = False, "the event did not come about in any valid round"
    else:
        met = all(row["met"] for row in observed)
        worst = [row for row in observed if not row["met"]] or observed
        detail = "; ".join(_observed_text(row) for row in worst)
    return {
        "text": f"{probe}: {what} at {at_s:g} s: {words.format(limit)}",
        "met": met,
        "detail": detail,
        "observed": observed,
        "expected": {"probe": probe, "event": number, field: limit},
    }


def _observed_text(row: Entry) -> str:
    build = "" if row["build"] == "main" else f"{row['build']} "
    unit = " s" if row["metric"].endswith("_s") else ""
    return f"{build}{row['path']} {row['arm']}: {row['value']:.3g}{unit}"


# -- words ------------------------------------------------------------------------------------------------------------


def sentences(costs: list[Entry]) -> list[str]:
    """What happened, a sentence or two an event: how long it took, and what it cost in which arm."""
    own = [row for row in costs if not row["control"]]
    places = dict.fromkeys((row["build"], row["probe"], row["path"], row["number"]) for row in own)
    return [
        _sentence([row for row in own if (row["build"], row["probe"], row["path"], row["number"]) == place])
        for place in places
    ]


def _sentence(rows: list[Entry]) -> str:
    first = rows[0]
    build = "" if first["build"] == "main" else f", {first['build']}"
    text = f"{first['probe']} {first['path']}{build}: {first['what']} at {first['at_s']:.3g} s was over after "
    text += _range([row["confirmed_s"] for row in rows]) + " s."
    losing = [row for row in rows if row["lost"]]
    if not losing:
        text += f" No request was lost in {_rounds(rows)}."
    for row in losing:
        arm = f" in {row['arm']}" if len(rows) > 1 else ""
        text += (
            f" It cost {row['lost_median']:g} request{'' if row['lost_median'] == 1 else 's'}{arm} (median a round; "
            f"most {row['lost_maximum']}), the last due {row['recovered_s']:.2g} s after it "
            f"(at most {row['recovered_s_maximum']:.2g} s)."
        )
    if losing and len(losing) < len(rows):
        text += f" None was lost in {', '.join(row['arm'] for row in rows if not row['lost'])}."
    late = [row for row in rows if row["late"]]
    if late:
        text += " Late answers: " + ", ".join(f"{row['late']} in {row['arm']}" for row in late) + "."
    return text


def _rounds(rows: list[Entry]) -> str:
    count = min(row["rounds"] for row in rows)
    return f"{count} round{'' if count == 1 else 's'}" + (" of any arm" if len(rows) > 1 else "")


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low} to {high}"
