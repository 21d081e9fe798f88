"""How every figure looks: one look for an arm everywhere, a caption below, the same bytes each time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch


@dataclass(frozen=True)
class Look:
    """How one line of a comparison is drawn. No two of a figure differ by colour alone."""

    label: str
    color: str
    marker: str
    line: Literal["-", "--", ":", "-."]
    hatch: str


# Okabe and Ito's palette, which stays distinct for colour-blind readers.
LOOKS: Mapping[str, Look] = {
    "overlay": Look("overlay", "#D55E00", "o", "-", ""),
    "routed": Look("routed", "#0072B2", "s", "--", "//"),
    "routed_aa": Look("routed again (A/A)", "#56B4E9", "^", ":", ".."),
    "routed_overlay_mtu": Look("routed at the overlay's MTU", "#009E73", "D", "-.", "xx"),
}
# What is compared when it is not the modes: first what the others are compared with.
_OTHER_LOOKS = (
    ("#0072B2", "s", "--", "//"),
    ("#D55E00", "o", "-", ""),
    ("#009E73", "D", "-.", "xx"),
    ("#CC79A7", "v", ":", "\\\\"),
    ("#000000", "P", "-", "++"),
    ("#E69F00", "<", "--", "oo"),
)
INK = "#222222"
FAINT = "#8a8a8a"
NOISE = "#d9d9d9"
VOID = "#f0e442"
BAD = "#b2182b"

_STYLE: Any = {
    "svg.hashsalt": "testbed",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
}
_TITLE_POINTS, _TITLE_INCHES_PER_CHARACTER, _TITLE_INCHES_PER_LINE = 11, 0.088, 0.2
_LEGEND_INCHES_PER_CHARACTER, _LEGEND_HANDLE_INCHES, _LEGEND_INCHES_PER_LINE = 0.066, 0.55, 0.19
_CAPTION_POINTS = 7.5
_CAPTION_INCHES_PER_CHARACTER = 0.0585
_CAPTION_INCHES_PER_LINE = 0.135
_PNG_DPI = 130


def styled() -> Any:
    """Context in which figures are made and saved."""
    return matplotlib.rc_context(_STYLE)


def other_look(name: str, place: int, *, again: bool = False) -> Look:
    """The look of one of several things compared, by its place among them; ``again``: executed again (A/A)."""
    if again:
        return Look(f"{name} again (A/A)", "#56B4E9", "^", ":", "..")
    return Look(name, *_OTHER_LOOKS[place % len(_OTHER_LOOKS)])  # type: ignore[arg-type]


def new_figure(width_in: float, height_in: float, caption: str, title: str, legend: Sequence[Artist] = ()) -> Figure:
    """An empty figure: ``title`` at its head, below it the legend, ``caption`` at its foot, each in room of its own.

    The axes that are added share what is between them, ``height_in``.
    """
    lines = textwrap.wrap(caption, int((width_in - 0.2) / _CAPTION_INCHES_PER_CHARACTER))
    foot_in = 0.1 + _CAPTION_INCHES_PER_LINE * len(lines)
    heading = textwrap.wrap(title, int((width_in - 0.2) / _TITLE_INCHES_PER_CHARACTER))
    columns = _legend_columns(width_in, legend)
    title_in = 0.08 + _TITLE_INCHES_PER_LINE * len(heading)
    head_in = title_in + (_LEGEND_INCHES_PER_LINE * -(-len(legend) // columns) + 0.06 if legend else 0.0)
    total_in = head_in + height_in + foot_in
    figure = Figure(figsize=(width_in, total_in), layout="constrained")
    FigureCanvasAgg(figure)
    left = 0.1 / width_in
    figure.text(left, 1 - 0.07 / total_in, "\n".join(heading), fontsize=_TITLE_POINTS, va="top", linespacing=1.2)
    figure.text(
        left,
        0.06 / total_in,
        "\n".join(lines),
        fontsize=_CAPTION_POINTS,
        color="#555555",
        va="bottom",
        linespacing=1.25,
    )
    if legend:
        drawn = figure.legend(
            handles=list(legend),
            loc="upper left",
            bbox_to_anchor=(left, 1 - title_in / total_in),
            ncols=columns,
            borderaxespad=0.0,
            borderpad=0.2,
            columnspacing=1.4,
        )
        drawn.set_in_layout(False)
    engine = figure.get_layout_engine()
    assert engine is not None
    rect = (0.0, foot_in / total_in, 1.0, 1.0 - (foot_in + head_in) / total_in)
    engine.set(rect=rect, w_pad=0.08, h_pad=0.06)  # type: ignore[call-arg]
    return figure


def _legend_columns(width_in: float, legend: Sequence[Artist]) -> int:
    longest = max((len(str(handle.get_label())) for handle in legend), default=0)
    each_in = _LEGEND_HANDLE_INCHES + _LEGEND_INCHES_PER_CHARACTER * longest
    return max(1, min(len(legend), int((width_in - 0.2) / each_in)))


def line_handle(look: Look) -> Line2D:
    """A legend's entry for a line with its marker."""
    return Line2D([], [], color=look.color, linestyle=look.line, marker=look.marker, label=look.label)


def bar_handle(look: Look) -> Patch:
    """A legend's entry for a bar."""
    return Patch(facecolor="white", edgecolor=look.color, hatch=look.hatch, linewidth=1.4, label=look.label)


def plain_number(value: float, _: object = None) -> str:
    """A tick's text: 0.5, 12, 10,000; never 1e+04."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def panels(figure: Figure, count: int, columns: int, *, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """``count`` axes in rows of ``columns``; cells of the grid that are left over stay empty."""
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for spare in grid[count:]:
        spare.remove()
    return list(grid[:count])


def heading(text: str, probe: str = "") -> str:
    """A figure's title; the probe is added unless the text says the same."""
    return text if not probe or text.lower().endswith(probe) else f"{text} — {probe}"


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write ``name``.svg and ``name``.png. The bytes depend on the figure alone: no date, ids from a fixed salt."""
    # The layout is solved once; saving the second format would otherwise solve it again.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    files = [directory / f"{name}.svg", directory / f"{name}.png"]
    figure.savefig(files[0], format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(files[1], format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return files


def join_words(words: Sequence[str]) -> str:
    """The words that are not empty, separated by a middle dot."""
    return " · ".join(word for word in words if word)
