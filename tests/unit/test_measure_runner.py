"""Rounds without a network: what voids one, what is run again, and what is kept when a run is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.analysis.load import Results, load
from testbed.cluster.store import Store
from testbed.errors import RunError
from testbed.measure import attempt as attempt_module
from testbed.measure import evidence, fidelity, runner
from testbed.measure.fidelity import CpuTimes
from testbed.measure.probes.base import Context, Result
from testbed.measure.process import ProbeFailure
from testbed.measure.recorder import Recorder
from testbed.spec.models import Build
from tests.unit.test_measure_plan import experiment

FINDING = evidence.Finding(True, "bare", 2, None, None, None, (), ())
PROBES = [{"kind": "udp_rr", "paths": ["far"]}, {"kind": "throughput", "paths": ["far"]}]


class Scene:
    """A network of nothing: probes answer what ``probe`` says, and every switch of modes is written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modes: list[tuple[str, int | None]] = []
        self.proxies: list[str] = []
        self.notes: list[str] = []
        self.steps = 0
        self.probe: Callable[[Context, int], Result] = lambda _, __: Result((("rtt_us", [1.0]),), lost=0, exchanges=0)
        self.finding = FINDING
        self.calls = 0
        self.store = Store()
        self.config = SimpleNamespace(overlay_mtu_bytes=1450, pod_mtu_bytes=1500)

    # The part of a network that the runner itself uses.
    datapath = "netdev"
    stopped_nodes: frozenset[str] = frozenset()

    @property
    def state(self) -> Any:
        pods = dict.fromkeys(("default/a", "default/b", "default/c"))
        return SimpleNamespace(config=self.config, pod_by_key=pods, service_ports=())

    def address(self, endpoint: Any) -> str:
        return str(endpoint)

    def set_mode(self, mode: str, pod_mtu_bytes: int | None = None) -> None:
        self.modes.append((mode, pod_mtu_bytes))

    def set_proxy(self, proxy: str) -> None:
        self.proxies.append(proxy)

    def wait_settled(self) -> None:
        pass

    def bridge_counters(self) -> dict[str, dict[str, int]]:
        return {"n1": {"ports": 3, "tunnel_tx_packets": 0, "lost_upcalls": 0}}

    def describe(self) -> dict[str, Any]:
        return {}

    def uplinks(self) -> list[tuple[str, str, str]]:
        return []

    # Progress.
    def start(self, phase: str, total: int | None = None) -> None:
        self.total = total

    def advance(self, step: str = "", n: int = 1) -> None:
        self.steps += n

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self) -> None:
        pass

    def measure(self, rounds: int = 4, loss: bool = False) -> Results:
        shaping = {"access": SimpleNamespace(loss_pct=0.1 if loss else None)}
        checked: Any = SimpleNamespace(
            experiment=experiment(rounds=rounds, probes=PROBES),
            shaping=shaping,
            text="",
            file=self.folder / "e.yaml",
            manifests=(),
            overrides=(),
        )
        with Recorder(self.folder / "results") as recorder:
            recorder.begin(checked, command=[], seed=1)
            recorder.environment({})
            runner.measure_build(self, checked, Build(), recorder, self, seed=1)
        return load(self.folder / "results")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path)

    def run_probe(context: Context) -> Result:
        scene.calls += 1
        return scene.probe(context, scene.calls)

    monkeypatch.setattr(attempt_module, "run_probe", run_probe)
    monkeypatch.setattr(attempt_module.Servers, "echo", lambda *_: None)
    monkeypatch.setattr(evidence, "take", lambda *_: scene.finding)
    monkeypatch.setattr(attempt_module, "expected_of", lambda *_: SimpleNamespace(always_tunnelled=True))
    monkeypatch.setattr(fidelity, "check_pod_mtus", lambda *_: None)
    monkeypatch.setattr(fidelity, "read_cpu_times", lambda: CpuTimes(0, 0, 0, 0))
    return scene


CELLS = 3 * 2 + 1  # three arms with both probes, and throughput alone at the overlay's MTU


def test_every_round_measures_every_arm(scene: Scene) -> None:
    results = scene.measure(rounds=4)
    assert list(results.rounds["valid"]) == [True] * 4
    assert scene.steps == scene.total == 4 * CELLS
    per_round = results.samples.query("metric == 'rtt_us'").groupby("round")["arm"].agg(lambda arms: sorted(arms))
    assert all(arms == sorted(["overlay", "routed", "routed_aa"] * 2 + ["routed_overlay_mtu"]) for arms in per_round)
    assert sorted(scene.modes[:4], key=str) == [("overlay", None), ("routed", 1450), ("routed", None), ("routed", None)]
    assert len(results.evidence) == 4 * 4
    assert results.evidence.groupby("round")["arm"].nunique().tolist() == [4] * 4


def test_positions_tell_the_order_in_which_cells_were_measured(scene: Scene) -> None:
    samples = scene.measure(rounds=1).samples
    order = samples.drop_duplicates("position").sort_values("position")
    assert list(order["position"]) == list(range(CELLS))
    assert list(dict.fromkeys(order["arm"])) == load(scene.folder / "results").rounds.loc[0, "order"]


def test_a_void_round_is_run_again_and_both_attempts_are_kept(scene: Scene) -> None:
    scene.probe = lambda _, call: Result((("rtt_us", [1.0]),), lost=2 if call == 1 else 0)
    results = scene.measure(rounds=4)
    assert list(results.rounds[["round", "attempt", "valid"]].itertuples(index=False, name=None)) == [
        (1, 1, False),
        (1, 2, True),
        (2, 1, True),
        (3, 1, True),
        (4, 1, True),
    ]
    (cause,) = results.rounds.loc[0, "causes"]
    assert "udp_rr on far: 2 lost" in cause or "throughput on far: 2 lost" in cause
    assert 1 in set(results.samples.query("attempt == 1")["round"])
    assert any("void and run again" in note for note in scene.notes)
    assert scene.steps == scene.total


def test_at_most_half_as_many_reruns_as_rounds(scene: Scene) -> None:
    scene.probe = lambda _, __: Result((("rtt_us", [1.0]),), lost=1)
    results = scene.measure(rounds=4)
    assert list(results.rounds["attempt"]) == [1, 2, 3, 1, 1, 1]
    assert not results.rounds["valid"].any()
    assert scene.steps == scene.total


def test_loss_that_the_experiment_asks_for_voids_nothing(scene: Scene) -> None:
    scene.probe = lambda _, __: Result((("rtt_us", [1.0]),), lost=1)
    assert scene.measure(rounds=2, loss=True).rounds["valid"].all()


def test_a_probe_without_figures_voids_the_round_with_its_cause(scene: Scene) -> None:
    def probe(_: Context, call: int) -> Result:
        if call == 3:
            raise ProbeFailure("iperf3: unable to connect")
        return Result((("rtt_us", [1.0]),))

    scene.probe = probe
    results = scene.measure(rounds=2)
    assert "iperf3: unable to connect" in results.rounds.loc[0, "causes"][0]
    assert list(results.rounds["valid"]) == [False, True, True]


def test_missing_evidence_voids_the_round(scene: Scene) -> None:
    scene.finding = replace(FINDING, ok=False, detail="seen bare in overlay mode")
    results = scene.measure(rounds=1)
    assert not results.rounds["valid"].any()
    assert "evidence of far: seen bare in overlay mode" in results.rounds.loc[0, "causes"][0]
    assert not results.evidence["ok"].any()


def test_tunnels_that_moved_too_little_void_the_round(scene: Scene) -> None:
    scene.probe = lambda _, __: Result((("rtt_us", [1.0]),), lost=0, exchanges=10)
    causes = [cause for causes in scene.measure(rounds=1).rounds["causes"] for cause in causes]
    assert causes == ["overlay: the bridges count 0 packets into tunnels, at least 40 were measured"] * 4


def test_an_event_that_fails_voids_the_round_whose_samples_are_kept(scene: Scene) -> None:
    def probe(_: Context, call: int) -> Result:
        failed = ("drain n2: there is no such node",) if call == 1 else ()
        return Result((("rtt_us", [float(call)]),), lost=0, exchanges=0, causes=failed)

    scene.probe = probe
    results = scene.measure(rounds=1)
    assert list(results.rounds["valid"]) == [False, True]
    (cause,) = results.rounds.loc[0, "causes"]
    assert cause.endswith("on far: drain n2: there is no such node")
    assert 1.0 in results.samples["value"].tolist()


def test_steal_voids_the_round(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([CpuTimes(0, 0, 0, 0), CpuTimes(1000, 50, 0, 0), *[CpuTimes(1000, 50, 0, 0)] * 10])
    monkeypatch.setattr(fidelity, "read_cpu_times", lambda: next(readings))
    results = scene.measure(rounds=2)
    assert list(results.rounds["valid"]) == [False, True, True]
    assert results.rounds.loc[0, "steal_pct"] == 5.0


@pytest.mark.parametrize(
    ("error", "cause"), [(KeyboardInterrupt("SIGINT"), "interrupted"), (RunError("gone"), "the run failed: gone")]
)
def test_what_was_measured_before_an_interruption_is_kept_as_a_void_attempt(
    scene: Scene, error: BaseException, cause: str
) -> None:
    def probe(_: Context, call: int) -> Result:
        if call == CELLS + 3:
            raise error
        return Result((("rtt_us", [float(call)]),))

    scene.probe = probe
    with pytest.raises(type(error)):
        scene.measure(rounds=4)
    results = load(scene.folder / "results")
    assert results.run["status"] == "partial"
    assert list(results.rounds["valid"]) == [True, False]
    assert results.rounds.loc[1, "causes"] == [cause]
    assert list(results.samples["value"]) == [float(call) for call in range(1, CELLS + 3)]


def test_other_load_is_told_once_and_voids_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 1000))
    monkeypatch.setattr(fidelity, "read_cpu_times", lambda: (lambda now: CpuTimes(now, 0, now // 2, 0))(next(clock)))
    results = scene.measure(rounds=3)
    assert results.rounds["valid"].all()
    assert list(results.rounds["other_load_pct"]) == [50.0] * 3
    assert [note for note in scene.notes if "other programs" in note] == [
        "round 1 of main: other programs used 50% of the processors: "
        "round trips are longer and the noise floor is higher"
    ]
