"""How time, ratio and number of flows change from build to build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from testbed.analysis.metrics import noun, unit
from testbed.analysis.plots.data import Entry, Line, Panel, PlotData
from testbed.analysis.plots.style import (
    FAINT,
    NOISE,
    Look,
    heading,
    line_handle,
    new_figure,
    panels,
    plain_number,
)
from testbed.analysis.plots.sweep import sweeps
from testbed.analysis.words import place, varying

_PATH_MARKERS = ("o", "s", "^", "D", "v", "P")
_PATH_COLORS = ("#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")


def scaling_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure when several clusters were built: medians, ratios, flows per bridge. A sweep of Services has its own
    (:mod:`testbed.analysis.plots.sweep`)."""
    builds = [build["build"] for build in data.document["rounds"]["builds"]]
    if len(builds) < 2 or sweeps(data):
        return
    probe = data.document["primary_probe"]
    metrics = list(dict.fromkeys(series.metric for series in data.series if series.probe == probe))
    if not metrics:
        return
    every = data.panels(probe, metrics[0], controls=False)
    payload = min(line.series.payload_bytes for panel in every for line in panel.lines)
    shown: dict[str, list[Line]] = {}
    for panel in every:
        title = panel.title
        for build in builds:
            title = title.removesuffix(f" · {build}")
        found = [line for line in panel.lines if line.series.payload_bytes == payload]
        if found:
            shown.setdefault(title.removesuffix(f" · {payload} bytes"), []).extend(found)
    ratios = [entry for entry in data.document["comparisons"] if entry["role"] == "primary"]
    ratios = [
        entry for entry in ratios if data.series_of(entry).payload_bytes == payload and entry["ratio"] is not None
    ]
    flows = [entry for entry in data.document["flows"] if entry["arm"] in data.plan.own_arms]
    count = len(shown) + bool(ratios) + bool(flows)
    idle = any(_declared(data, build).get("idle_ports") for build in builds)
    lines = [Panel(title, tuple(found)) for title, found in shown.items()]
    caption = data.caption(
        f"Builds are measured one after the other. Per build and line: {data.counted(lines)}. Bars: "
        "distribution-free 95% interval of the rounds' median, BCa 95% interval of the ratio; grey: noise floor.",
        "Builds with idle ports are the control: what the bridge's idle ports alone cost." if idle else "",
    )
    looks = data.drawn(lines)
    width_in = max(6.4, 1.6 + 1.1 * len(builds))
    title = heading(f"From build to build: {noun(metrics[0])}", probe)
    figure = new_figure(width_in, 2.15 * count, caption, title, [line_handle(look) for look in looks])
    grid = iter(panels(figure, count, 1, sharex=True))
    for title, found in shown.items():
        axes = next(grid)
        _medians(axes, data, builds, found, looks)
        axes.set_title(title)
    if ratios:
        axes = next(grid)
        _ratios(axes, builds, ratios)
        axes.set_title(f"Ratio of the medians: {data.document['question']}")
    if flows:
        axes = next(grid)
        _flows(axes, data, builds, flows)
    axes.set_xticks(range(len(builds)), [_build_text(build, _declared(data, build)) for build in builds])
    axes.set_xlim(-0.5, len(builds) - 0.5)
    yield "scaling", figure


def _declared(data: PlotData, build: str) -> Mapping[str, Any]:
    for entry in data.results.experiment.get("builds") or ():
        if isinstance(entry, Mapping) and entry.get("name") == build:
            return entry
    return {}


def _build_text(name: str, build: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key} {value}" for key, value in (build.get("parameters") or {}).items())
    idle = f"{build['idle_ports']} idle ports" if build.get("idle_ports") else ""
    return "\n".join(part for part in (name, parameters, idle) if part)


def _medians(axes: Axes, data: PlotData, builds: list[str], lines: list[Line], looks: list[Look]) -> None:
    for number, look in enumerate(looks):
        entries = [entry for line in lines if line.look == look if (entry := data.arm(line.series, line.arm))]
        axes.errorbar(
            [builds.index(entry["build"]) + (number - (len(looks) - 1) / 2) * 0.16 for entry in entries],
            [entry["median"] for entry in entries],
            yerr=[
                [entry["median"] - (entry["median_ci_low"] or entry["median"]) for entry in entries],
                [(entry["median_ci_high"] or entry["median"]) - entry["median"] for entry in entries],
            ],
            color=look.color,
            linestyle="none",
            marker=look.marker,
            capsize=3,
        )
    axes.set_ylabel(f"median ({unit(lines[0].series.metric)})")
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.1)


def _ratios(axes: Axes, builds: list[str], entries: list[Entry]) -> None:
    varies = varying(entries) - {"build", "payload_bytes"}
    paths = list(dict.fromkeys(place(entry, varies) for entry in entries))
    step = 0.7 / len(paths)
    for number, path in enumerate(paths):
        of_path = [entry for entry in entries if place(entry, varies) == path]
        offset = (number - (len(paths) - 1) / 2) * step
        places = [builds.index(entry["build"]) + offset for entry in of_path]
        for x, entry in zip(places, of_path, strict=True):
            if entry["noise_floor"] is not None:
                floor = entry["noise_floor"]
                axes.bar(x, floor - 1 / floor, step * 0.85, bottom=1 / floor, color=NOISE, zorder=0.6)
        axes.errorbar(
            places,
            [entry["ratio"] for entry in of_path],
            yerr=[
                [entry["ratio"] - (entry["ratio_ci_low"] or entry["ratio"]) for entry in of_path],
                [(entry["ratio_ci_high"] or entry["ratio"]) - entry["ratio"] for entry in of_path],
            ],
            color=_PATH_COLORS[number % len(_PATH_COLORS)],
            linestyle="none",
            marker=_PATH_MARKERS[number % len(_PATH_MARKERS)],
            capsize=3,
            label=path,
        )
    axes.axhline(1.0, color=FAINT, linewidth=1.0, zorder=0.5)
    axes.set_ylabel("ratio")
    if len(paths) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


def _flows(axes: Axes, data: PlotData, builds: list[str], entries: list[Entry]) -> None:
    arms = data.plan.order(entry["arm"] for entry in entries)
    width = 0.6 / len(arms)
    for number, arm in enumerate(arms):
        of_arm = [entry for entry in entries if entry["arm"] == arm]
        look = data.look(data.series[0], arm)
        x = [builds.index(entry["build"]) + (number - (len(arms) - 1) / 2) * width for entry in of_arm]
        axes.bar(
            x,
            [entry["median"] for entry in of_arm],
            width * 0.93,
            facecolor="white",
            edgecolor=look.color,
            hatch=look.hatch,
            linewidth=1.4,
        )
        for place_x, entry in zip(x, of_arm, strict=True):
            axes.annotate(
                f"{entry['median']:,g}",
                (place_x, entry["median"]),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    axes.set_title("Flows on a bridge (median over bridges)")
    axes.set_ylabel("flows")
    axes.margins(y=0.18)
