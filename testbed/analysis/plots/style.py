"""How every figure looks: one look for an arm everywhere, a caption below, the same bytes each time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Look:
    """How an arm is drawn. No two arms differ by colour alone."""

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
INK = "#222222"
FAINT = "#8a8a8a"
NOISE = "#d9d9d9"
VOID = "#f0e442"

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
_CAPTION_POINTS = 7.5
_CAPTION_INCHES_PER_CHARACTER = 0.0585
_CAPTION_INCHES_PER_LINE = 0.135
_PNG_DPI = 130


def styled() -> Any:
    """Context in which figures are made and saved."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width_in: float, height_in: float, caption: str) -> Figure:
    """An empty figure with ``caption`` at its foot; the axes that are added share the room above it."""
    lines = textwrap.wrap(caption, int((width_in - 0.2) / _CAPTION_INCHES_PER_CHARACTER))
    foot_in = 0.1 + _CAPTION_INCHES_PER_LINE * len(lines)
    figure = Figure(figsize=(width_in, height_in + foot_in), layout="constrained")
    FigureCanvasAgg(figure)
    figure.text(
        0.1 / width_in,
        0.06 / (height_in + foot_in),
        "\n".join(lines),
        fontsize=_CAPTION_POINTS,
        color="#555555",
        va="bottom",
        linespacing=1.25,
    )
    share = foot_in / (height_in + foot_in)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.0, share, 1.0, 1.0 - share), w_pad=0.08, h_pad=0.06)  # type: ignore[call-arg]
    return figure


def panels(figure: Figure, count: int, columns: int, *, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """``count`` axes in rows of ``columns``; cells of the grid that are left over stay empty."""
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for spare in grid[count:]:
        spare.remove()
    return list(grid[:count])


def headline(figure: Figure, text: str, probe: str = "") -> None:
    """The figure's title, flush left; the probe is added unless the text says the same."""
    both = text if not probe or text.lower().endswith(probe) else f"{text} — {probe}"
    figure.suptitle(both, x=0.1 / figure.get_figwidth(), ha="left", fontsize=11)


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
