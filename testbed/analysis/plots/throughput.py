"""Throughput: what the path costs and what the smaller packets cost, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from testbed.analysis.cells import select
from testbed.analysis.metrics import figures_text, quantity
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.style import INK, LOOKS, headline, new_figure

_ARMS = ("overlay", "routed_overlay_mtu", "routed")
_METRIC = "throughput_mbps"
_WIDTH = 0.26


def throughput_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per throughput probe: a group of bars per path, each with its interval and its rounds."""
    for probe in dict.fromkeys(series.probe for series in data.series if series.metric == _METRIC):
        shown = [series for series in data.shown(probe, _METRIC) if any(data.arm(series, arm) for arm in _ARMS)]
        if not shown:
            continue
        caption = data.caption(
            f"Bars: median of all intervals of {probe} in the valid rounds; lines: distribution-free 95% interval of "
            "the median over rounds; dots: the rounds.",
            f"Per path and arm: {data.counted(shown, _ARMS)}.",
        )
        figure = new_figure(3.6 + 2.6 * len(shown), 3.0, caption)
        axes = figure.subplots()
        present = [arm for arm in _ARMS if any(data.arm(series, arm) for series in shown)]
        for place, arm in enumerate(present):
            look = LOOKS[arm]
            offset = (place - (len(present) - 1) / 2) * (_WIDTH + 0.03)
            for group, series in enumerate(shown):
                entry = data.arm(series, arm)
                if entry is None:
                    continue
                x = group + offset
                axes.bar(
                    x,
                    entry["median"],
                    _WIDTH,
                    facecolor="white",
                    edgecolor=look.color,
                    hatch=look.hatch,
                    linewidth=1.4,
                    label=look.label if group == 0 else None,
                )
                top = entry["median"]
                if entry["median_ci_low"] is not None:
                    low, high = entry["median_ci_low"], entry["median_ci_high"]
                    axes.plot([x, x], [low, high], color=INK, linewidth=1.6, zorder=4)
                    axes.plot([x, x], [low, high], color=INK, marker="_", markersize=9, linestyle="none", zorder=4)
                    top = max(top, high)
                rows = select(data.cells, series)
                rounds = rows.loc[(rows["arm"] == arm) & rows["valid"], "median"].to_numpy(dtype=float)
                spread = np.linspace(-0.08, 0.08, rounds.size) if rounds.size > 1 else np.zeros(rounds.size)
                axes.plot(
                    x + spread,
                    rounds,
                    "o",
                    color=look.color,
                    markersize=3.6,
                    markeredgecolor="white",
                    markeredgewidth=0.5,
                )
                top = max(top, float(rounds.max(initial=0.0)))
                axes.annotate(
                    figures_text(entry["median"]),
                    (x, top),
                    (0, 4),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8.5,
                )
        axes.set_xticks(range(len(shown)), [data.title(series, shown) for series in shown])
        axes.set_xlim(-0.55, len(shown) - 0.45)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(quantity(_METRIC))
        axes.set_ylim(0, axes.get_ylim()[1] * 1.06)
        headline(figure, "Throughput", probe)
        figure.legend(loc="outside right upper")
        yield "throughput" if probe == "throughput" else f"throughput_{probe}", figure
