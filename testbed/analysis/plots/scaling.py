"""How time, ratio and number of flows change from build to build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import facts
from testbed.analysis.metrics import quantity
from testbed.analysis.plots.data import Entry, PlotData
from testbed.analysis.plots.style import FAINT, LOOKS, NOISE, headline, new_figure, panels

_ARMS = ("overlay", "routed")
_PATH_MARKERS = ("o", "s", "^", "D", "v", "P")
_PATH_COLORS = ("#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")


def scaling_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure when several clusters were built: medians per mode, the ratio, flows per bridge."""
    builds = [build["build"] for build in data.document["rounds"]["builds"]]
    if len(builds) < 2:
        return
    probe = data.document["primary_probe"]
    medians = [entry for entry in data.document["arms"] if entry["probe"] == probe and entry["arm"] in _ARMS]
    ratios = [entry for entry in data.document["comparisons"] if entry["role"] == "primary"]
    flows = data.document["flows"]
    payload = min((entry["payload_bytes"] for entry in medians if entry["payload_bytes"] is not None), default=None)
    medians = [entry for entry in medians if entry["payload_bytes"] == payload]
    ratios = [entry for entry in ratios if entry["payload_bytes"] == payload and entry["ratio"] is not None]
    paths = list(dict.fromkeys(entry["path"] for entry in medians))
    count = len(paths) + bool(ratios) + bool(flows)
    if not count:
        return
    idle = any(_declared(data, build).get("idle_ports") for build in builds)
    caption = data.caption(
        f"Builds are measured one after the other. Per build, path and mode: {facts.counted(medians)}. Bars: "
        "distribution-free 95% interval of the rounds' median, BCa 95% interval of the ratio; grey: noise floor.",
        "Builds with idle ports are the control: what the bridge's idle ports alone cost." if idle else "",
    )
    figure = new_figure(max(6.4, 1.6 + 1.1 * len(builds)), 2.15 * count + 0.6, caption)
    headline(figure, "From build to build", probe)
    grid = iter(panels(figure, count, 1, sharex=True))
    axes: Axes | None = None
    for path in paths:
        axes = next(grid)
        _medians(axes, builds, [entry for entry in medians if entry["path"] == path])
        axes.set_title(facts.path_text(data.results.experiment, path))
    if ratios:
        axes = next(grid)
        _ratios(axes, builds, ratios, paths)
    if flows:
        axes = next(grid)
        _flows(axes, builds, flows)
    assert axes is not None
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
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


def _medians(axes: Axes, builds: list[str], entries: list[Entry]) -> None:
    for number, arm in enumerate(_ARMS):
        of_arm = [entry for entry in entries if entry["arm"] == arm]
        look = LOOKS[arm]
        axes.errorbar(
            [builds.index(entry["build"]) + (number - 0.5) * 0.16 for entry in of_arm],
            [entry["median"] for entry in of_arm],
            yerr=[
                [entry["median"] - (entry["median_ci_low"] or entry["median"]) for entry in of_arm],
                [(entry["median_ci_high"] or entry["median"]) - entry["median"] for entry in of_arm],
            ],
            color=look.color,
            linestyle="none",
            marker=look.marker,
            capsize=3,
            label=look.label,
        )
    axes.set_ylabel("median\n" + quantity(entries[0]["metric"]))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.1)


def _ratios(axes: Axes, builds: list[str], entries: list[Entry], paths: list[str]) -> None:
    step = 0.7 / len(paths)
    for number, path in enumerate(paths):
        of_path = [entry for entry in entries if entry["path"] == path]
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
    axes.set_title("Ratio overlay / routed of the medians")
    axes.set_ylabel("ratio")
    if len(paths) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(paths), borderaxespad=0.2)


def _flows(axes: Axes, builds: list[str], entries: list[Entry]) -> None:
    for number, arm in enumerate(_ARMS):
        of_arm = [entry for entry in entries if entry["arm"] == arm]
        look = LOOKS[arm]
        x = [builds.index(entry["build"]) + (number - 0.5) * 0.3 for entry in of_arm]
        axes.bar(
            x,
            [entry["median"] for entry in of_arm],
            0.28,
            facecolor="white",
            edgecolor=look.color,
            hatch=look.hatch,
            linewidth=1.4,
            label=look.label,
        )
        for place, entry in zip(x, of_arm, strict=True):
            axes.annotate(
                f"{entry['median']:g}",
                (place, entry["median"]),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    axes.set_title("Flows on a bridge (median over bridges)")
    axes.set_ylabel("flows")
    axes.margins(y=0.18)
