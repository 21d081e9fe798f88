"""Which share of the connections each endpoint got, beside the equal share and what chance does to it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from scipy import stats

from testbed.analysis.cells import ATTEMPT, Series, probe_label
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.style import FAINT, NOISE, Look, heading, new_figure, panels
from testbed.analysis.statistics import CONFIDENCE

_NAMED_UP_TO = 12
_ENOUGH = 20  # requests per endpoint: below, the picture shows chance only


def shares_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per probe that opens a connection for every request, without events: a panel per path and arm."""
    for probe in data.results.experiment.get("probes") or ():
        if probe.get("kind") != "http" or probe.get("keep_alive", True) or probe.get("events"):
            continue
        label = probe_label(probe)
        shown = list(_cells(data, label))
        if not shown:
            continue
        caption = data.caption(
            f"Share of all requests of {label} in the valid rounds, each on a connection of its own, by the pod that "
            f"answered. Line: the equal share 1/n; grey: where {CONFIDENCE:.0%} of the shares lie if each endpoint is "
            "chosen with the same probability (binomial).",
        )
        columns = 1 if len(shown) == 1 else 2
        rows = -(-len(shown) // columns)
        handles = [
            *(
                Line2D([], [], linestyle="none", marker=look.marker, color=look.color, label=look.label)
                for look in {look: 0 for _, look, _ in shown}
            ),
            Line2D([], [], color=FAINT, label="1/n"),
            Patch(color=NOISE, label="chance alone"),
        ]
        figure = new_figure(
            4.3 * columns + (2.0 if columns == 1 else 0),
            2.2 * rows,
            caption,
            heading("Shares of the endpoints", label),
            handles,
        )
        for axes, (title, look, counts) in zip(panels(figure, len(shown), columns), shown, strict=True):
            _panel(axes, counts, look)
            axes.set_title(title)
        yield f"shares_{label}", figure


def _cells(data: PlotData, probe: str) -> Iterator[tuple[str, Look, pd.Series[int]]]:
    requests = data.results.requests
    if requests.empty:
        return
    valid = pd.MultiIndex.from_frame(data.cells.loc[data.cells["valid"], ATTEMPT].drop_duplicates())
    requests = requests[pd.MultiIndex.from_frame(requests[ATTEMPT].astype({"build": object})).isin(valid)]
    requests = requests[(requests["probe"] == probe) & (requests["pod"] != "") & requests["status"].between(200, 399)]
    groups = dict(iter(requests.groupby(["build", "path", "arm"], observed=True, sort=False)))
    places = dict.fromkeys((build, path) for build, path, _ in groups)
    for build, path, arm in (
        (*place, arm) for place in places for arm in data.plan.own_arms if (*place, arm) in groups
    ):
        counts = groups[build, path, arm]["pod"].astype(str).value_counts().sort_index()
        if len(counts) > 1 and counts.sum() >= _ENOUGH * len(counts):
            series = Series(build, probe, "request_us", -1, path)
            title = " · ".join(filter(None, (path, arm, "" if build == "main" else build)))
            yield title, data.look(series, arm), counts


def _panel(axes: Axes, counts: pd.Series[int], look: Look) -> None:
    total, count = int(counts.sum()), len(counts)
    outside = (1 - CONFIDENCE) / 2
    low, high = (stats.binom.ppf(share, total, 1 / count) / total for share in (outside, 1 - outside))
    places = np.arange(count)
    axes.axhspan(float(low), float(high), color=NOISE, linewidth=0, zorder=0)
    axes.axhline(1 / count, color=FAINT, linewidth=1.0)
    axes.plot(places, counts.to_numpy() / total, look.marker, color=look.color)
    if count <= _NAMED_UP_TO:
        # The pods of one ReplicaSet differ in their last word only.
        parts = [name.rpartition("-") for name in counts.index]
        alike = len({part[0] for part in parts}) == 1
        names = [f"…-{part[2]}" if alike and part[0] else "".join(part) for part in parts]
        axes.set_xticks(places, names, rotation=30, ha="right", fontsize=7.5)
    else:
        axes.set_xlabel(f"endpoint, of {count}")
    axes.set_ylim(0, max(float(high), float(counts.max()) / total) * 1.25)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if count < 20 else 1))
    axes.set_ylabel("share of connections")
