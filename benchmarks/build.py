"""Building and taking down: our builder beside stock Mininet, and what one pod more costs from 50 to 1,000 pods.

Build is from the plan (for Mininet: the Topo) to a network that is ready, with every flow confirmed by every bridge;
for Mininet, to the end of ``net.start()``. Teardown is until the last process and the last namespace are gone
(:mod:`benchmarks.gone`). Each build has a box of its own; the two builders take turns; medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks import ours, stock_mininet
from benchmarks.boxed import boxed
from benchmarks.figures import Figure

PODS = 500
SIZES = (50, 250, 500, 1000)
FASTER_AT_LEAST = 10.0
POD_AT_MOST_MS = 2.5
GROWTH_AT_MOST = 2.0
_ROUNDS_BESIDE, _ROUNDS_SIZES = 3, 7
# The controller starts beside the wiring, and only a small cluster has to wait for it: that says nothing about pods.
_NOT_OF_PODS = "controller"

Times = Mapping[str, float]


def figures() -> list[Figure]:
    """All figures of building."""
    return [*_beside_mininet(), *_by_size()]


def _beside_mininet() -> list[Figure]:
    testbed: list[Times] = []
    mininet: list[Times] = []
    for _ in range(_ROUNDS_BESIDE):
        testbed.append(boxed(lambda: ours.build_and_remove(PODS)))
        mininet.append(boxed(lambda: stock_mininet.build_and_remove(PODS)))
    figures = []
    for part in ("build", "teardown"):
        figures.append(_times_faster(f"{part}, 4 nodes, {PODS} pods", _median(testbed, part), _median(mininet, part)))
    both_s, mininet_s = (
        statistics.median(one["build"] + one["teardown"] for one in times) for times in (testbed, mininet)
    )
    return [*figures, _times_faster(f"both, 4 nodes, {PODS} pods", both_s, mininet_s, at_least=FASTER_AT_LEAST)]


def _times_faster(what: str, seconds: float, mininet_seconds: float, at_least: float | None = None) -> Figure:
    ratio = mininet_seconds / seconds
    target = "" if at_least is None else f">= {at_least:g} x faster"
    met = None if at_least is None else ratio >= at_least
    return Figure(what, seconds, "s", mininet_seconds, "Mininet", ratio, target=target, met=met)


def _by_size() -> list[Figure]:
    times: dict[int, list[Times]] = {size: [] for size in (0, *SIZES)}
    for _ in range(_ROUNDS_SIZES):
        for size, found in times.items():
            found.append(boxed(lambda size=size: ours.build_and_remove(size)))  # type: ignore[misc]
    total_s = {size: _median(found, "build") for size, found in times.items()}
    own_s = {size: [one["build"] - one[_NOT_OF_PODS] for one in found] for size, found in times.items()}
    figures = [Figure("build, 4 nodes, no pods (the fixed part)", total_s[0], "s")]
    fastest_ms = {}
    for size in SIZES:
        pod_ms, fastest_ms[size] = (
            (each(own_s[size]) - each(own_s[0])) / size * 1e3 for each in (statistics.median, min)
        )
        beside = f"{total_s[size]:.2f} s all told; fastest {fastest_ms[size]:.3f} ms"
        target, met = f"<= {POD_AT_MOST_MS:g} ms", pod_ms <= POD_AT_MOST_MS
        figures.append(Figure(f"build, a pod of {size}", pod_ms, "ms", beside_what=beside, target=target, met=met))
    # A disturbance of 50 ms is a whole millisecond for each of 50 pods. It only ever adds to a time, so the growth is
    # that of the fastest rounds.
    few, many = fastest_ms[SIZES[0]], fastest_ms[SIZES[-1]]
    what = f"growth from {SIZES[0]} to {SIZES[-1]} pods, fastest"
    target = f"<= {GROWTH_AT_MOST:g}"
    if few <= 0:  # fewer pods than can be told from none beside the fixed part: nothing to judge
        return [*figures, Figure(what, many, "ms", beside_what=f"at {SIZES[0]}: below the noise", target=target)]
    met = many / few <= GROWTH_AT_MOST
    return [*figures, Figure(what, many, "ms", few, f"at {SIZES[0]}", many / few, target=target, met=met)]


def _median(times: Sequence[Times], part: str) -> float:
    return statistics.median(one[part] for one in times)
