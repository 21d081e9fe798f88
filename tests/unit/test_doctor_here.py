"""The doctor on the machine that runs the tests: it tries things, so its answers must agree with what is there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from testbed.cli import execute
from testbed.doctor.needs import Needs, require
from testbed.doctor.trials import gather, try_box
from testbed.errors import MachineError


def interfaces() -> list[str]:
    return sorted(entry.name for entry in Path("/sys/class/net").iterdir())


def test_the_facts_agree_with_the_machine() -> None:
    before = interfaces()
    facts = gather()
    assert facts.is_root == (os.geteuid() == 0)
    assert facts.kernel == os.uname().release
    assert ("mnexec" in facts.tools) == (shutil.which("mnexec") is not None)
    assert facts.box.opened.ok, facts.box.opened.detail
    assert facts.box.feature("veth").ok, facts.box.feature("veth").detail
    assert interfaces() == before


def test_the_trial_sees_whether_tap_devices_may_be_opened() -> None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
        may_open = True
    except OSError:
        may_open = False
    assert try_box(rootless=os.geteuid() != 0).feature("tun").ok == may_open


def test_a_trial_that_works_may_say_more() -> None:
    """The rules of the trials are read by the programs themselves: a syntax error would look like a kernel's lack."""
    box = try_box(rootless=os.geteuid() != 0)
    for name in ("proxy_iptables", "proxy_nftables"):
        assert "syntax" not in box.feature(name).detail
    if box.feature("proxy_iptables").ok:
        assert box.feature("proxy_iptables").detail.startswith("iptables v")


def test_a_program_that_is_nowhere_is_named() -> None:
    with pytest.raises(MachineError, match="no-such-program: not installed; needed for container web"):
        require(Needs(tools=(("no-such-program", "container web"),)))


def test_the_command_prints_json_and_says_by_its_status_whether_anything_can_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = execute(["doctor", "-o", "json"])
    document = json.loads(capsys.readouterr().out)
    assert status == (0 if document["can_run"] else 3)
    assert {"sealed box", "datapath", "kernel", "tools", "python", "machine"} == {
        finding["section"] for finding in document["findings"]
    }


def test_the_command_prints_a_table_without_escape_codes_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    execute(["doctor"])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "ovs-vswitchd" in text
