"""The headline: each ratio with its interval, beside what the run's own noise can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from testbed.analysis import facts
from testbed.analysis.metrics import noun
from testbed.analysis.plots.data import Entry, PlotData
from testbed.analysis.plots.style import FAINT, INK, LOOKS, NOISE, join_words, new_figure, plain_number
from testbed.analysis.verdict import comparative
from testbed.analysis.words import Side, place, side_of, varying

_LOGARITHMIC_FROM = 3.0
_FEW_TICKS_FROM = 20.0
_ROW_IN = 0.46
_MOST_ROWS = 40
_CLAIM = LOOKS["overlay"].color
_HINT = "#f2c9a8"  # the same, paler: nothing is claimed of what was not corrected for


def ratio_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """The primary family, and the exploratory comparisons apart from it unless they are too many for a picture."""
    comparisons = [entry for entry in data.document["comparisons"] if entry["ratio"] is not None]
    primary = [entry for entry in comparisons if entry["role"] == "primary"]
    if primary:
        question = data.document["question"]
        if data.by == "mode":  # the others begin with a name as it was written
            question = question[:1].upper() + question[1:]
        title = f"{question}: median {noun(primary[0]['metric'])} ({primary[0]['probe']})"
        yield "ratio", _figure(data, primary, title, True)
    exploratory = [entry for entry in comparisons if entry["role"] == "exploratory"]
    if 0 < len(exploratory) <= _MOST_ROWS:
        yield "ratio_exploratory", _figure(data, exploratory, "Exploratory ratios", False)


def _figure(data: PlotData, entries: Sequence[Entry], title: str, primary: bool) -> Figure:
    method = data.document["method"]
    both: tuple[Side, Side] = ("numerator", "denominator")
    sides = [side for entry in entries for name in both if (side := side_of(data.document, entry, name)) is not None]
    caption = data.caption(
        f"Ratio: geometric mean of the rounds' paired ratios, with its 95% BCa bootstrap interval over the rounds "
        f"({method['resamples']:,} resamples). Per row and side: {facts.counted(sides)}.",
        "Grey: the noise floor, from the denominator measured against itself in the same rounds.",
        "A difference is claimed (filled mark) only if p < 0.05 after Holm's correction, the interval excludes 1 and "
        "the ratio leaves the noise floor."
        if primary
        else "Not corrected for their number: these generate hypotheses, they do not test them.",
    )
    marks = (
        (_CLAIM, "difference claimed", "not claimed") if primary else (_HINT, "difference suggested", "none suggested")
    )
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=INK, markerfacecolor=marks[0], label=marks[1]),
        Line2D([], [], linestyle="none", marker="o", color=INK, markerfacecolor="white", label=marks[2]),
        Patch(color=NOISE, label="noise floor (A/A)"),
    ]
    height = _ROW_IN * len(entries) + 0.75
    figure = new_figure(9.6, height, caption, title, handles)
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
            markerfacecolor=marks[0] if claimed else "white",
            zorder=3,
        )
        bounds.append(ratio)
        interval = f"   95%: {low:.3f} to {high:.3f}" if low is not None else ""
        words.text(
            0.0,
            y + 0.16,
            f"{ratio:.3f}{interval}",
            fontsize=8.5,
            va="center",
            weight="bold" if claimed and primary else "normal",
        )
        words.text(
            0.0,
            y - 0.2,
            entry["verdict_text"],
            fontsize=8,
            va="center",
            color=INK if claimed and primary else "#555555",
        )
    axes.axvline(1.0, color=FAINT, linewidth=1.0, zorder=0.5)
    axes.set_yticks([-row for row in range(len(entries))], _labels(entries, primary))
    axes.set_ylim(-len(entries) + 0.4, 0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    if max(bounds) / min(bounds) > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        wide = max(bounds) / min(bounds) > _FEW_TICKS_FROM
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if wide else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    margin = (max(bounds) / min(bounds)) ** 0.06
    axes.set_xlim(min(bounds) / margin, max(bounds) * margin)
    axes.set_xlabel(_axis_text(entries))
    return figure


def _axis_text(entries: Sequence[Entry]) -> str:
    """What the axis shows, and what it means to lie to the right of 1: it depends on the metric."""
    pairs = {(entry["numerator"], entry["denominator"]) for entry in entries}
    above, below = pairs.pop() if len(pairs) == 1 else ("", "")
    what = f"ratio {above} / {below}" if above else "ratio"
    words = {comparative(entry["metric"], 2.0) for entry in entries}
    if len(words) > 1:
        return f"{what} (1: no difference)"
    return f"{what} (1: no difference; to the right: {above or 'the first named'} is {words.pop()})"


def _labels(entries: Sequence[Entry], primary: bool) -> list[str]:
    """One label a row; what is the same in all rows is left out."""
    varies = varying(entries)
    labels = []
    for entry in entries:
        label = place(entry, varies).replace(", ", " · ")
        if not primary:
            what = f"{entry['probe']} {entry['statistic']}"
            if entry["metric"] not in ("rtt_us", "throughput_mbps"):
                what = f"{noun(entry['metric'])} {entry['statistic']}"
            arms = f"{entry['numerator']} / {entry['denominator']}"
            label = f"{join_words([what, label])}\n{arms}"
        labels.append(label)
    return labels
