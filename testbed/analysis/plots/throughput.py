"""Throughput: what the path costs and what the smaller packets cost, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from testbed.analysis.cells import Series, select
from testbed.analysis.metrics import figures_text, quantity
from testbed.analysis.plots.data import Line, Panel, PlotData
from testbed.analysis.plots.style import INK, LOOKS, bar_handle, heading, new_figure, plain_number

_METRIC = "throughput_mbps"
_WIDTH = 0.26


def throughput_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per throughput probe: a group of bars per path, each with its interval and its rounds."""
    for probe in dict.fromkeys(series.probe for series in data.series if series.metric == _METRIC):
        found = [
            Panel(panel.title, tuple(line for line in panel.lines if line.control != "aa" and data.arm(*_key(line))))
            for panel in data.panels(probe, _METRIC, controls=True)
        ]
        shown = [panel for panel in found if panel.lines]
        if not shown:
            continue
        caption = data.caption(
            f"Bars: median of all intervals of {probe} in the valid rounds; lines: distribution-free 95% interval of "
            "the median over rounds; dots: the rounds.",
            f"Per bar: {data.counted(shown)}.",
        )
        looks = [look for look in _ORDER if look in data.drawn(shown)]
        looks += [look for look in data.drawn(shown) if look not in looks]
        handles = [bar_handle(look) for look in looks]
        figure = new_figure(3.6 + 2.6 * len(shown), 3.0, caption, heading("Throughput", probe), handles)
        axes = figure.subplots()
        for group, panel in enumerate(shown):
            for line in panel.lines:
                offset = (looks.index(line.look) - (len(looks) - 1) / 2) * (_WIDTH + 0.03)
                _bar(axes, data, line, group + offset)
        axes.set_xticks(range(len(shown)), [panel.title for panel in shown])
        half = max(0.55, len(looks) * (_WIDTH + 0.03) / 2 + 0.1)
        axes.set_xlim(-half, len(shown) - 1 + half)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(quantity(_METRIC))
        axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
        axes.set_ylim(0, axes.get_ylim()[1] * 1.06)
        yield "throughput" if probe == "throughput" else f"throughput_{probe}", figure


# From the larger to the smaller packets: the first two differ in the path, the last two in the packets' size.
_ORDER = tuple(LOOKS[arm] for arm in ("overlay", "routed_overlay_mtu", "routed"))


def _key(line: Line) -> tuple[Series, str]:
    return line.series, line.arm


def _bar(axes: Axes, data: PlotData, line: Line, x: float) -> None:
    entry = data.arm(*_key(line))
    assert entry is not None
    look = line.look
    axes.bar(x, entry["median"], _WIDTH, facecolor="white", edgecolor=look.color, hatch=look.hatch, linewidth=1.4)
    top = entry["median"]
    if entry["median_ci_low"] is not None:
        low, high = entry["median_ci_low"], entry["median_ci_high"]
        axes.plot([x, x], [low, high], color=INK, linewidth=1.6, zorder=4)
        axes.plot([x, x], [low, high], color=INK, marker="_", markersize=9, linestyle="none", zorder=4)
        top = max(top, high)
    rows = select(data.cells, line.series)
    rounds = rows.loc[(rows["arm"] == line.arm) & rows["valid"], "median"].to_numpy(dtype=float)
    spread = np.linspace(-0.08, 0.08, rounds.size) if rounds.size > 1 else np.zeros(rounds.size)
    axes.plot(x + spread, rounds, "o", color=look.color, markersize=3.6, markeredgecolor="white", markeredgewidth=0.5)
    top = max(top, float(rounds.max(initial=0.0)))
    text = figures_text(entry["median"])
    axes.annotate(text, (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=8.5)
