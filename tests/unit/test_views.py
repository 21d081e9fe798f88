"""What ``plan`` and ``up`` print, pinned as files for each topology."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.values import MODES, PROXIES
from testbed.network.plan import Plan, make_plan
from testbed.spec.load import load_topology_argument
from testbed.spec.models import Experiment
from testbed.views.cluster import network_line, services_table
from testbed.views.columns import aligned
from testbed.views.experiment import primary_text
from testbed.views.plan import plan_as_data, plan_as_text
from testbed.views.words import counted

AB = {"from": "node/n1", "to": "node/n2"}
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
    golden(f"plans/{topology.partition(',')[0]}.txt", plan_as_text(plan, MODES, ("openflow",)))


def test_the_data_of_a_plan_says_the_same_as_its_text(tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(_PODS)
    checked = load_topology_argument("leaf_spine", (manifest,))
    plan = make_plan(checked, checked.experiment.builds[0])
    text, data = plan_as_text(plan, MODES, ("openflow",)), plan_as_data(plan, MODES, ("openflow",))
    for mode in MODES:
        for element, routes in data["modes"][mode]["routes"].items():
            assert all(f"{element} " in text and route in text for route in routes)
        for flows in data["modes"][mode]["flows"].values():
            assert all(f"actions={flow['actions']}\n" in text for flow in flows)
            assert all(f"cookie={flow['cookie']}," in text for flow in flows)
    assert all(pod["pod_ip"] in text and pod["interface"] in text for pod in data["pods"])


_SERVICES = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 8080, targetPort: http, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: each, namespace: prod}
spec: {clusterIP: None, selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.org}
"""


@pytest.fixture
def with_services(tmp_path: Path) -> Plan:
    manifest = tmp_path / "services.yaml"
    manifest.write_text(_SERVICES)
    checked = load_topology_argument("single_switch,nodes=2", (manifest,), ["network.dns=off"])
    return make_plan(checked, checked.experiment.builds[0])


def test_the_plan_of_services(with_services: Plan, golden: Callable[[str, str], None]) -> None:
    golden("plans/services.txt", plan_as_text(with_services, ("routed",), ("openflow",)))


def test_a_plan_shows_services_as_if_every_pod_were_ready(with_services: Plan) -> None:
    assert not any(endpoint.ready for entry in with_services.state.service_ports for endpoint in entry.endpoints)
    data = plan_as_data(with_services, ("overlay",), ("openflow",))
    nobody, web = data["services"]
    assert (web["name"], web["service_port"], web["node_port"], len(web["endpoints"])) == ("web", 8080, 30080, 2)
    assert nobody["endpoints"] == []
    (group,) = data["modes"]["overlay"]["groups"]["n1"]
    assert group["group_id"] == web["group_id"]
    shown = " ".join(bucket["actions"] for bucket in group["buckets"])
    assert all(f"{endpoint['ip']}:80" in shown for endpoint in web["endpoints"])


def test_endpoints_that_people_wrote_are_shown_as_they_wrote_them(tmp_path: Path) -> None:
    manifest = tmp_path / "slices.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: by-hand}\nspec: {ports: [{port: 80}]}\n---\n"
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nports: [{port: 8000}]\n"
        "metadata: {name: by-hand-1, labels: {kubernetes.io/service-name: by-hand}}\n"
        "endpoints: [{addresses: [192.0.2.1]}, {addresses: [192.0.2.2], conditions: {ready: false}}]\n"
    )
    checked = load_topology_argument("single_switch", (manifest,), ["network.dns=off"])
    data = plan_as_data(make_plan(checked, checked.experiment.builds[0]), ("overlay",), ("openflow",))
    (group,) = data["modes"]["overlay"]["groups"]["n1"]
    shown = " ".join(bucket["actions"] for bucket in group["buckets"])
    assert "192.0.2.1:8000" in shown
    assert "192.0.2.2" not in shown


def test_the_plan_of_the_kernels_proxies_is_their_rules(with_services: Plan) -> None:
    text = plan_as_text(with_services, ("overlay", "routed"), PROXIES)
    for proxy, sign in (("iptables", "*nat"), ("nftables", "add table"), ("ipvs", "-A -t 10.96.")):
        for node in ("n1", "n2"):
            rules = text.partition(f"-- rules of {proxy} on {node}\n")[2].partition("\n-- ")[0]
            assert sign in rules
            assert "10.96." in rules and "30080" in rules
    # Flows are the same with any of them, and other ones with openflow.
    assert text.count("-- flows of n1 with the proxy openflow\n") == 2
    assert text.count("-- flows of n1 with the proxy iptables or nftables or ipvs\n") == 2
    assert text.count("-- groups of n1") == 2
    only = plan_as_data(with_services, ("overlay",), ("ipvs",))
    assert only["modes"]["overlay"]["groups"]["n1"] == []
    assert list(only["kernel_rules"]) == ["ipvs"]


def test_services_are_listed_up_to_a_number(with_services: Plan) -> None:
    assert services_table(with_services.state, most=1).endswith("\n... and 1 more\n")
    assert services_table(with_services.state).count("\n") == 3
    assert services_table(replace(with_services.state, service_ports=())) == ""


def test_the_network_in_one_line(with_services: Plan) -> None:
    assert network_line(with_services.state) == "mode overlay (pod MTU 1450 bytes), proxy openflow\n"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned(("A", "LONG"), [("longer", 1), ("x", "yy")]) == "A       LONG\nlonger  1\nx       yy\n"


def test_numbers_in_sentences() -> None:
    assert [counted(number, "problem") for number in (0, 1, 2)] == ["0 problems", "1 problem", "2 problems"]


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ({}, "nothing is compared"),
        ({"paths": {"a": AB}}, "primary by default: udp_rr, overlay against routed, 1 ratio"),
        (
            {"paths": {"a": AB, "b": AB}, "primary": "udp_rr", "proxies": ["iptables", "openflow", "ipvs"]},
            "primary: udp_rr, openflow, ipvs against iptables, 8 ratios",
        ),
        (
            {"paths": {"a": AB, "b": AB | {"baseline": "a"}}, "proxies": ["openflow", "ipvs"]},
            "primary by default: udp_rr, b against a, 4 ratios",
        ),
        ({"paths": {"a": AB}, "modes": ["routed"]}, "nothing is compared"),
    ],
)
def test_check_says_what_gets_a_verdict(experiment: dict[str, Any], said: str) -> None:
    probes = [{"kind": "flow_count"}, {"kind": "udp_rr"}] if experiment else [{"kind": "flow_count"}]
    whole = {"format": "testbed/v1", "name": "x", "topology": {"name": "leaf_spine"}, "probes": probes, **experiment}
    assert primary_text(Experiment.model_validate(whole, by_alias=True, by_name=False), ()) == said
