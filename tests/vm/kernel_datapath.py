"""Modes switched on living wires with the kernel's Open vSwitch and netem links. For a machine that has both.

Not named ``test_*``, so that only ``make test-vm``, which brings such a machine, collects it.
"""

from __future__ import annotations

import re
import subprocess
import sys

from testbed.cluster.values import MODES
from testbed.network.builder import built, choose_datapath
from testbed.network.testbed import Testbed
from testbed.progress import PlainProgress
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import plan_of, pod
from tests.box.harness import USERS, run_in_box
from topologies.fabric import Shaping

_DELAY_MS = 2.0


def lookups(testbed: Testbed, node: str) -> tuple[str, int, int]:
    """The kind of the node's datapath, the packets that found a flow in it, and the upcalls it lost."""
    shown = testbed.switches[node].appctl("dpctl/show")
    found = re.search(r"^(\w+)@.*?lookups: hit:(\d+) missed:\d+ lost:(\d+)", shown, re.DOTALL)
    assert found, shown
    return found[1], int(found[2]), int(found[3])


def modes_switch_in_the_kernel() -> None:
    pods = [pod("a", "n1"), pod("b", "n2")]
    plan = plan_of("single_switch", pods, shaping={"access": Shaping(delay_ms=_DELAY_MS)}, nodes=2)
    with built(plan, choose_datapath("kernel"), PlainProgress(sys.stdout)) as testbed:
        assert testbed.datapath == "system"
        client, server = parse_endpoint("a"), str(testbed.address(parse_endpoint("b")))
        for mode in (*MODES, *MODES):
            testbed.set_mode(mode)
            before = {node: lookups(testbed, node) for node in ("n1", "n2")}
            tunnelled = testbed.bridge_counters()["n1"]["tunnel_tx_packets"]
            ping = testbed.popen(
                client, ["ping", "-n", "-c", "20", "-i", "0.05", "-W", "5", server], stdout=subprocess.PIPE, text=True
            )
            output, _ = ping.communicate(timeout=60)
            assert "20 received" in output, (mode, output)
            # A round trip crosses two delayed links there and two back.
            fastest_ms = min(float(found) for found in re.findall(r"time=([\d.]+)", output))
            assert fastest_ms >= 4 * _DELAY_MS, (mode, output)
            for node, (_, hits, _) in before.items():
                kind, hits_now, lost = lookups(testbed, node)
                assert kind == "system"
                assert lost == 0, (mode, node)
                # Of 20 requests and 20 answers all but the first few find their flow in the kernel.
                assert hits_now - hits >= 30, (mode, node)
            tunnelled = testbed.bridge_counters()["n1"]["tunnel_tx_packets"] - tunnelled
            assert tunnelled == (20 if mode == "overlay" else 0), mode


def test_modes_switch_on_netem_links_as_root_and_without() -> None:
    for user in USERS:
        run_in_box(modes_switch_in_the_kernel, user)
