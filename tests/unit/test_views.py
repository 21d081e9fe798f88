"""What ``plan`` and ``up`` print, pinned as files for each topology."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.cluster.values import MODES
from testbed.network.plan import make_plan
from testbed.spec.load import load_topology_argument
from testbed.views.columns import aligned
from testbed.views.plan import plan_as_data, plan_as_text
from testbed.views.words import counted

_PODS = "".join(
    f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: pause}}]}}\n---\n"
    for name in ("db", "web")
)


@pytest.mark.parametrize(
    "topology",
    [
        "single_switch,nodes=2,ext=1",
        "leaf_spine,leaves=2,spines=2,nodes_per_leaf=1",
        "fat_tree,k=2",
        "zones,zones=2,nodes_per_zone=1",
    ],
)
def test_the_plan_of_each_topology(topology: str, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(_PODS)
    checked = load_topology_argument(topology, (manifest,))
    plan = make_plan(checked, checked.experiment.builds[0])
    golden(f"plans/{topology.partition(',')[0]}.txt", plan_as_text(plan, MODES))


def test_the_data_of_a_plan_says_the_same_as_its_text(tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(_PODS)
    checked = load_topology_argument("leaf_spine", (manifest,))
    plan = make_plan(checked, checked.experiment.builds[0])
    text, data = plan_as_text(plan, MODES), plan_as_data(plan, MODES)
    for mode in MODES:
        for element, routes in data["modes"][mode]["routes"].items():
            assert all(f"{element} " in text and route in text for route in routes)
        for flows in data["modes"][mode]["flows"].values():
            assert all(f"actions={flow['actions']}\n" in text for flow in flows)
            assert all(f"cookie={flow['cookie']}," in text for flow in flows)
    assert all(pod["pod_ip"] in text and pod["interface"] in text for pod in data["pods"])


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned(("A", "LONG"), [("longer", 1), ("x", "yy")]) == "A       LONG\nlonger  1\nx       yy\n"


def test_numbers_in_sentences() -> None:
    assert [counted(number, "problem") for number in (0, 1, 2)] == ["0 problems", "1 problem", "2 problems"]
