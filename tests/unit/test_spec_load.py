"""Experiments that are right: what loading gives, the shipped ones, and the schema that editors use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from testbed.errors import InputError
from testbed.spec import load_experiment, load_topology_argument
from testbed.spec.images import catalogue
from testbed.spec.models import FIELDS_OF_KIND, Build, Experiment, Network, Probe
from testbed.spec.schema import schema_text
from topologies import TOPOLOGIES
from topologies.fabric import Shaping

PROJECT = Path(__file__).parents[2]
SHIPPED = sorted((PROJECT / "experiments").glob("*.yaml"))
DEMO = PROJECT / "experiments" / "overlay_vs_routed.yaml"

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {containers: [{name: main, image: pause}]}
"""


def write(folder: Path, experiment: str, **manifests: str) -> Path:
    for name, text in manifests.items():
        (folder / f"{name}.yaml").write_text(text)
    file = folder / "case.yaml"
    file.write_text("format: testbed/v1\nname: case\n" + experiment)
    return file


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_experiments_are_in_order(file: Path) -> None:
    checked = load_experiment(file)
    assert checked.experiment.name == file.stem
    assert not checked.warnings
    assert checked.experiment.rounds >= (5 if checked.experiment.compared == "nothing" else 8)
    assert checked.experiment.description
    for build in checked.experiment.builds:
        for mode in checked.experiment.modes:
            assert checked.objects(build, mode)


def test_there_are_the_experiments_that_the_docs_speak_of() -> None:
    assert [file.stem for file in SHIPPED] == [
        "controller_restart",
        "endpoint_churn",
        "mtu",
        "node_failure",
        "nodeport",
        "overlay_vs_routed",
        "rolling_update",
        "scale_nodes",
        "service_proxies",
        "service_vip",
        "smoke",
    ]


def test_the_demo_asks_what_it_says() -> None:
    checked = load_experiment(DEMO)
    experiment = checked.experiment
    assert list(experiment.paths) == ["same_node", "same_leaf", "cross_leaf", "node_to_node"]
    assert experiment.primary == "udp_rr"
    assert {probe.kind: probe.paths for probe in experiment.probes} == {
        "udp_rr": None,
        "throughput": ("cross_leaf",),
        "first_packet": ("cross_leaf",),
    }
    location = {element.name: element.location for element in checked.fabric(experiment.builds[0]).of_kind("node")}
    node = {m.object["metadata"]["name"]: m.object["spec"]["nodeName"] for m in checked.manifests}
    assert node["server-same-node"] == node["client"]
    assert node["server-same-leaf"] != node["client"]
    assert location[node["server-same-leaf"]] == location[node["client"]]
    assert location[node["server-cross-leaf"]] != location[node["client"]]


def test_the_growing_experiment_has_its_control() -> None:
    builds = load_experiment(PROJECT / "experiments" / "scale_nodes.yaml").experiment.builds
    control = next(build for build in builds if build.idle_ports)
    assert any(build.parameters == control.parameters and not build.idle_ports for build in builds)


def test_defaults() -> None:
    experiment = Experiment.model_validate(
        {"format": "testbed/v1", "name": "x", "topology": {"name": "leaf_spine"}, "probes": [{"kind": "udp_rr"}]}
    )
    assert experiment.builds == (Build(name="main", idle_ports=0),)
    assert experiment.modes == ("overlay", "routed")
    assert experiment.network == Network()
    assert (experiment.rounds, experiment.seed) == (10, 1)
    assert experiment.probes[0].label == "udp_rr"


def test_a_checked_experiment_gives_what_the_build_starts_from(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
topology:
  name: zones
  parameters: {zones: 3}
  links:
    wan: {rate: 100Mbit, delay: 5ms, jitter: 500us, loss: 0.1%, queue: 100}
network: {clusterCIDR: 10.8.0.0/16, nodeCIDRMaskSize: 25, vni: 7, mtu_bytes: 9000}
manifests: [pods.yaml]
builds: [{name: small}, {name: large, parameters: {zones: 5}}]
paths: {there: {from: a, to: node/n2}}
probes: [{kind: udp_rr}]
""",
        pods=POD % "a",
    )
    checked = load_experiment(file, ["rounds=9", "probes[0].duration_s=0.5"])
    assert checked.shaping == {
        "wan": Shaping(rate_mbit=100, delay_ms=5, jitter_ms=0.5, loss_pct=0.1, queue_packets=100)
    }
    assert checked.overrides == ("rounds=9", "probes[0].duration_s=0.5")
    assert (checked.experiment.rounds, checked.experiment.probes[0].duration_s) == (9, 0.5)
    assert load_experiment(file).text == file.read_text()
    again = tmp_path / "again.yaml"
    again.write_text(checked.text)
    assert load_experiment(again).experiment == checked.experiment
    small, large = checked.experiment.builds
    assert len(checked.fabric(small).of_kind("node")) == 6
    assert len(checked.fabric(large).of_kind("node")) == 10
    wan = [link for link in checked.fabric(large).links if link.role == "wan"]
    assert len(wan) == 10
    assert {link.shaping for link in wan} == {checked.shaping["wan"]}
    kinds = [wire["kind"] for wire in checked.objects(large, "routed")]
    assert (kinds.count("Node"), kinds.count("Pod"), kinds.count("ConfigMap")) == (10, 1, 2)
    config = checked.experiment.network.config("routed")
    assert (config.mode, config.vni, config.underlay_mtu_bytes) == ("routed", 7, 9000)
    assert config.cluster_cidr == IPv4Network("10.8.0.0/16")
    (manifest,) = checked.manifests
    assert (manifest.file, manifest.line) == (tmp_path / "pods.yaml", 2)


def test_fields_without_effect_are_warned_of(tmp_path: Path) -> None:
    pod = POD % "a" + "  # comment\n"
    pod = pod.replace("image: pause}]", "image: pause, terminationMessagePath: /x}], priority: 3")
    file = write(
        tmp_path,
        "topology: {name: single_switch}\nmanifests: [pods.yaml]\nprobes: [{kind: flow_count}]\nrounds: 3\n",
        pods=pod,
    )
    warnings = load_experiment(file).warnings
    assert [warning.partition(": ")[2].partition("\n")[0] for warning in warnings] == [
        "spec.priority: has no effect here",
        "spec.containers[0].terminationMessagePath: has no effect here",
        "rounds: fewer than 8 rounds: every verdict will be inconclusive",
    ]


def test_null_is_the_same_as_nothing_in_a_manifest(tmp_path: Path) -> None:
    pod = POD.replace("kind: Pod", "kind: Pod\nstatus:") % "a"
    file = write(
        tmp_path, "topology: {name: single_switch}\nmanifests: [pods.yaml]\nprobes: [{kind: flow_count}]\n", pods=pod
    )
    assert "status" not in load_experiment(file).manifests[0].object


def test_an_override_may_fill_in_what_is_not_there(tmp_path: Path) -> None:
    file = write(tmp_path, "topology: {name: single_switch}\nprobes: [{kind: flow_count}]\n")
    checked = load_experiment(
        file, ["network.mtu_bytes=1400", "topology.parameters.nodes=3", 'topology.links={"access": {"rate": "1Gbit"}}']
    )
    assert checked.experiment.network.mtu_bytes == 1400
    assert len(checked.fabric(checked.experiment.builds[0]).of_kind("node")) == 3
    assert checked.shaping["access"].rate_mbit == 1000


def test_a_topology_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text(POD % "a")
    checked = load_topology_argument("leaf_spine,leaves=3,spines=1", [tmp_path / "pods.yaml"])
    fabric = checked.fabric(checked.experiment.builds[0])
    assert len(fabric.of_kind("router")) == 4
    assert len(checked.manifests) == 1
    assert checked.experiment.name == "leaf_spine"
    assert checked.experiment.probes == ()


def test_a_file_from_the_command_line_needs_a_topology_only(tmp_path: Path) -> None:
    file = tmp_path / "My Cluster.yaml"
    file.write_text("topology: {name: single_switch, parameters: {nodes: 3}}\nmanifests: [pods.yaml]\n")
    (tmp_path / "pods.yaml").write_text(POD % "a")
    (tmp_path / "more.yaml").write_text(POD % "b")
    checked = load_topology_argument(str(file), [tmp_path / "more.yaml"])
    assert checked.experiment.name == "my-cluster"
    assert len(checked.manifests) == 2


def test_an_experiment_file_is_a_topology_too() -> None:
    assert load_topology_argument(str(DEMO)).experiment.name == "overlay_vs_routed"


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_is_loadable_by_name(name: str) -> None:
    assert load_topology_argument(name).experiment.topology.name == name


def test_a_thousand_pods_are_checked_at_once(tmp_path: Path) -> None:
    pods = "---".join(POD % f"pod-{number}" for number in range(1000))
    file = write(
        tmp_path,
        "topology: {name: single_switch, parameters: {nodes: 20}}\nmanifests: [pods.yaml]\n"
        "paths: {one: {from: pod-0, to: pod-999}}\nprobes: [{kind: udp_rr}]\n",
        pods=pods,
    )
    assert len(load_experiment(file).manifests) == 1000


def test_a_file_without_manifests_needs_no_schemas() -> None:
    """What takes long to import is imported only where it is used: ``check`` of a normal file stays fast."""
    program = (
        "import sys; from testbed.spec import load_topology_argument; load_topology_argument('leaf_spine');"
        "print([name for name in ('jsonschema', 'kubernetes_validate', 'numpy', 'lightkube') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert result.stdout == "[]\n"


def test_the_schema_in_the_docs_is_current() -> None:
    stored = (PROJECT / "docs" / "experiment.schema.json").read_text()
    assert stored == schema_text(), "run: python -m testbed.spec.schema > docs/experiment.schema.json"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_experiments_meet_the_schema(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(schema_text()))


def test_the_docs_name_every_field() -> None:
    text = (PROJECT / "docs" / "experiments.md").read_text()
    definitions = json.loads(schema_text())
    models = {"Experiment": definitions, **definitions["$defs"]}
    for model, schema in models.items():
        for field, about in schema["properties"].items():
            row = re.search(rf"^\| `{re.escape(field)}` \|.*$", text, re.MULTILINE)
            assert row, f"docs/experiments.md has no row for {field} of {model}"
            assert about.get("description"), f"{field} of {model} has no description"
    for name in [*FIELDS_OF_KIND, *TOPOLOGIES]:
        assert f"`{name}`" in text


def test_the_docs_list_every_topology_and_image() -> None:
    text = (PROJECT / "docs" / "experiments.md").read_text()
    for name, topology in TOPOLOGIES.items():
        row = re.search(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        assert row
        for parameter in topology.parameters().values():
            default_and_range = (
                rf"`{parameter.name}` \({parameter.default}[^;)]*; {parameter.minimum}-{parameter.maximum}"
            )
            assert re.search(default_and_range, row.group()), f"{name}: {parameter}"
        for role in topology.ROLES:
            assert f"`{role}`" in row.group()
    text = (PROJECT / "docs" / "pods.md").read_text()
    for image in catalogue():
        assert f"| `{image}` |" in text


def test_every_kind_of_probe_has_its_fields_declared() -> None:
    kinds = Probe.model_json_schema()["properties"]["kind"]["enum"]
    assert set(FIELDS_OF_KIND) == set(kinds)
    for fields in FIELDS_OF_KIND.values():
        assert fields <= set(Probe.model_fields)


def test_the_example_in_the_docs_is_in_order(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "experiments.md").read_text()
    blocks = re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for name, block in blocks:
        (tmp_path / name).write_text(block)
    experiment = next(block for name, block in blocks if name == "my_first.yaml")
    assert len([line for line in experiment.splitlines() if line.strip()]) <= 20
    assert load_experiment(tmp_path / "my_first.yaml").experiment.probes


def yaml_blocks() -> list[Any]:
    """The examples of the docs that are no files: parts of an experiment, and manifests."""
    text = (PROJECT / "docs" / "experiments.md").read_text()
    blocks = re.findall(r"```yaml\n(?!# )(.*?)```", text, re.DOTALL)
    return [list(yaml.safe_load_all(block)) for block in blocks]


def test_every_part_of_an_experiment_in_the_docs_is_in_order(tmp_path: Path) -> None:
    blocks = yaml_blocks()
    manifests = [block for block in blocks if "kind" in block[0]]
    parts = [block[0] for block in blocks if "kind" not in block[0]]
    assert len(manifests) == 1
    assert {key for part in parts for key in part} >= {"builds", "paths", "probes", "proxies", "expect", "topology"}
    pods = "---".join(POD % name for name in ("client", "server"))
    (tmp_path / "pods.yaml").write_text(pods + "---\n" + yaml.safe_dump_all(manifests[0]))
    for part in parts:
        whole = {
            "format": "testbed/v1",
            "name": "case",
            "topology": {"name": "single_switch"},
            "manifests": ["pods.yaml"],
            "paths": {"across": {"from": "client", "to": "service/web:80"}},
            "probes": [{"kind": "tcp_rr" if "probes" in part else "udp_rr"}],
            **part,
        }
        if "expect" in part:
            whole["paths"] = {"across": {"from": "client", "to": "server"}}
        elif "probes" not in part:
            whole["probes"] = [{"kind": "http"}]
        (tmp_path / "case.yaml").write_text(yaml.safe_dump(whole))
        load_experiment(tmp_path / "case.yaml")


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "topology: {name: leaf_spin}\nmanifests: [one.yaml, two.yaml]\nprobes: [{kind: flow_counts}]\n",
        one="kind: Pod",
        two="[",
    )
    with pytest.raises(InputError) as caught:
        load_experiment(file)
    assert {Path(problem.file).name for problem in caught.value.problems} == {"case.yaml", "one.yaml", "two.yaml"}
    assert len(caught.value.problems) == 4
