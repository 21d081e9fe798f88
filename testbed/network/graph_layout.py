"""Where everything stands in the picture of a topology: pure geometry, in inches, y upwards.

Nodes are the bottom tier, with their pods under them; every other element is as high as its distance from the nearest
node, so leaves are below spines; external hosts are on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, copysign
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
_ARCH_HEIGHT = 0.6


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
    """A link's line. Between two elements of one tier it is an arch: ``points`` are its feet, ``rise`` its height."""

    link: FabricLink
    points: tuple[Point, ...]
    rise: float = 0.0


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

    @property
    def width(self) -> float:
        return self.right - self.left


def place(fabric: Fabric, pods_by_node: Mapping[str, Sequence[str]]) -> Picture:
    """Boxes without overlap for every element and pod, and the wires between them.

    :param pods_by_node: node name to its pods' labels; long ones are shortened, and of many only the first are shown.
    """
    return _Drawing(fabric, pods_by_node).picture()


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


class _Drawing:
    """One picture in the making: first the tiers, then the width from below upwards, then the heights."""

    def __init__(self, fabric: Fabric, pods_by_node: Mapping[str, Sequence[str]]) -> None:
        self._fabric = fabric
        self._neighbours: dict[str, list[str]] = {element.name: [] for element in fabric.elements}
        self._subnets: dict[str, str] = {}
        for link in fabric.links:
            for own, other in ((link.a, link.b), (link.b, link.a)):
                self._neighbours[own.element].append(other.element)
                if own.address is None and other.address is not None:
                    self._subnets[own.element] = str(other.address.network)
        self._pods = {node.name: _pod_labels(pods_by_node.get(node.name, ())) for node in fabric.of_kind("node")}
        self._tiers = self._find_tiers()
        self._row: dict[str, int] = {}
        self._spans: dict[str, _Span] = {}
        self._centres: dict[str, Point] = {}

    def picture(self) -> Picture:
        self._spread_nodes()
        for tier in self._tiers[1:]:
            self._spread_tier(tier)
        # Where many elements share the width of few nodes, everything moves apart until they fit.
        stretch = max(_COLUMN / span.width for span in self._spans.values())
        self._spans = {name: _Span(span.left * stretch, span.right * stretch) for name, span in self._spans.items()}
        self._raise_nodes()
        self._raise_tiers()
        boxes, wires = self._boxes(), tuple(self._wire(link) for link in self._fabric.links)
        highest_wire = max(y + wire.rise for wire in wires for _, y in wire.points)
        highest_box = max(box.y + box.height / 2 for box in boxes)
        return Picture(self._width(), max(highest_wire, highest_box), boxes, wires)

    def _width(self) -> float:
        return max(span.right for span in self._spans.values())

    def _find_tiers(self) -> list[list[str]]:
        outside = [element.name for element in self._fabric.of_kind("ext")]
        tiers = [list(self._pods)]
        seen = {*tiers[0], *outside}
        while above := {other for name in tiers[-1] for other in self._neighbours[name]} - seen:
            seen |= above
            tiers.append([element.name for element in self._fabric.elements if element.name in above])
        return [*tiers, outside] if outside else tiers

    def _spread_nodes(self) -> None:
        """Rows and columns; the nodes of one leaf or bridge stay together."""
        groups: dict[str, list[str]] = {}
        for name in self._tiers[0]:
            groups.setdefault(self._neighbours[name][0], []).append(name)
        most_columns = max(1, _MOST_COLUMNS // len(groups))
        rows = max(ceil(len(group) / most_columns) for group in groups.values())
        first_column = 0
        for group in groups.values():
            columns = ceil(len(group) / rows)
            for position, name in enumerate(group):
                self._row[name] = position // columns
                column = first_column + position % columns
                self._spans[name] = _Span(column * _COLUMN, (column + 1) * _COLUMN)
            first_column += columns

    def _spread_tier(self, tier: Sequence[str]) -> None:
        """Elements over the same part of the tier below share its width evenly, in their own order."""
        reach = {}
        for name in tier:
            below = [self._spans[other] for other in self._neighbours[name] if other in self._spans]
            reach[name] = _Span(min(span.left for span in below), max(span.right for span in below))
        clusters: list[tuple[_Span, list[str]]] = []
        for name in sorted(tier, key=lambda name: reach[name].left):
            if clusters and reach[name].left < clusters[-1][0].right:
                span, members = clusters[-1]
                clusters[-1] = _Span(span.left, max(span.right, reach[name].right)), [*members, name]
            else:
                clusters.append((reach[name], [name]))
        for span, members in clusters:
            share = span.width / len(members)
            for position, name in enumerate(sorted(members, key=tier.index)):
                self._spans[name] = _Span(span.left + position * share, span.left + (position + 1) * share)

    def _raise_nodes(self) -> None:
        rows = 1 + max(self._row.values())
        lane = _WIRE_LANE / 2 if rows > 1 else 0.0
        y = 0.0
        for row in reversed(range(rows)):
            members = [name for name in self._row if self._row[name] == row]
            y += max(len(self._pods[name]) for name in members) * _POD_HEIGHT + _BOX_HEIGHT
            for name in members:
                self._centres[name] = self._spans[name].middle + lane, y - _BOX_HEIGHT / 2
            y += _ROW_GAP

    def _raise_tiers(self) -> None:
        y = max(height for _, height in self._centres.values())
        for below, tier in pairwise(self._tiers):
            arches = any(other in below for name in below for other in self._neighbours[name])
            y += _TIER + (_ARCH_HEIGHT if arches else 0.0)
            for name in tier:
                self._centres[name] = self._spans[name].middle, y

    def _boxes(self) -> tuple[Box, ...]:
        boxes = []
        for element in self._fabric.elements:
            x, y = self._centres[element.name]
            second = self._subnets.get(element.name, "")
            if element.kind in ("node", "ext"):
                second = str(self._fabric.address(element.name).ip)
            lines = (element.name, second) if second else (element.name,)
            boxes.append(Box(x, y, _BOX_WIDTH, _BOX_HEIGHT, element.kind, lines))
            for row, label in enumerate(self._pods.get(element.name, ())):
                pod_y = y - _BOX_HEIGHT / 2 - (row + 0.5) * _POD_HEIGHT
                boxes.append(Box(x, pod_y, _BOX_WIDTH, _POD_HEIGHT, "pod", (label,)))
        return tuple(boxes)

    def _wire(self, link: FabricLink) -> Wire:
        upper, lower = sorted((link.a.element, link.b.element), key=lambda name: -self._centres[name][1])
        (x1, y1), (x2, y2) = self._centres[upper], self._centres[lower]
        half = _BOX_HEIGHT / 2
        if y1 == y2:
            # Feet off the middle, where a wire from above arrives. A farther pair gets a higher arch.
            foot = copysign(_BOX_WIDTH / 4, x2 - x1)
            rise = _ARCH_HEIGHT * (0.25 + 0.75 * abs(x2 - x1) / self._width())
            return Wire(link, ((x1 + foot, y1 + half), (x2 - foot, y2 + half)), rise)
        if lower not in self._row or max(self._row.values()) == 0:
            return Wire(link, ((x1, y1 - half), (x2, y2 + half)))
        # Several rows: down a lane beside the column, so that no wire crosses another node's box.
        left = x2 - _BOX_WIDTH / 2
        top = max(self._centres[name][1] for name in self._row) + half + _WIRE_LANE
        lane = left - _WIRE_LANE
        return Wire(link, ((x1, y1 - half), (lane, top), (lane, y2), (left, y2)))
