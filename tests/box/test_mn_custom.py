"""Debian's own ``mn`` with each topology file, in a sealed box of its own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"

# mn keeps its hands off the machine here: a private /run hides the machine's Open vSwitch, and Mininet's wish to raise
# machine-wide limits meets read-only files.
PREPARE = """\
set -e
mount -t tmpfs none /run
for tree in fs kernel vm; do
    mount --bind /proc/sys/$tree /proc/sys/$tree
    mount -o remount,bind,ro /proc/sys/$tree
done
ip link set lo up
exec "$@"
"""

SHAPED = """\
from mininet.net import Mininet
from topologies import TOPOLOGIES
from topologies.fabric import Shaping

topo = TOPOLOGIES["single_switch"](nodes=2, shaping={"access": Shaping(rate_mbit=20)})
net = Mininet(topo, controller=None)
net.start()
try:
    print("qdisc:", net["n1"].cmd("tc qdisc show dev n1-eth0"), net["sw1"].cmd("tc qdisc show dev sw1-eth2"))
    print("dropped:", net.pingAll())
finally:
    net.stop()
"""


def in_box(*command: str) -> str:
    """Run a command as root of new namespaces, from another directory than the project's; return its output."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespaces = ["--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        ["unshare", *user, *namespaces, "sh", "-c", PREPARE, "sh", *command],
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.box
@pytest.mark.parametrize(
    ("name", "parameters", "hosts"),
    [
        ("single_switch", "nodes=3,ext=1", 4),
        ("leaf_spine", "leaves=2,spines=2,ext=1", 9),
        ("fat_tree", "4,nodes_per_edge=1", 28),
        ("zones", "zones=3,ext=1", 10),
    ],
)
def test_every_host_and_router_reaches_every_other(name: str, parameters: str, hosts: int) -> None:
    custom = str(PROJECT / "topologies" / f"{name}.py")
    topology = f"{name},{parameters}"
    output = in_box("mn", "--custom", custom, "--topo", topology, "--controller", "none", "--test", "pingall")
    pairs = hosts * (hosts - 1)
    assert f"0% dropped ({pairs}/{pairs} received)" in output


@pytest.mark.box
def test_links_are_shaped_at_both_ends() -> None:
    output = in_box("env", f"PYTHONPATH={PROJECT}", PYTHON, "-c", SHAPED)
    assert len(re.findall(r"qdisc tbf 1: root .* rate 20Mbit", output)) == 2, output
    assert "dropped: 0.0" in output
