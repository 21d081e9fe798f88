"""Where everything stands in the picture of a topology: pure geometry, in inches, y upwards.

Nodes are the bottom tier, with their pods under them; every other element is as high as its distance from the nearest
node, so leaves are below spines; external hosts are on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from topologies.fabric import ElementKind, Fabric, FabricLink

Point = tuple[float, float]

MOST_PODS_SHOWN = 6
_LONGEST_LABEL = 16
# So wide a picture can still be read on one page; more nodes under one element get further rows.
_MOST_COLUMNS = 16

_BOX_WIDTH, _BOX_HEIGHT, _POD_HEIGHT = 1.05, 0.4, 0.19
_COLUMN = 1.3
_ROW_GAP = 0.25
_TIER = 1.25
_WIRE_LANE = 0.12


@dataclass(frozen=True)
class Box:
    """A labelled rectangle around its centre."""

    x: float
    y: float
    width: float
    height: float
    kind: ElementKind | Literal["pod"]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Wire:
    """A link's line. Two elements of one tier are joined by an arch, whose first and last point are its feet."""

    link: FabricLink
    points: tuple[Point, ...]
    arch: bool = False


@dataclass(frozen=True)
class Picture:
    """The whole drawing; its lower left corner is at 0, 0."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]


@dataclass(frozen=True)
class _Span:
    """The share of the width that an element and all below it take."""

    left: float
    right: float

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


@dataclass(frozen=True)
class _Grid:
    """The nodes' places: the middle of each node's box, and how many rows there are."""

    centres: Mapping[str, Point]
    spans: Mapping[str, _Span]
    rows: int
    top: float


def place(fabric: Fabric, pods_by_node: Mapping[str, Sequence[str]]) -> Picture:
    """Boxes without overlap for every element and pod, and the wires between them.

    :param pods_by_node: node name to its pods' labels; long ones are shortened, and of many only the first are shown.
    """
    tiers = _tiers(fabric)
    labels = {node.name: _pod_labels(pods_by_node.get(node.name, ())) for node in fabric.of_kind("node")}
    grid = _grid(fabric, labels)
    spans = dict(grid.spans)
    for tier in tiers[1:]:
        spans |= _tier_spans(fabric, tier, spans)
    # Where many elements share the width of few nodes, everything moves apart until they fit.
    upper = [spans[name] for tier in tiers[1:] for name in tier]
    stretch = max([1.0, *(_COLUMN / (span.right - span.left) for span in upper)])
    centres = {name: (x * stretch, y) for name, (x, y) in grid.centres.items()}
    for height, tier in enumerate(tiers[1:]):
        arches = 1.0 if height == len(tiers) - 2 and _has_arches(fabric, tiers) else 0.0
        y = grid.top + (height + 1 + 0.3 * arches) * _TIER - _TIER / 4
        centres |= {name: (spans[name].middle * stretch, y) for name in tier}
    boxes = _boxes(fabric, centres, labels)
    wires = tuple(_wire(link, fabric, centres, grid.rows) for link in fabric.links)
    height = max(box.y + box.height / 2 for box in boxes)
    return Picture(stretch * max(span.right for span in spans.values()), height, boxes, wires)


def shortened(label: str) -> str:
    """The label with its middle left out when it is too long for a box."""
    if len(label) <= _LONGEST_LABEL:
        return label
    kept = _LONGEST_LABEL - 1
    return label[: ceil(kept / 2)] + "…" + label[-(kept // 2) :]


def _pod_labels(pods: Sequence[str]) -> tuple[str, ...]:
    if len(pods) <= MOST_PODS_SHOWN:
        return tuple(map(shortened, pods))
    shown = MOST_PODS_SHOWN - 1
    return (*map(shortened, pods[:shown]), f"+{len(pods) - shown} more")


def _tiers(fabric: Fabric) -> list[list[str]]:
    neighbours: dict[str, list[str]] = {element.name: [] for element in fabric.elements}
    for link in fabric.links:
        neighbours[link.a.element].append(link.b.element)
        neighbours[link.b.element].append(link.a.element)
    outside = {element.name for element in fabric.of_kind("ext")}
    tiers = [[node.name for node in fabric.of_kind("node")]]
    seen = {*tiers[0], *outside}
    while True:
        above = {other for name in tiers[-1] for other in neighbours[name]} - seen
        if not above:
            break
        seen |= above
        tiers.append([element.name for element in fabric.elements if element.name in above])
    return [*tiers, [element.name for element in fabric.of_kind("ext")]] if outside else tiers


def _parent(fabric: Fabric, host: str) -> str:
    return next(
        other.element
        for link in fabric.links
        for own, other in ((link.a, link.b), (link.b, link.a))
        if own.element == host
    )


def _grid(fabric: Fabric, labels: Mapping[str, tuple[str, ...]]) -> _Grid:
    """Nodes in rows and columns, those of one leaf or bridge together."""
    groups: dict[str, list[str]] = {}
    for node in fabric.of_kind("node"):
        groups.setdefault(_parent(fabric, node.name), []).append(node.name)
    most_columns = max(1, _MOST_COLUMNS // len(groups))
    rows = max(ceil(len(group) / most_columns) for group in groups.values())
    row_of, column_of = {}, {}
    first_column = 0
    for group in groups.values():
        columns = ceil(len(group) / rows)
        for position, name in enumerate(group):
            row_of[name], column_of[name] = position // columns, first_column + position % columns
        first_column += columns
    row_tops = [0.0] * (rows + 1)
    for row in reversed(range(rows)):
        most_pods = max((len(labels[name]) for name in labels if row_of[name] == row), default=0)
        row_tops[row] = row_tops[row + 1] + _BOX_HEIGHT + most_pods * _POD_HEIGHT + _ROW_GAP
    lane = _WIRE_LANE / 2 if rows > 1 else 0.0
    centres = {
        name: ((column_of[name] + 0.5) * _COLUMN + lane, row_tops[row_of[name]] - _BOX_HEIGHT / 2) for name in labels
    }
    spans = {name: _Span(column * _COLUMN, (column + 1) * _COLUMN) for name, column in column_of.items()}
    return _Grid(centres, spans, rows, row_tops[0])


def _tier_spans(fabric: Fabric, tier: Sequence[str], below: Mapping[str, _Span]) -> dict[str, _Span]:
    """Elements over the same part of the tier below share its width evenly, in their own order."""
    reach: dict[str, _Span] = {}
    for name in tier:
        spans = [
            below[other.element]
            for link in fabric.links
            for own, other in ((link.a, link.b), (link.b, link.a))
            if own.element == name and other.element in below
        ]
        reach[name] = _Span(min(span.left for span in spans), max(span.right for span in spans))
    clusters: list[tuple[_Span, list[str]]] = []
    for name in sorted(tier, key=lambda name: (reach[name].left, tier.index(name))):
        if clusters and reach[name].left < clusters[-1][0].right:
            span, members = clusters[-1]
            clusters[-1] = _Span(span.left, max(span.right, reach[name].right)), [*members, name]
        else:
            clusters.append((reach[name], [name]))
    shares = {}
    for span, members in clusters:
        share = (span.right - span.left) / len(members)
        for position, name in enumerate(sorted(members, key=tier.index)):
            shares[name] = _Span(span.left + position * share, span.left + (position + 1) * share)
    return shares


def _has_arches(fabric: Fabric, tiers: Sequence[Sequence[str]]) -> bool:
    tier_of = {name: height for height, tier in enumerate(tiers) for name in tier}
    return any(tier_of[link.a.element] == tier_of[link.b.element] for link in fabric.links)


def _boxes(fabric: Fabric, centres: Mapping[str, Point], labels: Mapping[str, tuple[str, ...]]) -> tuple[Box, ...]:
    subnets = {}
    for segment in fabric.segments:
        for end in segment.ends:
            subnets[end.element] = str(segment.subnet)
    boxes = []
    for element in fabric.elements:
        x, y = centres[element.name]
        lines = [element.name]
        if element.kind in ("node", "ext"):
            lines.append(str(fabric.address(element.name).ip))
        elif element.kind == "bridge":
            lines.append(subnets[fabric_neighbour(fabric, element.name)])
        boxes.append(Box(x, y, _BOX_WIDTH, _BOX_HEIGHT, element.kind, tuple(lines)))
        for row, label in enumerate(labels.get(element.name, ())):
            pod_y = y - _BOX_HEIGHT / 2 - (row + 0.5) * _POD_HEIGHT
            boxes.append(Box(x, pod_y, _BOX_WIDTH, _POD_HEIGHT, "pod", (label,)))
    return tuple(boxes)


def fabric_neighbour(fabric: Fabric, name: str) -> str:
    return _parent(fabric, name)


def _wire(link: FabricLink, fabric: Fabric, centres: Mapping[str, Point], rows: int) -> Wire:
    (x1, y1), (x2, y2) = sorted((centres[link.a.element], centres[link.b.element]), key=lambda point: -point[1])
    half = _BOX_HEIGHT / 2
    if y1 == y2:
        return Wire(link, ((x1, y1 + half), (x2, y2 + half)), arch=True)
    lower = min((link.a.element, link.b.element), key=lambda name: centres[name][1])
    if rows == 1 or fabric.element_by_name[lower].kind != "node":
        return Wire(link, ((x1, y1 - half), (x2, y2 + half)))
    # Several rows: down a lane on the left of the column, so that no wire crosses another node's box.
    lane = x2 - _BOX_WIDTH / 2 - _WIRE_LANE
    top = max(y for name, (_, y) in centres.items() if fabric.element_by_name[name].kind == "node") + half
    return Wire(link, ((x1, y1 - half), (lane, top), (lane, y2), (x2 - _BOX_WIDTH / 2, y2)))
