"""``docs/pipeline.md`` explains exactly the flows that the compiler makes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controllers.pipeline import TABLES, bridge_names, compile_groups, groups_text, learned_flows, plan_text
from testbed.cluster.values import MODES, ClusterState, Mode
from tests.unit.pipeline_states import one_service, two_nodes, with_services

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pipeline.md").read_text()


def documented_flows(*headings: str) -> list[str]:
    """The flows in the code blocks under these headings of level 2."""
    chapters = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    blocks = [block for heading in headings for block in re.findall(r"```\n(.*?)```", chapters[heading], re.DOTALL)]
    return [line for block in blocks for line in block.splitlines()]


def node_flows(state: ClusterState) -> list[str]:
    """n1's flows as the page shows them: without cookies."""
    return [re.sub(r"^ cookie=0x[0-9a-f]+, ", "", line) for line in plan_text(state, "n1").splitlines()]


def group_lines(state: ClusterState) -> list[str]:
    return groups_text(compile_groups(state, "n1"), bridge_names(state, "n1")).splitlines()


@pytest.mark.parametrize("mode", MODES)
def test_every_flow_is_explained_and_no_other(mode: Mode) -> None:
    assert sorted(documented_flows("In both modes", f"In {mode} mode")) == sorted(node_flows(one_service(mode)))


def test_the_group_is_explained() -> None:
    assert documented_flows("The group") == group_lines(one_service("overlay"))


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("With session affinity", {"affinity_timeout_s": 10800}),
        ("A Local policy", {"external_local": True}),
        ("A UDP port", {"protocol": "UDP"}),
    ],
)
def test_what_other_services_have_instead_is_explained(heading: str, fields: dict[str, Any]) -> None:
    plain = one_service("overlay")
    other = with_services(plain, [replace(plain.service_ports[0], **fields)])
    instead = [line for line in node_flows(other) if line not in node_flows(plain)]
    documented = documented_flows(heading)
    if heading == "A UDP port":  # its other flows differ in the word udp only
        assert documented == [line for line in instead if "table=ServiceLB" in line and "tp_dst=80 " in line]
        return
    groups = [line for line in documented if line.startswith(" group_id")]
    learned = [line for line in documented if line.startswith("table=SessionAffinity")]
    assert sorted(line for line in documented if line not in groups + learned) == sorted(instead)
    assert groups in ([], group_lines(other))
    assert len(learned_flows("\n".join(learned))) == len(learned)


def test_the_flows_beside_a_kernels_proxy_are_explained() -> None:
    plain, other = (node_flows(one_service("overlay", proxy)) for proxy in ("openflow", "iptables"))
    assert documented_flows("With a proxy in the nodes' kernels") == [line for line in other if line not in plain]


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
