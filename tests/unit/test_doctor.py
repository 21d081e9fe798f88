"""The doctor's decisions on made-up machines: what blocks a run, which command brings it, how it is shown."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from testbed.doctor.catalogue import TOOLS, Tool
from testbed.doctor.facts import BoxTrial, Facts, Trial
from testbed.doctor.findings import blockers, findings, report
from testbed.doctor.needs import Needs, missing, require
from testbed.doctor.render import render
from testbed.doctor.trials import FEATURES, read_sysctls, read_trials, read_version, tool_version
from testbed.errors import MachineError
from testbed.spec.images import load_catalogue

WORKING = BoxTrial(Trial(True), {name: Trial(True) for name in FEATURES})
CLOSED = BoxTrial(Trial(False, "unshare: unshare failed: Operation not permitted"))


def without(box: BoxTrial, **said: str) -> BoxTrial:
    return replace(box, features={**box.features, **{name: Trial(False, words) for name, words in said.items()}})


def machine(**changes: object) -> Facts:
    """A machine on which everything is there, for an ordinary user."""
    facts = Facts(
        is_root=False,
        kernel="6.1.0-13-amd64",
        cores=2,
        memory_mib=4096,
        root_box=None,
        rootless_box=WORKING,
        modules={"openvswitch": "loaded", "ip_vs": "loadable", "sctp": "loadable"},
        tools=dict.fromkeys(TOOLS, "1.0"),
        python_packages={"mininet": "2.3.0.dev6", "ryu": "4.34", "os-ken": "4.2.2"},
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def without_tools(*names: str) -> Mapping[str, str]:
    return {name: "1.0" for name in TOOLS if name not in names}


def state_of(facts: Facts, name: str) -> str:
    return next(finding.state for finding in findings(facts) if finding.name == name)


def test_a_complete_machine_lacks_nothing() -> None:
    assert blockers(machine()) == ()
    everything = Needs("kernel", tuple((name, "") for name in FEATURES), tuple((name, "") for name in TOOLS))
    assert missing(machine(), everything) == ()
    require(everything, machine())
    assert {finding.state for finding in findings(machine())} == {"ok", "info"}


def test_without_namespaces_nothing_runs_and_the_rest_is_not_guessed() -> None:
    facts = machine(rootless_box=CLOSED, modules={})
    lacking = missing(facts, Needs())
    assert [item.what for item in lacking] == ["namespaces as an ordinary user"]
    assert "Operation not permitted" in lacking[0].reason


@pytest.mark.parametrize(
    ("sysctls", "remedy"),
    [
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"kernel.unprivileged_userns_clone": "0"}, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"user.max_user_namespaces": "0"}, "sudo sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(sysctls: dict[str, str], remedy: str) -> None:
    (lacking,) = missing(machine(rootless_box=CLOSED, sysctls=sysctls), Needs())
    assert lacking.remedy == remedy


def test_tap_devices_are_needed_by_the_userspace_datapath_only() -> None:
    box = without(WORKING, tun="open: Permission denied")
    with_module = machine(rootless_box=box)
    assert missing(with_module, Needs("auto")) == ()
    assert missing(with_module, Needs("kernel")) == ()
    (lacking,) = missing(with_module, Needs("user"))
    assert "chmod 0666 /dev/net/tun" in lacking.remedy
    assert missing(machine(rootless_box=box, modules={"openvswitch": "absent"}), Needs("auto")) == (lacking,)


@pytest.mark.parametrize(("state", "remedy"), [("loadable", "sudo modprobe openvswitch"), ("absent", "Debian")])
def test_the_kernel_datapath_can_be_demanded(state: str, remedy: str) -> None:
    facts = machine(modules={"openvswitch": state})
    assert missing(facts, Needs("auto")) == ()
    (lacking,) = missing(facts, Needs("kernel"))
    assert lacking.what == "kernel datapath"
    assert remedy in lacking.remedy


def test_netem_is_missed_only_by_those_who_ask_for_it() -> None:
    facts = machine(rootless_box=without(WORKING, netem="Error: Specified qdisc kind is unknown."))
    assert blockers(facts) == ()
    assert state_of(facts, "netem") == "optional"
    (lacking,) = missing(facts, Needs(features=(("netem", "links of role wan have delay"),)))
    assert str(lacking) == "netem: links of role wan have delay; Error: Specified qdisc kind is unknown."


def test_a_kernel_without_ipvs_is_missed_only_by_those_who_ask_for_it() -> None:
    box = without(WORKING, proxy_ipvs="modprobe: FATAL: Module ip_vs not found")
    facts = machine(rootless_box=box)
    assert blockers(facts) == () and state_of(facts, "proxy_ipvs") == "optional"
    (lacking,) = missing(facts, Needs(features=(("proxy_ipvs", "proxy: ipvs"),)))
    assert str(lacking) == "proxy_ipvs: proxy: ipvs; modprobe: FATAL: Module ip_vs not found"
    assert "modprobe -a ip_vs" in lacking.remedy


def test_ipvs_without_root_is_told_to_use_root() -> None:
    facts = machine(rootless_box=without(WORKING, proxy_ipvs="/proc/sys/net/ipv4/vs/conntrack is not there"))
    (lacking,) = missing(facts, Needs(features=(("proxy_ipvs", "proxy: ipvs"),)))
    assert lacking.remedy.startswith("run it as root")


def test_a_module_that_is_absent_is_missed_with_its_reason() -> None:
    needs = Needs(modules=(("sctp", "service signalling has a port of protocol SCTP"),))
    assert missing(machine(), needs) == ()
    (lacking,) = missing(machine(modules={"openvswitch": "loaded", "sctp": "absent"}), needs)
    assert str(lacking) == "module sctp: this kernel has none; service signalling has a port of protocol SCTP"


def test_everything_that_is_missing_is_told_at_once_with_one_command_for_the_packages() -> None:
    facts = machine(
        tools=without_tools("ovs-vswitchd", "ovsdb-server", "sockperf", "mnexec"),
        python_packages={"mininet": "2.3.0.dev6"},
    )
    needs = Needs(tools=(("sockperf", "probe udp_rr"), ("frob", "container web of pod web")))
    with pytest.raises(MachineError) as raised:
        require(replace(needs, tools=(*needs.tools,)), facts)
    assert str(raised.value).splitlines() == [
        "This machine cannot do it:",
        "  - ovs-vswitchd: not installed; needed for the nodes' bridges",
        "  - ovsdb-server: not installed; needed for the bridges' settings",
        "  - mnexec: not installed; needed for processes in Mininet hosts",
        "  - sockperf: not installed; needed for probe udp_rr",
        "  - frob: not installed; needed for container web of pod web",
        "  - Python package ryu or os-ken: not installed; needed for the OpenFlow controller",
        "What brings it:",
        "    sudo apt-get install -y mininet openvswitch-switch sockperf",
        "    make setup",
    ]
    assert raised.value.exit_status == 3


def test_one_openflow_library_is_enough() -> None:
    facts = machine(python_packages={"mininet": "2.3.0.dev6", "os-ken": "4.2.2"})
    assert blockers(facts) == ()
    assert state_of(facts, "ryu") == "optional"


def test_root_uses_the_box_of_root() -> None:
    facts = machine(is_root=True, root_box=WORKING, rootless_box=CLOSED)
    assert blockers(facts) == ()
    assert state_of(facts, "without root") == "optional"
    in_container = machine(is_root=True, root_box=CLOSED)
    assert [item.what for item in blockers(in_container)] == ["namespaces as root"]


def test_the_table_is_aligned_and_ends_with_the_answer() -> None:
    facts = machine(tools=without_tools("iperf3"), modules={"openvswitch": "absent"})
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(facts))
    lines = stream.getvalue().splitlines()
    column = lines[0].index("detail")
    rows = [line for line in lines if line.startswith(("tools", "datapath", "python", "kernel "))]
    assert len(rows) >= 4
    assert all(line[column - 1] == " " and line[column] != " " for line in rows)
    assert any(line.split() == ["iperf3", "sudo", "apt-get", "install", "-y", "iperf3"] for line in lines)
    assert lines[-1] == "Experiments can run here, with the userspace Open vSwitch datapath."


def test_the_table_says_when_nothing_can_run() -> None:
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(machine(rootless_box=CLOSED)))
    assert "Nothing runs without:" in stream.getvalue()
    last = stream.getvalue().splitlines()[-1]
    assert last == "No experiment can run here as this user: namespaces as an ordinary user."


def test_the_report_is_plain_data() -> None:
    document = json.loads(json.dumps(report(machine(tools=without_tools("ip")))))
    assert document["format"] == "testbed-doctor/v1"
    assert document["can_run"] is False
    assert {"section": "tools", "name": "ip", "state": "missing"}.items() <= next(
        finding.items() for finding in document["findings"] if finding["name"] == "ip"
    )


def test_trials_are_read_from_the_scripts_output() -> None:
    box = read_trials("opened\ntun ok\nnetem failed Error: Specified qdisc kind is unknown.\n", "")
    assert box.opened.ok
    assert box.feature("tun") == Trial(True)
    assert box.feature("netem") == Trial(False, "Error: Specified qdisc kind is unknown.")
    assert not box.feature("vxlan").ok
    refused = read_trials("", "unshare: unshare failed:\n Operation not permitted\n")
    assert refused.opened == Trial(False, "unshare: unshare failed: Operation not permitted")
    assert refused.feature("tun") == Trial(False, "unshare: unshare failed: Operation not permitted")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("ovs-vswitchd (Open vSwitch) 3.1.0\n", "3.1.0"),
        ("ip utility, iproute2-6.1.0, libbpf 1.1.2", "6.1.0"),
        ("ping from iputils 20221126\nlibcap: yes", "20221126"),
        ("sockperf, version 3.7-no.git \n   compiled 2021-08-23", "3.7"),
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("no number here", ""),
    ],
)
def test_versions_are_read_from_what_programs_say(said: str, version: str) -> None:
    assert read_version(said) == version


def test_only_the_settings_a_kernel_has_are_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "max_user_namespaces").write_text("15000\n")
    assert read_sysctls(tmp_path) == {"user.max_user_namespaces": "15000"}


def test_what_the_catalogues_images_need_is_looked_for_and_installed() -> None:
    setup = (Path(__file__).parents[2] / "scripts" / "setup.sh").read_text()
    images = [image for image in load_catalogue(None).values() if image.package]
    assert {image.name for image in images} > {"nginx", "redis", "curl"}
    looked_for = {tool.package for tool in TOOLS.values()}
    for image in images:
        assert image.package in looked_for, image.name
        assert f' {image.package}"\n' in setup, image.name


def test_a_part_of_a_program_is_looked_for_by_its_file(tmp_path: Path) -> None:
    part = Tool("part.so", "whole", "something", file=str(tmp_path / "part.so"))
    assert tool_version(part) is None
    (tmp_path / "part.so").touch()
    assert tool_version(part) == ""
