"""What a kubelet does with containers that start, end and fail: pure decisions with made-up times."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.network.pods.lifecycle import (
    ContainerRun,
    Running,
    Waiting,
    container_runs,
    ephemeral_runs,
    next_steps,
    phase_of,
    terminated,
)
from testbed.network.pods.probe_state import ProbeState
from testbed.network.pods.status import pod_status, qos_class


def spec(*containers: str, init: tuple[str, ...] = (), sidecar: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    before: list[dict[str, Any]] = [{"name": name} for name in init]
    before += [{"name": name, "restartPolicy": "Always"} for name in sidecar]
    return {"initContainers": before, "containers": [{"name": name} for name in containers], **more}


def started(run: ContainerRun, now: float = 0.0) -> None:
    run.begin()
    run.is_running(100, now)


def ended(run: ContainerRun, status: int, now: float, policy: str = "Always", began: float = 0.0) -> None:
    run.has_ended(terminated(status, began, now), policy, now, "web_default(uid)")


def names(runs: tuple[ContainerRun, ...]) -> list[str]:
    return [run.name for run in runs]


def test_init_containers_run_one_after_the_other_and_then_all_others() -> None:
    runs = container_runs(spec("a", "b", init=("first", "second")))
    assert names(next_steps(runs, 0).start) == ["first"]
    started(runs[0])
    assert next_steps(runs, 0).start == ()
    assert phase_of(runs, "Always") == "Pending"
    ended(runs[0], 0, 1)
    assert names(next_steps(runs, 1).start) == ["second"]
    started(runs[1])
    ended(runs[1], 0, 2)
    assert names(next_steps(runs, 2).start) == ["a", "b"]
    for run in runs[2:]:
        started(run)
    assert phase_of(runs, "Always") == "Running"


def test_an_init_container_that_fails_is_tried_again_unless_the_pod_is_never_restarted() -> None:
    runs = container_runs(spec("a", init=("first",)))
    started(runs[0])
    ended(runs[0], 1, 1)
    assert names(next_steps(runs, 1).start) == ["first"]
    never = container_runs(spec("a", init=("first",)))
    started(never[0])
    ended(never[0], 1, 1, "Never")
    assert next_steps(never, 1).start == ()
    assert phase_of(never, "Never") == "Failed"


def test_sidecars_start_before_the_others_and_end_after_them() -> None:
    runs = container_runs(spec("main", sidecar=("proxy",), restartPolicy="Never"))
    assert names(next_steps(runs, 0).start) == ["proxy"]
    started(runs[0])
    assert names(next_steps(runs, 0).start) == ["main"]
    started(runs[1])
    ended(runs[1], 0, 5, "Never")
    steps = next_steps(runs, 5)
    assert (steps.start, names(steps.end)) == ((), ["proxy"])
    ended(runs[0], -15, 6, "Never")
    assert next_steps(runs, 100).start == (), "nobody needs it any more"
    assert phase_of(runs, "Never") == "Succeeded"


def test_an_ephemeral_container_waits_for_nobody_and_runs_once() -> None:
    pod_spec = spec("web", init=("stuck",), ephemeralContainers=[{"name": "look"}])
    runs = container_runs(pod_spec)
    assert {run.name for run in next_steps(runs, 0).start} == {"stuck", "look"}
    look = runs[-1]
    assert ephemeral_runs(pod_spec, {run.name for run in runs}) == []
    for run in runs:
        started(run)
    ended(runs[0], 0, 1)
    assert [run.name for run in runs if not run.ready] == ["stuck"]
    running = pod_status({"metadata": {}, "spec": pod_spec}, runs, start_s=0, now_s=1, ready=True)
    assert [one["ready"] for one in running["ephemeralContainerStatuses"]] == [False], "nobody is led to it"
    ended(look, 1, 2)
    assert names(next_steps(runs, 100).start) == [], "whatever the restart policy"
    status = pod_status({"metadata": {}, "spec": pod_spec}, runs, start_s=0, now_s=2, ready=True)
    assert status["phase"] == "Running"
    assert [one["name"] for one in status["ephemeralContainerStatuses"]] == ["look"]
    assert [one["name"] for one in status["initContainerStatuses"]] == ["stuck"]
    assert all(condition["status"] == "True" for condition in status["conditions"]), "it counts for nothing"


def test_the_wait_before_a_restart_doubles_and_is_forgotten_after_ten_minutes() -> None:
    (run,) = container_runs(spec("main"), backoff_base_s=1.0)
    delays, now = [], 0.0
    for _ in range(12):
        started(run, now)
        ended(run, 1, now + 1, began=now)
        assert run.due is not None
        delays.append(run.due - (now + 1))
        now = run.due
    assert delays == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert isinstance(run.state, Waiting) and run.state.reason == "CrashLoopBackOff"
    assert run.state.message == "back-off 5m0s restarting failed container=main pod=web_default(uid)"
    started(run, now)
    ended(run, 1, now + 700, began=now)
    assert run.due == now + 700


@pytest.mark.parametrize(
    ("policy", "status", "again", "phase"),
    [
        ("Always", 0, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 3, True, "Running"),
        ("Never", 3, False, "Failed"),
        ("Never", 0, False, "Succeeded"),
    ],
)
def test_the_restart_policy_decides(policy: str, status: int, again: bool, phase: str) -> None:
    runs = container_runs(spec("main"))
    started(runs[0])
    ended(runs[0], status, 1, policy)
    assert bool(next_steps(runs, 1).start) == again
    assert phase_of(runs, policy) == phase


def test_a_container_that_lacks_something_is_tried_again_when_it_is_time() -> None:
    (run,) = container_runs(spec("main"))
    run.begin()
    run.cannot_start("ErrImagePull", "no such image", 10.0)
    steps = next_steps([run], 5)
    assert (steps.start, steps.look_again) == ((), 10.0)
    assert next_steps([run], 10).start == (run,)


def test_a_status_says_what_kubectl_shows() -> None:
    pod = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {**spec("main", init=("first",)), "nodeName": "n1"},
        "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "then"}]},
    }
    runs = container_runs(pod["spec"])
    started(runs[0])
    ended(runs[0], 0, 1)
    status = pod_status(pod, runs, start_s=0, now_s=5, ready=True)
    conditions = {entry["type"]: entry for entry in status["conditions"]}
    assert conditions["Ready"]["lastTransitionTime"] == "then", "it has not changed"
    assert conditions["Ready"]["message"] == "containers with unready status: [main]"
    assert conditions["Initialized"]["status"] == "True"
    assert status["initContainerStatuses"][0]["ready"] is True
    started(runs[1])
    status = pod_status(pod, runs, start_s=0, now_s=5, ready=True)
    assert {entry["type"]: entry["status"] for entry in status["conditions"]}["Ready"] == "True"
    first = status["containerStatuses"][0]
    assert (first["started"], first["ready"], first["restartCount"]) == (True, True, 0)
    ended(runs[1], -9, 6)
    started(runs[1])
    again = pod_status(pod, runs, start_s=0, now_s=7, ready=True)["containerStatuses"][0]
    assert again["restartCount"] == 1 and again["containerID"] != first["containerID"]
    assert first["lastState"] == {} and again["lastState"]["terminated"]["exitCode"] == 137


def test_a_signal_is_an_exit_status_too() -> None:
    killed = terminated(-9, 0, 1)
    assert (killed.exit_code, killed.signal, killed.reason) == (137, 9, "Error")
    assert terminated(0, 0, 1).reason == "Completed"
    assert terminated(-9, 0, 1, out_of_memory=True).reason == "OOMKilled"
    # Another process of the container was killed, and the first has ended because of it.
    assert terminated(1, 0, 1, out_of_memory=True).reason == "OOMKilled"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_a_pods_quality_of_service(resources: dict[str, Any], expected: str) -> None:
    assert qos_class({"containers": [{"name": "main", "resources": resources}]}) == expected


def test_readiness_needs_as_many_answers_as_it_says() -> None:
    probe = ProbeState("readiness", {"successThreshold": 2, "failureThreshold": 3, "periodSeconds": 5})
    assert [probe.take(answer, 0) for answer in (True, False, True, True)] == [False, False, False, True]
    assert [probe.take(False, 0) for _ in range(3)] == [False, False, True]
    assert not probe.passed
    assert probe.next_s == 5


def test_liveness_is_taken_for_granted_until_it_fails_often_enough() -> None:
    probe = ProbeState("liveness", {"failureThreshold": 2})
    assert [probe.take(answer, 0) for answer in (False, True, False, False)] == [False, False, False, True]


def test_a_startup_probe_has_its_whole_time_though_it_is_asked_more_often() -> None:
    probe = ProbeState("startup", {"failureThreshold": 3, "periodSeconds": 2, "initialDelaySeconds": 1})
    assert [probe.take(False, elapsed) for elapsed in (1.0, 1.1, 3.0, 6.9)] == [False] * 4
    assert probe.take(False, 7.0)
    assert probe.next_s < 1
    assert probe.take(True, 7.1) and probe.passed


def test_a_failure_is_told_once_a_period_and_not_while_it_may_still_start() -> None:
    probe = ProbeState("readiness", {"periodSeconds": 10})
    assert [probe.tells(now) for now in (0.0, 0.1, 5.0, 10.0, 10.1, 20.0)] == [False, False, False, True, False, True]


def test_running_is_what_it_was_started_as() -> None:
    (run,) = container_runs({"containers": [{"name": "main", "startupProbe": {}, "readinessProbe": {}}]})
    started(run, 3.0)
    assert run.state == Running(3.0)
    assert not run.started and not run.ready
