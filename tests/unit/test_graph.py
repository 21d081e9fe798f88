"""The picture of a topology: everything is on it, nothing lies on something else, every text fits its box."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from testbed.network.graph import draw_graph, shaping_text
from testbed.network.graph_layout import MOST_PODS_SHOWN, place, shortened
from tests.unit.topology_choices import fabrics
from topologies import TOPOLOGIES
from topologies.fabric import Fabric, Shaping


def pods_for(fabric: Fabric) -> dict[str, list[str]]:
    """None on the first node, then more and more; every second with a name too long for its box."""
    return {
        node.name: [f"wwwww-very-long-name-{k}" if k % 2 else f"pod-{k}" for k in range(3 * number)]
        for number, node in enumerate(fabric.of_kind("node"))
    }


def texts(figure: Figure) -> list[str]:
    in_legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [text.get_text() for text in figure.axes[0].texts] + in_legends


def assert_no_overlap(fabric: Fabric) -> None:
    picture = place(fabric, pods_for(fabric))
    for a, b in combinations(picture.boxes, 2):
        beside = abs(a.x - b.x) >= (a.width + b.width) / 2 - 1e-9
        above = abs(a.y - b.y) >= (a.height + b.height) / 2 - 1e-9
        assert beside or above, f"{a.lines} lies on {b.lines}"
    for box in picture.boxes:
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= picture.width
        assert box.y - box.height / 2 >= -1e-9
        assert box.y + box.height / 2 <= picture.height
    assert len(picture.wires) == len(fabric.links)


@settings(deadline=None, max_examples=40)
@given(fabrics())
def test_no_box_lies_on_another(fabric: Fabric) -> None:
    assert_no_overlap(fabric)


def test_no_box_lies_on_another_with_40_nodes() -> None:
    assert_no_overlap(TOPOLOGIES["single_switch"].plan_fabric({"nodes": 40, "ext": 3}))
    assert_no_overlap(TOPOLOGIES["leaf_spine"].plan_fabric({"leaves": 4, "nodes_per_leaf": 10, "spines": 4}))


def test_wires_of_lower_rows_pass_beside_the_upper_ones() -> None:
    fabric = TOPOLOGIES["single_switch"].plan_fabric({"nodes": 40})
    picture = place(fabric, {})
    for wire in picture.wires:
        for (x1, y1), (x2, y2) in zip(wire.points[1:], wire.points[2:], strict=False):
            for box in picture.boxes:
                inside_x = box.x - box.width / 2 < max(x1, x2) and min(x1, x2) < box.x + box.width / 2
                inside_y = box.y - box.height / 2 < max(y1, y2) and min(y1, y2) < box.y + box.height / 2
                assert not (inside_x and inside_y), f"a wire crosses {box.lines}"


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_text_fits_its_box_and_the_picture(name: str) -> None:
    fabric = TOPOLOGIES[name].plan_fabric({"ext": 2})
    figure = draw_graph(fabric, pods_for(fabric), "a title")
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        assert figure.bbox.x0 <= extent.x0
        assert extent.x1 <= figure.bbox.x1
        if text.get_text() != "a title":
            assert any(
                box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
                for box in boxes
            ), f"{text.get_text()} does not fit"
        else:
            assert not any(box.overlaps(extent) for box in boxes)
    for legend in figure.legends:
        assert not any(box.overlaps(legend.get_window_extent()) for box in boxes)
    first, second = (legend.get_window_extent() for legend in figure.legends)
    assert not first.overlaps(second)
    assert min(first.y0, second.y0) >= 0


def test_everything_is_named() -> None:
    shaping = {"wan": Shaping(rate_mbit=100, delay_ms=10, jitter_ms=1)}
    fabric = TOPOLOGIES["zones"].plan_fabric({"ext": 1}, shaping)
    shown = texts(draw_graph(fabric, {"n1": ["web"]}, "two zones"))
    assert {element.name for element in fabric.elements} <= set(shown)
    assert {"two zones", "web", "192.168.1.11", "192.168.1.0/24", "external host", "bridge (L2)"} <= set(shown)
    assert "wan (1 link): 100 Mbit/s, 10 ± 1 ms one way" in shown
    assert "access (5 links): unlimited" in shown


def test_many_pods_are_counted() -> None:
    fabric = TOPOLOGIES["single_switch"].plan_fabric({})
    pods = [f"p{k}" for k in range(42)]
    shown = texts(draw_graph(fabric, {"n1": pods, "n2": pods[:MOST_PODS_SHOWN]}, ""))
    assert "+37 more" in shown
    assert len([text for text in shown if text.startswith("p") and text != "pod"]) == 5 + MOST_PODS_SHOWN


def test_long_labels_keep_both_ends() -> None:
    assert shortened("client") == "client"
    assert shortened("web-6d4cf56db6-x2x7q") == "web-6d4c…6-x2x7q"
    assert len(shortened("x" * 63)) == 16


def test_shaping_in_words() -> None:
    assert shaping_text(Shaping()) == "unlimited"
    everything = Shaping(rate_mbit=1000, delay_ms=0.5, jitter_ms=0.1, loss_pct=0.1, queue_packets=50)
    assert shaping_text(everything) == "1000 Mbit/s, 0.5 ± 0.1 ms one way, 0.1% loss, queue of 50 packets"


def test_written_as_png_and_svg(tmp_path: Path) -> None:
    figure = draw_graph(TOPOLOGIES["leaf_spine"].plan_fabric({}), {"n1": ["web"]}, "fabric")
    figure.savefig(tmp_path / "graph.png")
    figure.savefig(tmp_path / "graph.svg")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "graph.svg").read_text()
