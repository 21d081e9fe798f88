"""The figure of every round as time went by: drift, outliers, and the rounds that were void."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from testbed.analysis.cells import Series, select
from testbed.analysis.metrics import noun, quantity, unit
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.style import LOOKS, VOID, headline, new_figure, panels


def rounds_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per probe and metric: a panel per path, the median of each arm in each attempt at a round."""
    times = _times(data.results.rounds)
    for probe, metric in dict.fromkeys((series.probe, series.metric) for series in data.series):
        shown = data.shown(probe, metric)
        columns = 1 if len(shown) == 1 else 2
        rows = -(-len(shown) // columns)
        void = int((~times["ok"]).sum())
        caption = data.caption(
            f"Median of {probe} in each round and arm, at the time the round began; every round runs all arms in "
            f"an order drawn anew. {data.counted(shown, LOOKS)} per path and arm.",
            f"{void} void attempt{'' if void == 1 else 's'} (shaded; crosses, at the edge where they lie outside): "
            "kept in the samples, not in the statistics."
            if void
            else "No round was void.",
        )
        figure = new_figure(4.3 * columns + (3.6 if columns == 1 else 0), 1.95 * rows + 0.75, caption)
        headline(figure, f"Medians per round: {noun(metric)}", probe)
        drawn: dict[str, None] = {}
        grid = panels(figure, len(shown), columns)
        for index, (axes, series) in enumerate(zip(grid, shown, strict=True)):
            drawn.update(_panel(axes, data, series, times))
            axes.set_title(data.title(series, shown))
            axes.set_ylabel(unit(metric) if columns > 1 else quantity(metric))
            if index >= len(shown) - columns:
                axes.set_xlabel("minutes since the first round began")
        handles: list[Line2D | Patch] = [
            Line2D(
                [],
                [],
                color=LOOKS[arm].color,
                linestyle=LOOKS[arm].line,
                marker=LOOKS[arm].marker,
                label=LOOKS[arm].label,
            )
            for arm in LOOKS
            if arm in drawn
        ]
        if void:
            handles.append(Patch(label="void round", color=VOID, alpha=0.45))
        if columns == 1:
            figure.legend(handles=handles, loc="outside right upper")
        else:
            figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), columnspacing=1.2)
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


def _panel(axes: Axes, data: PlotData, series: Series, times: pd.DataFrame) -> dict[str, None]:
    """Draw one series; returns the arms it has."""
    rows = select(data.cells, series).merge(times, on=["build", "round", "attempt"], how="inner")
    arms = [arm for arm in LOOKS if (rows["arm"] == arm).any()]
    limits = _limits(rows)
    for arm in arms:
        look = LOOKS[arm]
        of_arm = rows[rows["arm"] == arm].sort_values("minute")
        valid, void = of_arm[of_arm["valid"]], of_arm[~of_arm["valid"]]
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
    for _, attempt in times[(times["build"] == series.build) & ~times["ok"]].iterrows():
        axes.axvspan(
            attempt["minute"], attempt["minute"] + attempt["minutes"], color=VOID, alpha=0.45, linewidth=0, zorder=0
        )
    axes.set_ylim(*limits)
    return dict.fromkeys(arms)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """The range of the valid rounds (of all when none is valid), widened: a void outlier must not flatten the rest."""
    values = (rows[rows["valid"]] if rows["valid"].any() else rows)["median"]
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * 0.35, high * 0.02)
    return low - margin, high + margin
