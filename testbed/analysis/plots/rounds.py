"""The figure of every round as time went by: drift, outliers, and the rounds that were void."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from testbed.analysis.cells import ATTEMPT, select
from testbed.analysis.metrics import noun, unit
from testbed.analysis.plots.data import Panel, PlotData
from testbed.analysis.plots.style import VOID, heading, line_handle, new_figure, panels, plain_number


def rounds_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per probe and metric: the median of each arm in each attempt at a round."""
    times = _times(data.results.rounds)
    void = int((~times["ok"]).sum())
    for probe, metric in dict.fromkeys((series.probe, series.metric) for series in data.series):
        shown = data.panels(probe, metric, controls=True)
        columns = 1 if len(shown) == 1 else 2
        caption = data.caption(
            f"Median of {probe} in each round and arm, at the time the round began; every round runs all arms in "
            f"an order drawn anew. {data.counted(shown)} per line.",
            f"{void} void attempt{'' if void == 1 else 's'} (shaded; crosses, at the edge where they lie outside): "
            "kept in the samples, not in the statistics."
            if void
            else "No round was void.",
        )
        handles: list[Line2D | Patch] = [line_handle(look) for look in data.drawn(shown)]
        if void:
            handles.append(Patch(label="void round", color=VOID, alpha=0.45))
        title = heading(f"Medians per round: {noun(metric)}", probe)
        rows = -(-len(shown) // columns)
        figure = new_figure(4.3 * columns + (2.6 if columns == 1 else 0), 1.95 * rows, caption, title, handles)
        grid = panels(figure, len(shown), columns)
        for index, (axes, panel) in enumerate(zip(grid, shown, strict=True)):
            _panel(axes, data, panel, times)
            axes.set_title(panel.title)
            axes.set_ylabel(unit(metric))
            axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
            if index >= len(shown) - columns:
                axes.set_xlabel("minutes since the first round began")
        yield f"rounds_{probe}" + ("" if metric in ("rtt_us", "throughput_mbps") else f"_{metric}"), figure


def _times(rounds: pd.DataFrame) -> pd.DataFrame:
    """Per attempt: when it began (minutes since the first one), how long it took, and whether it is valid."""
    started = [datetime.fromisoformat(str(text).replace("Z", "+00:00")) for text in rounds["started"]]
    first = min(started, default=None)
    return pd.DataFrame(
        {
            "build": rounds["build"],
            "round": rounds["round"],
            "attempt": rounds["attempt"],
            "minute": [(moment - first).total_seconds() / 60 for moment in started] if first else [],
            "minutes": rounds["duration_s"].astype(float) / 60,
            "ok": [bool(valid) for valid in rounds["valid"]],
        }
    )


def _panel(axes: Axes, data: PlotData, panel: Panel, times: pd.DataFrame) -> None:
    sides = [
        (line.look, rows[rows["arm"] == line.arm].merge(times, on=ATTEMPT, how="inner").sort_values("minute"))
        for line in panel.lines
        for rows in (select(data.cells, line.series),)
    ]
    limits = _limits(pd.concat([rows for _, rows in sides]))
    for look, rows in sides:
        valid, void = rows[rows["valid"]], rows[~rows["valid"]]
        axes.plot(
            valid["minute"],
            valid["median"],
            color=look.color,
            linestyle=look.line,
            marker=look.marker,
            markersize=3.5,
            linewidth=1.0,
        )
        if len(void):
            middle = void["minute"] + void["minutes"] / 2
            axes.plot(middle, void["median"].clip(*limits), "x", color=look.color, markersize=5, clip_on=False)
    builds = {line.series.build for line in panel.lines}
    for _, attempt in times[times["build"].isin(builds) & ~times["ok"]].iterrows():
        axes.axvspan(
            attempt["minute"], attempt["minute"] + attempt["minutes"], color=VOID, alpha=0.45, linewidth=0, zorder=0
        )
    axes.set_ylim(*limits)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """The range of the valid rounds (of all when none is valid), widened: a void outlier must not flatten the rest."""
    values = (rows[rows["valid"]] if rows["valid"].any() else rows)["median"]
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * 0.35, abs(high) * 0.02, 1e-9)
    return (max(low - margin, 0.0) if low >= 0 else low - margin), high + margin
