"""``docs/services.md`` shows flows and groups that the compiler makes for the Service it describes."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from controllers.pipeline import plan_text
from controllers.pipeline.compile import Compiler
from controllers.pipeline.groups import most_endpoints
from controllers.pipeline.text import bridge_names, groups_text
from testbed.cluster.values import ServiceEndpoint, ServicePort
from tests.unit.pipeline_states import two_nodes

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "services.md").read_text()


def the_page_s_cluster():
    state = two_nodes("overlay")
    endpoints = tuple(
        ServiceEndpoint(pod.pod_ip, 8080, pod.node_name) for pod in state.pods if pod.name.startswith("web-")
    )
    web = ServicePort("default", "web", "", "TCP", ip_address("10.96.1.1"), 80, 0, endpoints, node_port=30086)
    return replace(state, service_ports=(web,))


def test_every_flow_and_group_on_the_page_is_real() -> None:
    state = the_page_s_cluster()
    text = plan_text(state, "n1") + groups_text(Compiler().compile(state)["n1"].groups(), bridge_names(state, "n1"))
    real = {re.sub(r"^ (cookie=0x[0-9a-f]+, )?", "", line) for line in text.splitlines()}
    shown = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(shown) > 10
    assert [line for line in shown if line not in real] == []


def test_the_limits_on_the_page_are_real() -> None:
    assert f"at most {most_endpoints(False)} usable endpoints ({most_endpoints(True)} with" in PAGE


def test_what_the_page_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert [link for link in links if not link.startswith("http") and not (DOCS / link).exists()] == []
