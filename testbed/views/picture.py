"""A picture of a plan: the fabric in layers, nodes and outside hosts below it, each node's pods under it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import RunError
from topologies.fabric import Element, Fabric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from testbed.network.plan import Plan

Position = tuple[float, float]

_COLOURS = {"node": "#dbe9f6", "ext": "#f7e3cf", "router": "#d9ead3", "bridge": "#eeeeee", "pod": "#ffffff"}
_LAYER_HEIGHT = 1.6
_POD_HEIGHT = 0.42
_PODS_SHOWN = 8
_BOX_WIDTH = 1.5
_SWEEPS = 4  # of the barycentre ordering; it settles within two or three for trees


def draw(plan: Plan, file: Path) -> None:
    """Draw the plan into ``file``; its ending says the form. Raises RunError when the file cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    positions = layout(plan.fabric)
    pods = pod_labels(plan)
    width = max(x for x, _ in positions.values()) + 2 * _BOX_WIDTH
    tallest = max((len(labels) for labels in pods.values()), default=0)
    height = max(y for _, y in positions.values()) + _LAYER_HEIGHT + tallest * _POD_HEIGHT
    figure = Figure(figsize=(max(4.0, width), max(2.5, height)))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-_BOX_WIDTH, width - _BOX_WIDTH)
    axes.set_ylim(-0.6 - tallest * _POD_HEIGHT, height - tallest * _POD_HEIGHT - 0.6)
    for link in plan.fabric.links:
        (x1, y1), (x2, y2) = positions[link.a.element], positions[link.b.element]
        style = "--" if link.role == "wan" else "-"
        axes.plot((x1, x2), (y1, y2), style, color="#888888", linewidth=1, zorder=1)
    for element in plan.fabric.elements:
        _draw_box(axes, positions[element.name], element_label(plan.fabric, element), element.kind)
    for node_name, labels in pods.items():
        x, y = positions[node_name]
        for row, label in enumerate(labels):
            _draw_box(axes, (x, y - 0.62 - row * _POD_HEIGHT), label, "pod", small=True)
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise RunError(f"{file}: {error.strerror or error}") from None


def element_label(fabric: Fabric, element: Element) -> str:
    """Name and, for what has one, its address."""
    if element.kind == "bridge":
        return str(element.name)
    address = fabric.address(element.name).ip
    return f"{element.name}\n{address}"


def pod_labels(plan: Plan) -> dict[str, list[str]]:
    """Per node the pods' names with addresses; of many pods the first, and how many more there are."""
    labels: dict[str, list[str]] = {}
    for node_name, pods in plan.state.pods_by_node.items():
        shown = [f"{pod.name} {pod.pod_ip}" for pod in pods[:_PODS_SHOWN]]
        labels[node_name] = shown + ([f"and {len(pods) - _PODS_SHOWN} more"] if len(pods) > _PODS_SHOWN else [])
    return labels


def layout(fabric: Fabric) -> dict[str, Position]:
    """Where each element stands. Nodes and outside hosts are layer 0, every other element as high as its distance from
    the nearest of them; within a layer elements stand near the middle of what they are wired to, so few wires cross."""
    neighbours = _neighbours(fabric)
    layers = _layers(fabric, neighbours)
    order = {name: float(place) for layer in layers for place, name in enumerate(layer)}
    for _ in range(_SWEEPS):
        for layer in layers:
            wish = {name: _mean(order[other] for other in neighbours[name]) for name in layer}
            layer.sort(key=lambda name: (wish[name], order[name]))
            order.update((name, float(place)) for place, name in enumerate(layer))
    widest = max(len(layer) for layer in layers)
    positions: dict[str, Position] = {}
    for height, layer in enumerate(layers):
        gap = widest * _BOX_WIDTH * 1.2 / len(layer)
        for place, name in enumerate(layer):
            positions[name] = ((place + 0.5) * gap - _BOX_WIDTH / 2, height * _LAYER_HEIGHT)
    return positions


def _neighbours(fabric: Fabric) -> dict[str, list[str]]:
    neighbours: dict[str, list[str]] = {element.name: [] for element in fabric.elements}
    for link in fabric.links:
        neighbours[link.a.element].append(link.b.element)
        neighbours[link.b.element].append(link.a.element)
    return neighbours


def _layers(fabric: Fabric, neighbours: Mapping[str, list[str]]) -> list[list[str]]:
    height = {element.name: 0 for element in fabric.elements if element.kind in ("node", "ext")}
    waiting = deque(height)
    while waiting:
        name = waiting.popleft()
        for other in neighbours[name]:
            if other not in height:
                height[other] = height[name] + 1
                waiting.append(other)
    layers: list[list[str]] = [[] for _ in range(max(height.values()) + 1)]
    for element in fabric.elements:
        layers[height[element.name]].append(element.name)
    return layers


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _draw_box(axes: Axes, position: Position, label: str, kind: str, small: bool = False) -> None:
    rounding = "round,pad=0.25" if kind != "bridge" else "square,pad=0.25"
    axes.text(
        *position,
        label,
        ha="center",
        va="center",
        fontsize=6.5 if small else 8,
        zorder=2,
        bbox={"boxstyle": rounding, "facecolor": _COLOURS[kind], "edgecolor": "#555555", "linewidth": 0.7},
    )
