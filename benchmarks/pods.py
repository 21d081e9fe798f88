"""Pods that come and go by the hundred: a Deployment of the image whoami scaled from one pod to 500 and back.

Ready means that the API says so of all of them: wired on four nodes, their programs started, their flows on their way.
Beside it the memory of a pod's processes: the pause process alone, and the program, forked from one parent.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.boxed import boxed
from benchmarks.figures import Figure, at_most
from benchmarks.ours import Stopwatch, four_nodes
from benchmarks.workloads import deployment
from testbed.cluster.kinds import POD
from testbed.cluster.pod_facts import is_ready
from testbed.network.builder import built, choose_datapath
from testbed.network.pods.rootfs import TOOLS
from testbed.network.testbed import Testbed

PODS = 500
READY_AT_MOST_S, PAUSE_AT_MOST_MB = 10.0, 0.6
_ROUNDS = 3
_KB_PER_MB = 1000 / 1.024


def figures() -> list[Figure]:
    """All figures of pods that come and go."""
    rounds = [boxed(_measure) for _ in range(_ROUNDS)]
    found = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    return [
        at_most(READY_AT_MOST_S, f"a Deployment from 1 to {PODS} pods, all ready", found["ready"], "s"),
        Figure(f"the same from {PODS} to 1, all gone", found["gone"], "s"),
        at_most(PAUSE_AT_MOST_MB, "memory of a pod's pause process (PSS)", found["pause"], "MB"),
        Figure("memory of a whoami forked from the parent (PSS)", found["program"], "MB"),
    ]


def _measure() -> dict[str, float]:
    with built(four_nodes(0), choose_datapath("auto"), Stopwatch()) as testbed:
        testbed.apply([deployment("many", "whoami", 1)])
        testbed.wait_settled()
        testbed.wait_pods_ready()
        began = time.monotonic()
        testbed.scale("default", "many", PODS)
        _wait_ready(testbed, PODS)
        ready_s = time.monotonic() - began
        testbed.wait_settled()
        memory = {"pause": _pss_mb(f"{TOOLS}/pause"), "program": _pss_mb("testbed.network.pods.parent")}
        began = time.monotonic()
        testbed.scale("default", "many", 1)
        testbed.wait_settled()
        return {"ready": ready_s, "gone": time.monotonic() - began, **memory}


def _wait_ready(testbed: Testbed, count: int) -> None:
    with testbed.store.watch(POD) as watch:
        while sum(map(is_ready, testbed.store.list(POD).items)) < count:
            watch.next()


def _pss_mb(program: str) -> float:
    """The proportional set size of the processes that run a program, on average."""
    sizes = []
    for process in Path("/proc").glob("[0-9]*"):
        words = (process / "cmdline").read_bytes().split(b"\0")
        if program.encode() in words:
            text = (process / "smaps_rollup").read_text()
            sizes.append(int(text.partition("\nPss:")[2].split()[0]))
    return statistics.mean(sizes) / _KB_PER_MB
