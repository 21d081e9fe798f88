"""Whether a cluster grows while 100 watchers look on for ten minutes and pods come and go.

The watchers are another process, outside the box, on the way that people's tools take: by TLS, through the API's front.
Each watch ends after 30 to 90 s and is begun anew. What is counted is the process that holds the cluster, and the
front: memory, open files and threads, every few seconds; the medians of the last minute beside those of the minute in
the middle, because in the first minutes the C library's allocator still asks for memory for a hundred new threads.
Beside them stands what of it is in use: Python's objects, and the C library's heap (mallinfo2(3)) with its free room.

A cluster keeps the latest 2,000 Events of each component, and its latest changes for those who come late, and grows
until it has as many. That is no growth by watchers, so 2,000 pods come and go before the first minute.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.boxed import boxed
from benchmarks.figures import Figure, at_most
from benchmarks.ours import Stopwatch, four_nodes
from benchmarks.workloads import deployment
from testbed.cluster.objects import JsonObject
from testbed.network.builder import built, choose_datapath
from testbed.network.kubeconfig import Door, open_door
from testbed.network.testbed import Testbed

DURATION_S, ENDS_S, SAMPLE_EVERY_S = 600.0, 60.0, 5.0
FEW, MANY, SCALED_EVERY_S = 5, 15, 5.0
_WARM_UP_PODS, _WARM_UP_ROUNDS = 300, 7
GROWTH_AT_MOST_MB, MORE_AT_MOST = 5.0, 2.0
_KB_PER_MB = 1000 / 1.024

Sample = dict[str, float]


def figures() -> list[Figure]:
    """What the processes had in the last minute, beside the minute in the middle."""
    found = measured(DURATION_S, ENDS_S, _WARM_UP_ROUNDS)
    what = f"{found['watchers']:.0f} watchers for {DURATION_S / 60:.0f} min"
    lines = [
        Figure(f"{what}: pods made and ended", found["pods"], ""),
        Figure(f"{what}: events that they were told", found["events"], "", found["watches"], "watches"),
        at_most(0, f"{what}: that know something else than the API in the end", found["differing"], ""),
    ]
    for process in ("cluster", "front"):
        for name, unit, limit in (("rss", "MB", GROWTH_AT_MOST_MB), ("files", "", MORE_AT_MOST), ("threads", "", 2.0)):
            first, middle, last = (found[f"{when} {process} {name}"] for when in ("first", "middle", "last"))
            met = last - middle <= limit
            target = f"<= {limit:g} {unit} more".replace("  ", " ")
            beside = f"half-way ({first:.0f} at first)"
            lines.append(Figure(f"{what}: {process}, {name}", last, unit, middle, beside, target=target, met=met))
    for name, unit in (("Python's blocks", "k"), ("heap in use", "MB"), ("heap free", "MB")):
        first, middle, last = (found[f"{when} cluster {name}"] for when in ("first", "middle", "last"))
        beside = f"half-way ({first:.1f} at first)"
        lines.append(Figure(f"{what}: cluster, {name}", last, unit, middle, beside))
    return lines


def measured(duration_s: float, ends_s: float, warm_up_rounds: int) -> dict[str, float]:
    """All figures by their names; ``ends_s`` is how long the first, the middle and the last part of the time are."""
    argv = [sys.executable, "-m", "benchmarks.watching"]
    with open_door() as door, subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as them:
        try:
            return boxed(lambda: _measure(door, them, duration_s, ends_s, warm_up_rounds))
        finally:
            them.kill()


def _measure(
    door: Door, them: subprocess.Popen[str], duration_s: float, ends_s: float, warm_up_rounds: int
) -> dict[str, float]:
    with built(four_nodes(0), choose_datapath("auto"), Stopwatch(), door) as testbed:
        testbed.apply([deployment("many", "whoami", FEW), _SERVICE])
        for _ in range(warm_up_rounds):
            for replicas in (_WARM_UP_PODS, FEW):
                testbed.scale("default", "many", replicas)
                testbed.wait_settled()
        said = _ask(them, {"url": door.url, "token": door.token, "certificate": door.certificate.decode()})
        samples: list[Sample] = []
        with Churn(testbed) as churn:
            ends = time.monotonic() + duration_s
            while time.monotonic() < ends:
                time.sleep(SAMPLE_EVERY_S)
                samples.append(_sample(testbed))
        testbed.wait_settled()
        testbed.wait_pods_ready()
        said |= _ask(them, {"compare": True})
    number = max(1, int(ends_s / SAMPLE_EVERY_S))
    found = {**said, "pods": float(churn.pods)}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        half = len(values) // 2
        found[f"first {name}"] = statistics.median(values[:number])
        found[f"middle {name}"] = statistics.median(values[half : half + number])
        found[f"last {name}"] = statistics.median(values[-number:])
    return found


def _ask(them: subprocess.Popen[str], what: dict[str, Any]) -> dict[str, float]:
    assert them.stdin is not None and them.stdout is not None
    them.stdin.write(json.dumps(what) + "\n")
    them.stdin.flush()
    answer: dict[str, float] = json.loads(them.stdout.readline())
    return answer


class Churn:
    """Scales the Deployment up and down until it is left. A context manager; ``pods`` counts those that were made."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self.pods = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        replicas = FEW
        while not self._stopping.wait(SCALED_EVERY_S):
            replicas = MANY if replicas == FEW else FEW
            self._testbed.scale("default", "many", replicas)
            self.pods += MANY - FEW if replicas == MANY else 0


def _sample(testbed: Testbed) -> Sample:
    sample = {f"cluster {name}": value for name, value in (_of_process("self") | _allocated()).items()}
    assert testbed.api_front is not None
    return sample | {f"front {name}": value for name, value in _of_process(str(testbed.api_front.pid)).items()}


def _of_process(pid: str) -> Sample:
    folder = Path("/proc", pid)
    fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {
        "rss": int(fields["VmRSS"].split()[0]) / _KB_PER_MB,
        "threads": float(fields["Threads"]),
        "files": float(len(list((folder / "fd").iterdir()))),
    }


class _Mallinfo2(ctypes.Structure):
    """What mallinfo2(3) returns, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _allocated() -> Sample:
    """What this process has allocated: Python's small blocks in thousands, and the C library's heap in MB."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    heap = mallinfo2()
    return {
        "Python's blocks": sys.getallocatedblocks() / 1e3,
        "heap in use": heap.uordblks / 1e6,
        "heap free": heap.fordblks / 1e6,
    }


_SERVICE: JsonObject = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "many", "namespace": "default"},
    "spec": {"selector": {"app": "many"}, "ports": [{"port": 80, "targetPort": 8000}]},
}
