"""What the commands say of an experiment file: ``check``, ``plan`` and ``graph`` with ``--set``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.cli import execute
from testbed.errors import InputError
from testbed.spec.load import load_topology_argument

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DEMO = str(EXPERIMENTS / "overlay_vs_routed.yaml")
SMOKE = str(EXPERIMENTS / "smoke.yaml")


def test_check_takes_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", SMOKE, "--set", "rounds=31", "--set", "builds=[{name: a}, {name: b}]"]) == 0
    assert "2 builds, 3 pods, 2 probes, 31 rounds" in capsys.readouterr().out
    assert execute(["check", SMOKE, "--set", "rownds=31"]) == 2
    assert '--set rownds=31: rownds: unknown field (did you mean "rounds"?)' in capsys.readouterr().err


def test_check_names_the_primary_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", DEMO, SMOKE]) == 0
    demo, smoke = capsys.readouterr().out.splitlines()
    assert demo.endswith("; primary: udp_rr, overlay against routed, 4 ratios)")
    assert smoke.endswith("; primary by default: udp_rr, overlay against routed, 2 ratios)")


def test_check_says_when_nothing_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", SMOKE, "--set", "modes=[routed]"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("; nothing is compared)\n")
    assert "nothing is compared, so nothing gets a verdict" in captured.err


def test_check_warns_of_a_family_too_large_for_its_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "probes[0].payload_bytes=[64, 65, 66, 67]"
    assert execute(["check", SMOKE, "--set", sizes]) == 0
    captured = capsys.readouterr()
    assert "8 ratios" in captured.out
    assert "too few rounds for 8 primary comparisons" in captured.err
    assert execute(["check", SMOKE, "--set", sizes, "--set", "rounds=9"]) == 0
    assert capsys.readouterr().err == ""


def test_plan_takes_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["--set", "topology.parameters.nodes=3", "--set", "modes=[overlay]", "--set", "proxies=[nftables]"]
    assert execute(["plan", SMOKE, "-o", "json", *overrides]) == 0
    build = json.loads(capsys.readouterr().out)["builds"]["main"]
    assert len(build["nodes"]) == 3
    assert list(build["modes"]) == ["overlay"]
    assert list(build["kernel_rules"]) == ["nftables"]
    assert execute(["plan", "single_switch", "--set", "network.vni=7"]) == 0
    assert "0x7" in capsys.readouterr().out


def test_graph_takes_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "fabric.svg"
    assert execute(["graph", "single_switch", "--set", "name=other", "-o", str(picture)]) == 0
    assert picture.exists()
    assert execute(["graph", "single_switch", "--set", "topology.parameters.nodes=0", "-o", str(picture)]) == 2
    assert "is out of range" in capsys.readouterr().err


def test_a_living_cluster_has_its_dns_server_unless_it_is_refused(tmp_path: Path) -> None:
    assert load_topology_argument("single_switch").experiment.network.dns == "auto"
    living = load_topology_argument("single_switch", living=True)
    assert living.experiment.network.dns == "on" and living.living
    refused = load_topology_argument("single_switch", (), ["network.dns=off"], living=True)
    assert refused.experiment.network.dns == "off"
    file = tmp_path / "lab.yaml"
    for written, wanted in (("", "on"), ("network: {vni: 7}", "on"), ("network: {dns: off}", "off")):
        file.write_text(f"topology: {{name: single_switch}}\n{written}\n")
        assert load_topology_argument(str(file), living=True).experiment.network.dns == wanted
    file.write_text("topology: {name: single_switch}\nnetwork: 3\n")
    with pytest.raises(InputError, match="network"):
        load_topology_argument(str(file), living=True)
