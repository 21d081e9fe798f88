"""The distribution of every single time that was measured, with what is compared in one panel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.analysis.cells import select
from testbed.analysis.metrics import figures_text, noun, quantity, unit
from testbed.analysis.plots.data import Line, Panel, PlotData
from testbed.analysis.plots.style import heading, new_figure, panels, plain_number
from testbed.analysis.statistics import SAMPLES_FOR_P99, Floats

# A distribution is drawn through this many of its quantiles, denser in the upper tail; more would not be seen.
_PROBABILITIES = np.unique(np.concatenate([np.linspace(0, 0.95, 300), np.linspace(0.95, 1, 150)]))
_LOGARITHMIC_FROM = 5.0  # an axis is logarithmic when it spans at least this factor


def cdf_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per probe that measures a time often enough."""
    for probe, metric in dict.fromkeys((series.probe, series.metric) for series in data.series):
        if unit(metric) != "µs":
            continue
        found = [(panel, _samples(data, panel)) for panel in data.panels(probe, metric, controls=False)]
        shown = [(panel, samples) for panel, samples in found if samples]
        if not shown:
            continue
        columns = 1 if len(shown) == 1 else 2
        caption = data.caption(
            f"Every sample of {probe} in the valid rounds, up to the 99th percentile; the marks are the medians.",
            f"Per line: {data.counted(panel for panel, _ in shown)}.",
        )
        rows = -(-len(shown) // columns)
        title = heading(f"Distribution: {noun(metric)}", probe)
        figure = new_figure(3.9 * columns + (1.2 if columns == 1 else 0), 2.35 * rows, caption, title)
        for axes, (panel, samples) in zip(panels(figure, len(shown), columns), shown, strict=True):
            _panel(axes, samples, panel.title, quantity(metric))
        yield f"cdf_{probe}" + ("" if metric == "rtt_us" else f"_{metric}"), figure


def _samples(data: PlotData, panel: Panel) -> dict[Line, Floats]:
    """The valid samples per line; empty unless each has enough for a distribution."""
    values = {}
    for line in panel.lines:
        rows = select(data.samples, line.series)
        found = rows.loc[rows["valid"] & (rows["arm"] == line.arm), "value"].to_numpy(dtype=float)
        if found.size:
            values[line] = found
    return values if all(found.size >= SAMPLES_FOR_P99 for found in values.values()) else {}


def _panel(axes: Axes, samples: dict[Line, Floats], title: str, label: str) -> None:
    low = min(float(np.quantile(values, 0.0005)) for values in samples.values())
    high = max(float(np.quantile(values, 0.99)) for values in samples.values())
    for line, values in samples.items():
        look = line.look
        median = float(np.median(values))
        axes.step(
            np.quantile(values, _PROBABILITIES), _PROBABILITIES, where="post", color=look.color, linestyle=look.line
        )
        axes.plot(
            [median], [0.5], look.marker, color=look.color, markersize=6.5, markeredgecolor="white", linestyle="none"
        )
        # An empty plot carries line and marker together into the legend.
        axes.plot(
            [],
            [],
            color=look.color,
            linestyle=look.line,
            marker=look.marker,
            label=f"{look.label}: median {figures_text(median)} µs",
        )
    if low > 0 and high / low > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        wide = high / low > _LOGARITHMIC_FROM**3
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low * 0.97, high * 1.03)
    axes.set_ylim(0, 1.02)
    axes.set_title(title)
    axes.set_xlabel(label + (", log scale" if axes.get_xscale() == "log" else ""))
    axes.set_ylabel("share of samples")
    axes.legend(loc="lower right")
