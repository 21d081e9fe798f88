"""Builds and takes down a cluster with the testbed's own builder, by the clock."""

from __future__ import annotations

import time

from benchmarks.gone import Sentinel
from testbed.network.builder import built, choose_datapath
from testbed.network.plan import Plan
from tests.box.clusters import plan_of, pod

NODES = 4


def four_nodes(pods: int) -> Plan:
    """Two leaves and two spines with four nodes, over which the pods are spread."""
    manifests = [pod(f"pod-{number}", f"n{number % NODES + 1}") for number in range(pods)]
    return plan_of("leaf_spine", manifests, leaves=2, spines=2, nodes_per_leaf=2)


class Stopwatch:
    """A progress that writes down when each step ended, in seconds since it was made."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._step = "start"
        self.seconds: dict[str, float] = {}

    def start(self, phase: str, total: int | None = None) -> None:
        self._lap(phase)

    def advance(self, step: str = "", n: int = 1) -> None:
        # The nodes are one step here.
        self._lap("wiring" if step.startswith("node ") else step)

    def note(self, text: str) -> None:
        self._lap(self._step)

    def finish(self) -> None:
        self._lap("")

    def _lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._last
        self._last, self._step = now, step


def build_and_remove(pods: int) -> dict[str, float]:
    """Seconds to build four nodes with so many pods, until every bridge has confirmed its flows, and to take them down.

    Inside the box. The keys beside ``build`` and ``teardown`` are the build's steps.
    """
    plan = four_nodes(pods)
    plan.routes(plan.state.config.mode)
    watch = Stopwatch()
    started = time.perf_counter()
    with built(plan, choose_datapath("auto"), watch):
        ready = time.perf_counter()
        sentinel = Sentinel()
        leaving = time.perf_counter()
    sentinel.wait()
    gone = time.perf_counter()
    return {**watch.seconds, "build": ready - started, "teardown": gone - leaving}
