"""What an idle pod costs in memory, all told.

All told: by how much the machine's used memory grows between an empty box and a cluster that stands with its pods, its
switches, its controller and its API: everything but free memory and the cache of files, so with all that the kernel
keeps for namespaces and interfaces. Beside it by how much its available memory falls, which also counts on what the
kernel could give back (proc(5), MemAvailable), and what the processes have (proportional set size, files included).
The same for four nodes without pods tells what the pods alone add.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.boxed import boxed
from benchmarks.figures import Figure, at_most
from benchmarks.gone import Sentinel
from benchmarks.ours import Stopwatch, four_nodes
from testbed.network.builder import built, choose_datapath

PODS = 1000
POD_AT_MOST_MB = 0.8
_ROUNDS = 3
_SETTLE_EVERY_S, _SETTLE_AT_MOST_S, _STILL_BYTES = 1.0, 20.0, 1_000_000
_KIB = 1024
_MB = 1e6


def figures() -> list[Figure]:
    """Memory of a pod among 1,000, all told."""
    many, none = _median(PODS), _median(0)
    used, available, processes = (many[key] / PODS / _MB for key in ("used", "available", "processes"))
    alone = (many["used"] - none["used"]) / PODS / _MB
    what = f"memory of a pod of {PODS}"
    return [
        at_most(POD_AT_MOST_MB, f"{what}, all told", used, "MB", available, "available"),
        Figure(f"{what}, the processes' part", processes, "MB"),
        Figure(f"{what}, without what no pods take", alone, "MB"),
        Figure("memory of 4 nodes without pods", none["used"] / _MB, "MB", none["available"] / _MB, "available"),
    ]


def _median(pods: int) -> dict[str, float]:
    rounds = [boxed(lambda: _measure(pods)) for _ in range(_ROUNDS)]
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def _measure(pods: int) -> dict[str, float]:
    """Growth in bytes: used on the machine, available there no more, in the box's processes. Inside the box."""
    plan = four_nodes(pods)
    _settle()
    before = _bytes()
    with built(plan, choose_datapath("auto"), Stopwatch()):
        after = _bytes()
        sentinel = Sentinel()
    sentinel.wait()
    return {
        "used": after["used"] - before["used"],
        "available": before["available"] - after["available"],
        "processes": after["processes"] - before["processes"],
    }


def _settle() -> None:
    """Wait until the machine's used memory stands still; where it never does, measure all the same.

    The kernel gives back what a namespace had some seconds after it has gone, and would do so while the next is built.
    """
    deadline = time.monotonic() + _SETTLE_AT_MOST_S
    previous, used = 0, _bytes()["used"]
    while abs(used - previous) > _STILL_BYTES and time.monotonic() < deadline:
        time.sleep(_SETTLE_EVERY_S)
        previous, used = used, _bytes()["used"]


def _bytes() -> dict[str, int]:
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * _KIB
    # Shared memory is counted as cached, but it is no cache: the box's /run is there.
    cache = fields["Buffers"] + fields["Cached"] - fields["Shmem"]
    used = fields["MemTotal"] - fields["MemFree"] - cache
    return {"used": used, "available": fields["MemAvailable"], "processes": _processes_bytes()}


def _processes_bytes() -> int:
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * _KIB
    return total
