"""The headline: overlay over routed with its interval, beside what the run's own noise can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from testbed.analysis.comparisons import HEADLINE
from testbed.analysis.metrics import noun
from testbed.analysis.plots.data import Entry, PlotData
from testbed.analysis.plots.style import FAINT, INK, LOOKS, NOISE, headline, join_words, new_figure

_LOGARITHMIC_FROM = 3.0
_FEW_TICKS_FROM = 20.0
_ROW_IN = 0.46
_CLAIM = LOOKS["overlay"].color


def ratio_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """The primary family, and the exploratory comparisons apart from it."""
    comparisons = [entry for entry in data.document["comparisons"] if entry["ratio"] is not None]
    primary = [entry for entry in comparisons if entry["role"] == "primary"]
    if primary:
        metric = noun(primary[0]["metric"])
        yield "ratio", _figure(data, primary, f"Overlay against routed: median {metric} ({primary[0]['probe']})", True)
    exploratory = [entry for entry in comparisons if entry["role"] == "exploratory"]
    if exploratory:
        yield "ratio_exploratory", _figure(data, exploratory, "Exploratory ratios", False)


def _figure(data: PlotData, entries: Sequence[Entry], title: str, primary: bool) -> Figure:
    shown = [data.series_of(entry) for entry in entries]
    method = data.document["method"]
    caption = data.caption(
        f"Ratio: geometric mean of the rounds' paired ratios, with its 95% BCa bootstrap interval over the rounds "
        f"({method['resamples']:,} resamples). Per row and arm: {data.counted(shown, HEADLINE)}.",
        "Grey: the noise floor, from routed measured against itself in the same rounds.",
        "A difference is claimed (filled mark) only if p < 0.05 after Holm's correction, the interval excludes 1 and "
        "the ratio leaves the noise floor."
        if primary
        else "Not corrected for their number: these generate hypotheses, they do not test them.",
    )
    height = _ROW_IN * len(entries) + 1.35
    figure = new_figure(9.6, height, caption)
    axes, words = figure.subplots(1, 2, sharey=True, width_ratios=[1.25 if primary else 1.0, 1])
    words.axis("off")
    bounds = [1.0]
    for row, entry in enumerate(entries):
        y = -row
        claimed = entry["verdict"] in ("higher", "lower")
        floor = entry["noise_floor"]
        if floor is not None:
            axes.add_patch(Rectangle((1 / floor, y - 0.36), floor - 1 / floor, 0.72, color=NOISE, linewidth=0))
            bounds += [1 / floor, floor]
        ratio, low, high = entry["ratio"], entry["ratio_ci_low"], entry["ratio_ci_high"]
        if low is not None:
            axes.plot([low, high], [y, y], color=INK, linewidth=1.6, solid_capstyle="butt")
            axes.plot([low, high], [y, y], linestyle="none", marker="|", markersize=9, color=INK)
            bounds += [low, high]
        axes.plot(
            [ratio],
            [y],
            marker="o",
            markersize=7.5,
            color=INK,
            markerfacecolor=_CLAIM if claimed else "white",
            zorder=3,
        )
        bounds.append(ratio)
        interval = f"   95%: {low:.3f} to {high:.3f}" if low is not None else ""
        words.text(
            0.0, y + 0.16, f"{ratio:.3f}{interval}", fontsize=8.5, va="center", weight="bold" if claimed else "normal"
        )
        words.text(0.0, y - 0.2, entry["verdict_text"], fontsize=8, va="center", color=INK if claimed else "#555555")
    axes.axvline(1.0, color=FAINT, linewidth=1.0, zorder=0.5)
    axes.set_yticks([-row for row in range(len(entries))], _labels(entries, primary))
    axes.set_ylim(-len(entries) + 0.4, 0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    if max(bounds) / min(bounds) > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        wide = max(bounds) / min(bounds) > _FEW_TICKS_FROM
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if wide else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    margin = (max(bounds) / min(bounds)) ** 0.06
    axes.set_xlim(min(bounds) / margin, max(bounds) * margin)
    if primary:
        axes.set_xlabel("ratio overlay / routed (1: no difference; to the right: overlay takes longer)")
    else:
        axes.set_xlabel("ratio (1: no difference)")
    headline(figure, title)
    figure.legend(
        handles=[
            Line2D([], [], marker="o", color=INK, markerfacecolor=_CLAIM, label="difference claimed"),
            Line2D([], [], marker="o", color=INK, markerfacecolor="white", label="not claimed"),
            Patch(color=NOISE, label="noise floor (A/A)"),
        ],
        loc="outside upper right",
        ncols=3,
        handlelength=1.6,
        columnspacing=1.2,
    )
    return figure


def _labels(entries: Sequence[Entry], primary: bool) -> list[str]:
    """One label a row; what is the same in all rows is left out."""
    varies = {key for key in ("build", "payload_bytes") if len({entry[key] for entry in entries} - {None}) > 1}
    labels = []
    for entry in entries:
        words = [entry["path"]]
        if "payload_bytes" in varies and entry["payload_bytes"] is not None:
            words.append(f"{entry['payload_bytes']} B")
        if "build" in varies:
            words.append(entry["build"])
        label = join_words(words)
        if not primary:
            what = f"{entry['probe']} {entry['statistic']}"
            if entry["metric"] not in ("rtt_us", "throughput_mbps"):
                what = f"{noun(entry['metric'])} {entry['statistic']}"
            arms = f"{entry['numerator']} / {entry['denominator']}"
            label = f"{join_words([what, label])}\n{arms}"
        labels.append(label)
    return labels
