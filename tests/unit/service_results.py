"""Makes results folders of runs that compare proxies or paths, as the recorder writes them: plan, samples, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from testbed.measure.events.happening import Happening
from testbed.measure.plan import Attempt, Cell, order_cells, plan_arms
from testbed.measure.probes.base import Request
from testbed.measure.recorder import Recorder
from testbed.spec.models import Build, Experiment
from tests.unit.synthetic_results import environment

PODS = ("web-0", "web-1", "web-2", "web-3")
# Of each metric: its level, and how much it varies from round to round.
LEVELS = {
    "rtt_us": (200.0, 0.005),
    "connect_rtt_us": (900.0, 0.01),
    "connections_per_s": (1000.0, 0.01),
    "first_connection_us": (1500.0, 0.02),
    "program_ms": (5.0, 0.02),
    "request_us": (1200.0, 0.01),
}
METRICS = {
    "udp_rr": ("rtt_us",),
    "tcp_crr": ("connect_rtt_us", "connections_per_s"),
    "first_packet": ("first_connection_us",),
    "program": ("program_ms",),
    "http": ("request_us",),
}
Factors = Mapping[tuple[str, str, str], float]


def experiment(**changes: Any) -> Experiment:
    """An experiment on the paths ``pod`` and ``vip``; ``changes`` are fields of the file."""
    fields = {
        "format": "testbed/v1",
        "name": "services",
        "topology": {"name": "leaf_spine"},
        "modes": ["routed"],
        "paths": {"vip": {"from": "a", "to": "service/web:80"}},
        "probes": [{"kind": "udp_rr"}],
        "rounds": 10,
    }
    return Experiment.model_validate(fields | changes)


def write(folder: Path, planned: Experiment, factors: Factors | None = None, samples: int = 20) -> Path:
    """A complete run of ``planned``. ``factors``: (path, proxy, metric) to a factor on the metric's level."""
    rng = np.random.default_rng(1)
    (folder / "source").mkdir(parents=True)
    checked: Any = SimpleNamespace(
        experiment=planned, text="", file=folder / "source" / "e.yaml", manifests=(), overrides=()
    )
    results = folder / "results"
    with Recorder(results) as recorder:
        recorder.begin(checked, command=["testbed", "run", "e.yaml"], seed=1)
        recorder.environment(environment())
        for build in planned.builds:
            recorder.build_facts(build.name, {"endpoints": {"service/web:80": 100}, "warnings": []})
            for number in range(1, planned.rounds + 1):
                _round(recorder, planned, build, number, factors or {}, samples, rng)
    return results


def _round(
    recorder: Recorder,
    planned: Experiment,
    build: Build,
    number: int,
    factors: Factors,
    samples: int,
    rng: np.random.Generator,
) -> None:
    attempt = Attempt(build.name, number, 1, plan_arms(planned))
    position = 0
    for arm in attempt.arms:
        for cell in order_cells(planned, arm, attempt, 1):
            values: list[tuple[str, Sequence[float]]] = []
            for metric in METRICS[cell.probe.kind]:
                level, noise = LEVELS[metric]
                level *= factors.get((cell.path, arm.proxy, metric), 1.0)
                level *= build.generate.services**0.1 if build.generate and metric == "program_ms" else 1.0
                centre = level * float(np.exp(rng.normal(0, noise)))
                count = 1 if metric.endswith("_per_s") else samples
                values.append((metric, list(centre * np.exp(rng.normal(0, 0.05, count)))))
            if cell.probe.kind == "http":
                values += _http(recorder, attempt, arm, cell, rng)
            recorder.cell(attempt, position, arm, cell, values)
            finding = {
                "ok": True,
                "packets": 4,
                "outer": None,
                "inner": None,
                "vni": None,
                "via": ["leaf1"],
                "detail": "",
            }
            key = {"build": build.name, "round": number, "attempt": 1}
            recorder.evidence({**key, "arm": arm.name, "path": cell.path, **finding}, f"{arm.name}.pcap", b"")
            position += 1
    started = f"2026-11-20T12:{30 + number}:00.000Z"
    record = {"build": build.name, "round": number, "attempt": 1, "order": [arm.name for arm in attempt.arms]}
    outcome = {"valid": True, "causes": [], "steal_pct": 0.0, "other_load_pct": 1.0, "retransmits": 0}
    recorder.round({**record, "started": started, "duration_s": 9.5, **outcome})


def _http(
    recorder: Recorder, attempt: Attempt, arm: Any, cell: Cell, rng: np.random.Generator
) -> list[tuple[str, Sequence[float]]]:
    """Requests to four pods; with events, two of them are taken away: a late answer, a refused request, a lost one."""
    requests = [
        Request(5.0 * each, 5.0 * each + float(rng.uniform(0.8, 2.0)), 200, PODS[int(rng.integers(4))])
        for each in range(120)
    ]
    counts: list[tuple[str, Sequence[float]]] = [("failed", [0.0]), ("late", [0.0]), ("lost", [0.0])]
    if cell.probe.events:
        requests = [
            Request(each.due_ms, each.over_ms, each.status, PODS[0] if each.due_ms > 200 else each.pod)
            for each in requests
        ]
        requests[42] = Request(210.0, 212.0, 200, PODS[3])
        requests[43] = Request(215.0, 216.0, 0, "", "refused")
        requests[44] = Request(220.0, 1220.0, 0, "", "timeout")
        happening = Happening("web to 2", 200.0, 230.0, removed=PODS[2:], added=())
        recorder.happenings(attempt, arm, cell, [happening])
        counts = [("failed", [1.0]), ("late", [0.0]), ("lost", [1.0]), ("stale_ms", [12.0])]
    recorder.requests(attempt, arm, cell, requests)
    return counts
