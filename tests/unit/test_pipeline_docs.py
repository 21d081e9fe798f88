"""``docs/pipeline.md`` explains exactly the flows that the compiler makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controllers.pipeline import TABLES, plan_text
from testbed.cluster.values import MODES, Mode
from tests.unit.pipeline_states import two_nodes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pipeline.md").read_text()


def documented_flows(*headings: str) -> list[str]:
    """The flows in the code blocks under these headings of level 2."""
    chapters = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    blocks = [block for heading in headings for block in re.findall(r"```\n(.*?)```", chapters[heading], re.DOTALL)]
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("mode", MODES)
def test_every_flow_is_explained_and_no_other(mode: Mode) -> None:
    compiled = [re.sub(r"^ cookie=0x[0-9a-f]+, ", "", line) for line in plan_text(two_nodes(mode), "n1").splitlines()]
    assert sorted(documented_flows("In both modes", f"In {mode} mode")) == sorted(compiled)


def test_the_tables_are_listed_in_their_order() -> None:
    chapter = PAGE.partition("| table | question |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (\w+) \|", chapter, re.MULTILINE) == list(TABLES)


def test_the_cluster_is_the_one_described() -> None:
    state = two_nodes("overlay")
    for node in state.nodes:
        words = [node.name, node.node_ip, node.pod_cidr, node.gateway_ip, node.gateway_mac, node.vtep_mac]
        (row,) = re.findall(rf"^\| {node.name} \|.*$", PAGE, re.MULTILINE)
        pods = [f"{pod.name} {pod.pod_ip} ({pod.of_port})" for pod in state.pods_by_node[node.name]]
        assert all(str(word) in row for word in [*words, *pods]), row
