"""The picture of a topology for ``testbed graph``: fabric, nodes and pods, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch
from matplotlib.path import Path

from testbed.network.graph_layout import Box, Wire, place
from topologies.fabric import Fabric, Shaping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Fill and edge; told apart in grey as well, by lightness and by the broken edge of what is outside the cluster.
_COLOURS = {
    "node": ("#cfe3f5", "#2b5d8a"),
    "pod": ("#ffffff", "#7d9cb8"),
    "router": ("#d8ecd3", "#3c7a36"),
    "bridge": ("#fbf0c4", "#8a7420"),
    "ext": ("#f6dcc8", "#a4531c"),
}
_KIND_NAMES = {"node": "node", "pod": "pod", "router": "router (L3)", "bridge": "bridge (L2)", "ext": "external host"}
_ROLE_STYLES: dict[str, tuple[str, Literal["-", "--"]]] = {
    "access": ("#8c8c8c", "-"),
    "fabric": ("#33475b", "-"),
    "wan": ("#b03060", "--"),
}

_MARGIN = 0.3
_TITLE_HEIGHT = 0.5
_LEGEND_LINE = 0.22
_SMALLEST_WIDTH = 6.5


def draw_graph(fabric: Fabric, pods_by_node: Mapping[str, Sequence[str]], title: str) -> Figure:
    """Draw the elements in tiers with the nodes' pods under them, links by role, and a legend that says their shaping.

    :param pods_by_node: node name to its pods' labels; a node that is left out has none.
    :return: a figure of its own (no global state), sized in inches for what is on it; ``savefig`` writes it.
    """
    picture = place(fabric, pods_by_node)
    roles = _role_labels(fabric)
    legend_height = _LEGEND_LINE * (1 + len(roles)) + _MARGIN
    width = max(_SMALLEST_WIDTH, picture.width + 2 * _MARGIN)
    height = picture.height + legend_height + _TITLE_HEIGHT + 2 * _MARGIN
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    # One unit is one inch, so that text keeps its proportion to the boxes at every size.
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    left = (width - picture.width) / 2
    axes.set_xlim(-left, width - left)
    axes.set_ylim(-legend_height - _MARGIN, height - legend_height - _MARGIN)
    for wire in picture.wires:
        _draw_wire(axes, wire)
    for box in picture.boxes:
        _draw_box(axes, box)
    axes.text(picture.width / 2, picture.height + _MARGIN + _TITLE_HEIGHT / 3, title, ha="center", fontsize=11)
    _draw_legend(figure, [box.kind for box in picture.boxes], roles, legend_height / height)
    return figure


def shaping_text(shaping: Shaping) -> str:
    """What a link does to packets, in words and units; "unlimited" for nothing."""
    parts = []
    if shaping.rate_mbit is not None:
        parts.append(f"{shaping.rate_mbit:g} Mbit/s")
    if shaping.delay_ms is not None:
        spread = f" ± {shaping.jitter_ms:g}" if shaping.jitter_ms else ""
        parts.append(f"{shaping.delay_ms:g}{spread} ms one way")
    if shaping.loss_pct is not None:
        parts.append(f"{shaping.loss_pct:g}% loss")
    if shaping.queue_packets is not None:
        parts.append(f"queue of {shaping.queue_packets} packets")
    return ", ".join(parts) or "unlimited"


def _role_labels(fabric: Fabric) -> dict[str, str]:
    labels = {}
    for role in _ROLE_STYLES:
        shapings = [link.shaping for link in fabric.links if link.role == role]
        if shapings:
            count = "1 link" if len(shapings) == 1 else f"{len(shapings)} links"
            labels[role] = f"{role} ({count}): {shaping_text(shapings[0])}"
    return labels


def _draw_box(axes: Axes, box: Box) -> None:
    fill, edge = _COLOURS[box.kind]
    rounding = 0.0 if box.kind in ("bridge", "pod") else 0.07
    axes.add_patch(
        FancyBboxPatch(
            (box.x - box.width / 2, box.y - box.height / 2),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0",
            facecolor=fill,
            edgecolor=edge,
            linewidth=0.8,
            linestyle="--" if box.kind == "ext" else "-",
            zorder=3,
        )
    )
    for number, line in enumerate(box.lines):
        axes.text(
            box.x,
            box.y + box.height * (0.5 - (number + 0.5) / len(box.lines)),
            line,
            ha="center",
            va="center_baseline",
            fontsize=6.5 if box.kind == "pod" or number else 8,
            fontweight="bold" if box.kind != "pod" and not number else "normal",
            zorder=4,
        )


def _draw_wire(axes: Axes, wire: Wire) -> None:
    colour, style = _ROLE_STYLES[wire.link.role]
    points = list(wire.points)
    codes = [Path.MOVETO] + [Path.LINETO] * (len(points) - 1)
    if wire.rise:
        (x1, y1), (x2, y2) = points
        handle = wire.rise / 0.75  # a cubic curve rises to three quarters of its handles' height
        points = [(x1, y1), (x1, y1 + handle), (x2, y2 + handle), (x2, y2)]
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    path = Path(points, codes)
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linestyle=style, linewidth=1.0, zorder=1))


def _draw_legend(figure: Figure, kinds: Sequence[str], roles: Mapping[str, str], height: float) -> None:
    options = {"frameon": False, "fontsize": 7.5, "borderaxespad": 0.0, "handlelength": 1.8}
    boxes = [
        Patch(
            facecolor=fill,
            edgecolor=edge,
            linewidth=0.8,
            linestyle="--" if kind == "ext" else "-",
            label=_KIND_NAMES[kind],
        )
        for kind, (fill, edge) in _COLOURS.items()
        if kind in kinds
    ]
    lines = [
        Line2D([], [], color=_ROLE_STYLES[role][0], linestyle=_ROLE_STYLES[role][1], label=label)
        for role, label in roles.items()
    ]
    figure.legend(handles=boxes, loc="upper center", bbox_to_anchor=(0.5, height), ncols=len(boxes), **options)
    below = height - _LEGEND_LINE * 1.1 / figure.get_figheight()
    figure.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, below), ncols=1, **options)
