"""Figures over the number of Services, or of endpoints, that the builds generate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from testbed.analysis.metrics import noun, unit
from testbed.analysis.plots.data import Entry, Line, Panel, PlotData
from testbed.analysis.plots.style import join_words, line_handle, new_figure, panels, plain_number

_NOUNS = {"services": "Services", "endpoints": "endpoints of each Service"}
_LOGARITHMIC_FROM = 8.0


@dataclass(frozen=True)
class Sweep:
    """Builds that differ in one number only. ``at``: build to that number; ``fixed``: the other number, in words."""

    varied: str
    fixed: str
    at: Mapping[str, int]


def sweeps(data: PlotData) -> list[Sweep]:
    """The sweeps among the builds: by Services at a number of endpoints, and the other way round."""
    generated = {
        str(build["name"]): build["generate"]
        for build in data.results.experiment.get("builds") or ()
        if build.get("generate")
    }
    found = []
    for varied, other in (("services", "endpoints"), ("endpoints", "services")):
        for value in dict.fromkeys(int(each[other]) for each in generated.values()):
            at = {name: int(each[varied]) for name, each in generated.items() if each[other] == value}
            if len(set(at.values())) > 1:
                noun = "endpoint each" if other == "endpoints" else "Services"
                fixed = f"{value:,} {noun if value == 1 or other == 'services' else 'endpoints each'}"
                found.append(Sweep(varied, fixed, dict(sorted(at.items(), key=lambda item: item[1]))))
    return found


def sweep_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per sweep: a panel per metric and path, what is compared as lines."""
    found = sweeps(data)
    for sweep in found:
        shown = [panel for panel in _panels(data, sweep) if len(_points(data, sweep, panel.lines[0])) > 1]
        if not shown:
            continue
        columns = 1 if len(shown) == 1 else 2
        every = [_all_points(sweep, panel) for panel in shown]
        caption = data.caption(
            f"Medians of all samples of the valid rounds; bars: distribution-free 95% interval of the rounds' median "
            f"({sweep.fixed}). Per point: {data.counted(every)}.",
            "Every point is a cluster of its own; within it all arms take turns on the same wires.",
        )
        rows = -(-len(shown) // columns)
        handles = [line_handle(look) for look in data.drawn(shown)]
        title = f"Against the number of {_NOUNS[sweep.varied]} ({sweep.fixed})"
        figure = new_figure(4.4 * columns + (1.6 if columns == 1 else 0), 2.6 * rows, caption, title, handles)
        for axes, panel in zip(panels(figure, len(shown), columns), shown, strict=True):
            _panel(axes, data, sweep, panel)
        name = f"sweep_{sweep.varied}"
        same = [each for each in found if each.varied == sweep.varied]
        yield name if len(same) == 1 else f"{name}_{same.index(sweep) + 1}", figure


def _panels(data: PlotData, sweep: Sweep) -> Iterator[Panel]:
    """Per metric the panels of the first build, with what is measured in the title and, if it varies, the path."""
    several = len({series.path for series in data.series} - {""}) > 1
    for probe, metric in dict.fromkeys((series.probe, series.metric) for series in data.series):
        for panel in data.panels(probe, metric, controls=False):
            series = panel.lines[0].series
            if series.build == next(iter(sweep.at)):
                what = noun(metric) if probe in ("first_packet", "program") else f"{noun(metric)} ({probe})"
                yield Panel(join_words([what[:1].upper() + what[1:], series.path if several else ""]), panel.lines)


def _all_points(sweep: Sweep, panel: Panel) -> Panel:
    lines = (replace(line, series=replace(line.series, build=build)) for line in panel.lines for build in sweep.at)
    return replace(panel, lines=tuple(lines))


def _points(data: PlotData, sweep: Sweep, line: Line) -> list[tuple[int, Entry]]:
    found = []
    for build, number in sweep.at.items():
        entry = data.arm(replace(line.series, build=build), line.arm)
        if entry is not None:
            found.append((number, entry))
    return found


def _panel(axes: Axes, data: PlotData, sweep: Sweep, panel: Panel) -> None:
    medians: list[float] = []
    for line in panel.lines:
        points = _points(data, sweep, line)
        values = [entry["median"] for _, entry in points]
        medians += values
        error: Any = [
            [entry["median"] - (entry["median_ci_low"] or entry["median"]) for _, entry in points],
            [(entry["median_ci_high"] or entry["median"]) - entry["median"] for _, entry in points],
        ]
        axes.errorbar(
            [number for number, _ in points],
            values,
            yerr=error,
            color=line.look.color,
            linestyle=line.look.line,
            marker=line.look.marker,
            capsize=2.5,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(sweep.at.values()))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    label = unit(panel.lines[0].series.metric)
    if min(medians) > 0 and max(medians) / min(medians) > _LOGARITHMIC_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        label += ", log scale"
    else:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.set_title(panel.title)
    axes.set_xlabel(f"{_NOUNS[sweep.varied]} (log scale)")
    axes.set_ylabel(label)
