"""From raw samples to one row per cell, and from cells to the paired rounds that the statistics need.

A *cell* is one probe on one path with one payload in one arm of one attempt at a round. Cells of void attempts are
kept here with ``valid`` false: figures show them, statistics leave them out.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd

from testbed.analysis.load import Document, Results
from testbed.analysis.statistics import SAMPLES_FOR_P99, Floats

ATTEMPT = ["build", "round", "attempt"]
SERIES = ["build", "probe", "metric", "payload_bytes", "path"]
# Metrics that describe a cell instead of measuring time or rate; they are counted, not compared. ``lost.METRIC`` is
# what one metric of a cell with several has lost.
LOST = "lost"
FLOWS = "flows"
FAILED, LATE = "failed", "late"
COUNTS = (LOST, FAILED, LATE)
# A time, but one that is 0 where all is well.
STALE = "stale_ms"
NO_PAYLOAD = -1


@dataclass(frozen=True, order=True)
class Series:
    """What is measured: all that names a figure but the arm. ``payload_bytes`` is -1 where there is no payload."""

    build: str
    probe: str
    metric: str
    payload_bytes: int
    path: str


def samples_with_validity(results: Results) -> pd.DataFrame:
    """The samples with the column ``valid`` of their attempt added; payloads as plain integers (-1: none).

    An attempt that never got its line in rounds.jsonl was cut off (the run was killed) and is not valid. Of several
    valid attempts at one round the last counts.
    """
    samples = results.samples.copy(deep=False)
    samples["payload_bytes"] = samples["payload_bytes"].fillna(NO_PAYLOAD).astype("int32")
    valid = results.rounds[results.rounds["valid"] == True]  # noqa: E712 - a column, elementwise
    last = valid.groupby(["build", "round"], sort=False)["attempt"].max()
    chosen = {(build, number, attempt) for (build, number), attempt in last.items()}
    attempts = samples[ATTEMPT].drop_duplicates()
    flags = [key in chosen for key in attempts.itertuples(index=False, name=None)]
    samples["valid"] = (
        samples[ATTEMPT]
        .astype({"build": object})
        .merge(attempts.astype({"build": object}).assign(valid=flags), on=ATTEMPT, how="left")["valid"]
        .to_numpy(dtype=bool)
    )
    return samples


def cells(samples: pd.DataFrame, experiment: Document) -> pd.DataFrame:
    """One row per cell and metric: ``samples``, ``median``, ``p99`` (NaN below 100 samples), ``lost``, ``failed``, key.

    ``samples`` comes from :func:`samples_with_validity`. The figure of a rate is the median of its intervals. Rows are
    in the order in which the experiment names probes, paths, builds and payloads.
    """
    keys = [*ATTEMPT, "position", "valid", "arm", "mode", "proxy", "probe", "metric", "payload_bytes", "path"]
    measured = samples[~samples["metric"].isin(counted_metrics(samples))]
    groups = measured.groupby(keys, observed=True, sort=False)["value"]
    table = groups.agg(samples="size", median="median").reset_index()
    table["p99"] = groups.quantile(0.99).to_numpy()
    table.loc[table["samples"] < SAMPLES_FOR_P99, "p99"] = np.nan
    table = table.astype(_TEXT)
    for count in (LOST, FAILED):
        table = _with_count(table, samples, count)
    return _in_order(table, experiment)


_TEXT: dict[str, type] = dict.fromkeys(("build", "arm", "mode", "proxy", "probe", "metric", "path"), object)
_CELL = [*ATTEMPT, "arm", "probe", "payload_bytes", "path"]


def counted_metrics(samples: pd.DataFrame) -> list[str]:
    """The metrics of the samples that are counted, not compared."""
    return [name for name in samples["metric"].unique() if name.partition(".")[0] in (*COUNTS, FLOWS)]


def _with_count(table: pd.DataFrame, samples: pd.DataFrame, count: str) -> pd.DataFrame:
    """The cells with how much each has of a count: its metric's own where it has one, else the whole cell's."""
    rows = samples[samples["metric"].map(lambda name: name.partition(".")[0] == count).astype(bool)].astype(
        {key: kind for key, kind in _TEXT.items() if key in samples}
    )
    whole = rows[rows["metric"] == count].groupby(_CELL)["value"].sum().rename(count).reset_index()
    own = rows[rows["metric"] != count].assign(metric=lambda frame: frame["metric"].str.removeprefix(f"{count}."))
    own = own.groupby([*_CELL, "metric"])["value"].sum().rename("own").reset_index()
    table = table.merge(whole, on=_CELL, how="left").merge(own, on=[*_CELL, "metric"], how="left")
    table[count] = table["own"].fillna(table[count]).fillna(0).astype(int)
    return table.drop(columns="own")


def _in_order(table: pd.DataFrame, experiment: Document) -> pd.DataFrame:
    named = {
        "probe": [probe_label(probe) for probe in experiment.get("probes") or ()],
        "metric": [],
        "path": list(experiment.get("paths") or ()),
        "build": [str(build["name"]) for build in experiment.get("builds") or ()],
    }
    ranks = pd.DataFrame(index=table.index)
    for column, names in named.items():
        order = {name: rank for rank, name in enumerate(dict.fromkeys([*names, *table[column]]))}
        ranks[column] = table[column].map(order)
    ranks["payload_bytes"] = table["payload_bytes"]
    return table.loc[ranks.sort_values(list(ranks.columns), kind="stable").index].reset_index(drop=True)


def probe_label(probe: Document) -> str:
    """A probe's name, which is its kind when it was given none."""
    return str(probe.get("name") or probe.get("kind", ""))


def series_of(table: pd.DataFrame) -> list[Series]:
    """The series of a cell table, in the order of its rows."""
    return [Series(*row) for row in table[SERIES].drop_duplicates().itertuples(index=False, name=None)]


def select(table: pd.DataFrame, series: Series) -> pd.DataFrame:
    """The rows (of cells or of samples) that belong to one series."""
    chosen = np.ones(len(table), dtype=bool)
    for column, value in zip(SERIES, astuple(series), strict=True):
        chosen &= (table[column] == value).to_numpy()
    return table[chosen]


def paired(above: pd.DataFrame, below: pd.DataFrame, statistic: str) -> tuple[Floats, Floats]:
    """The figures of two sides in the valid rounds that have both, ordered by round.

    Each side holds the rows of one series in one arm.
    """
    sides = [
        rows[rows["valid"]].groupby("round")[statistic].last().rename(name).dropna()
        for name, rows in (("above", above), ("below", below))
    ]
    both = pd.concat(sides, axis=1, join="inner").sort_index()
    return both["above"].to_numpy(dtype=float), both["below"].to_numpy(dtype=float)


def by_side(table: pd.DataFrame) -> dict[tuple[Series, str], pd.DataFrame]:
    """The rows of a cell table by series and arm."""
    groups = table.groupby([*SERIES, "arm"], sort=False)
    return {(Series(*key[:-1]), key[-1]): rows for key, rows in groups}
