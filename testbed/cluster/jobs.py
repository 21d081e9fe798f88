"""Jobs to Pods: what should be, as a pure function of what is (k8s.io/kubernetes/pkg/controller/job)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from testbed.cluster.conditions import with_condition
from testbed.cluster.indexed_jobs import (
    completed_indexes,
    duplicates,
    indexes_text,
    is_indexed,
    next_indexes,
    numbered,
)
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import condition, created_at, has_failed, is_active, is_finished, is_ready
from testbed.cluster.templates import new_names, template_pod
from testbed.cluster.timestamps import seconds_of, timestamp

JOB_NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
JOB_UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
DEFAULT_BACKOFF_LIMIT = 6

# https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy
_FIRST_DELAY_S, _LONGEST_DELAY_S = 10.0, 360.0


class JobStep(NamedTuple):
    """What to do now: pods to make, pods to delete, the status, and when to look again though nothing changes (seconds
    since the epoch)."""

    create: list[JsonObject]
    delete: list[JsonObject]
    status: JsonObject
    again_at: float | None = None


class Tally(NamedTuple):
    """How many pods of a Job have ended, including those that are there no longer."""

    succeeded: int = 0
    failed: int = 0


def is_over(job: JsonObject) -> bool:
    """Whether a Job is complete or has failed."""
    return any(condition(job, name).get("status") == "True" for name in ("Complete", "Failed"))


def job_pods(
    job: JsonObject,
    count: int,
    is_taken: Callable[[str], bool] = lambda name: False,
    pods: Sequence[JsonObject] = (),
) -> list[JsonObject]:
    """So many more pods of a Job, beside those that are there."""
    labels = dict.fromkeys(JOB_NAME_LABELS, object_name(job))
    template = job["spec"]["template"]
    if is_indexed(job):
        pod = template_pod(job, template, "", labels)
        indexes = next_indexes(job, count, pods, completed_indexes(job, pods))
        return [numbered(job, pod, index, is_taken) for index in indexes]
    return [template_pod(job, template, name, labels) for name in new_names(object_name(job), count, is_taken)]


def parallelism(job: JsonObject) -> int:
    """How many pods may run at once."""
    given = job["spec"].get("parallelism")
    return 1 if given is None else int(given)


def completions(job: JsonObject) -> int | None:
    """How many pods must succeed; None for a Job that is complete when any has and none runs."""
    given = job["spec"].get("completions")
    return 1 if given is None and job["spec"].get("parallelism") is None else given


def wanted_now(job: JsonObject, succeeded: int) -> int:
    """How many pods should run, beside those that have ended."""
    if job["spec"].get("suspend") is True:
        return 0
    total = completions(job)
    if total is None:
        return 0 if succeeded else parallelism(job)
    return min(parallelism(job), max(0, int(total) - succeeded))


def _is_enough(job: JsonObject, succeeded: int) -> bool:
    total = completions(job)
    return succeeded > 0 if total is None else succeeded >= int(total)


def next_step(
    job: JsonObject, pods: Sequence[JsonObject], tally: Tally, now_s: float, taken: Container[str] = ()
) -> JobStep:
    """What is to be done now. ``tally`` counts all that have ended, ``pods`` are those that are there; ``taken`` are
    names that it cannot use beside theirs."""
    spec, before = job["spec"], job.get("status") or {}
    active = [pod for pod in pods if is_active(pod)]
    completed = completed_indexes(job, pods) if is_indexed(job) else set[int]()
    if is_indexed(job):
        tally = tally._replace(succeeded=len(completed))
    started = before.get("startTime")
    if started is None and spec.get("suspend") is not True:
        started = timestamp(now_s)
    status: JsonObject = {
        "active": len(active),
        "ready": sum(map(is_ready, active)),
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        **({"startTime": started} if started else {}),
        **({"completedIndexes": indexes_text(completed)} if completed else {}),
        "conditions": before.get("conditions") or [],
    }
    if is_over(job):
        kept = {"completionTime": before["completionTime"]} if "completionTime" in before else {}
        return JobStep([], active, {**status, **kept}, _expiry(job, now_s))
    if verdict := _failure(job, pods, tally, seconds_of(started), now_s):
        return JobStep([], active, _ended(status, "Failed", *verdict, now_s))
    wanted = wanted_now(job, tally.succeeded)
    if not active and _is_enough(job, tally.succeeded):
        status = _ended(status, "Complete", "CompletionsReached", "Reached expected number of succeeded pods", now_s)
        return JobStep([], [], {**status, "completionTime": timestamp(now_s)})
    status["conditions"] = _suspension(job, status["conditions"], now_s)
    again_at = _deadline(job, seconds_of(started))
    if is_indexed(job) and (doubled := duplicates(active)):
        return JobStep([], doubled, status, again_at)
    surplus = active[wanted:] if completions(job) is not None or spec.get("suspend") is True else []
    missing = wanted - len(active)
    if missing <= 0:
        return JobStep([], surplus, status, again_at)
    free_at = _retry_at(pods)
    if free_at > now_s:
        return JobStep([], [], status, free_at if again_at is None else min(free_at, again_at))
    own = {object_name(pod) for pod in pods}
    return JobStep(job_pods(job, missing, lambda name: name in own or name in taken, pods), [], status, again_at)


def expires_at(job: JsonObject) -> float | None:
    """When a Job that is over is to be deleted (``ttlSecondsAfterFinished``); None for one that stays."""
    lifetime_s = job["spec"].get("ttlSecondsAfterFinished")
    if lifetime_s is None or not is_over(job):
        return None
    ended = condition(job, "Complete") or condition(job, "Failed")
    return (seconds_of(ended.get("lastTransitionTime")) or 0.0) + float(lifetime_s)


def _expiry(job: JsonObject, now_s: float) -> float | None:
    at = expires_at(job)
    return None if at is None else max(at, now_s)


def _deadline(job: JsonObject, started: float | None) -> float | None:
    limit_s = job["spec"].get("activeDeadlineSeconds")
    return None if limit_s is None or started is None else started + float(limit_s)


def _failure(
    job: JsonObject, pods: Sequence[JsonObject], tally: Tally, started: float | None, now_s: float
) -> tuple[str, str] | None:
    """Why a Job has failed for good: reason and message; None while it has not."""
    spec = job["spec"]
    limit = spec.get("backoffLimit")
    limit = DEFAULT_BACKOFF_LIMIT if limit is None else int(limit)
    restarts = 0
    if (spec["template"].get("spec") or {}).get("restartPolicy") == "OnFailure":
        restarts = sum(_restarts(pod) for pod in pods if not is_finished(pod))
    if tally.failed > limit or (restarts and restarts > limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = _deadline(job, started)
    if deadline is not None and now_s >= deadline and spec.get("suspend") is not True:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _restarts(pod: JsonObject) -> int:
    status = pod.get("status") or {}
    found = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return sum(int(entry.get("restartCount", 0)) for entry in found)


def _retry_at(pods: Sequence[JsonObject]) -> float:
    """From when on a failed pod may be replaced: 10 s after it failed, and twice that each time in a row."""
    ended = sorted((_ended_at(pod), has_failed(pod)) for pod in pods if is_finished(pod))
    in_a_row = 0
    for _, failed in reversed(ended):
        if not failed:
            break
        in_a_row += 1
    if not in_a_row:
        return 0.0
    delay_s: float = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(in_a_row - 1, 10))
    return ended[-1][0] + delay_s


def _ended_at(pod: JsonObject) -> float:
    moments = [created_at(pod)]
    for entry in (pod.get("status") or {}).get("containerStatuses") or ():
        moments.append(seconds_of(((entry.get("state") or {}).get("terminated") or {}).get("finishedAt")) or 0.0)
    return max(moments)


def _ended(status: JsonObject, how: str, reason: str, message: str, now_s: float) -> JsonObject:
    conditions = with_condition(status["conditions"], how, "True", reason, message, now_s)
    return {**status, "conditions": conditions}


def _suspension(job: JsonObject, conditions: list[JsonObject], now_s: float) -> list[JsonObject]:
    if job["spec"].get("suspend") is True:
        return with_condition(conditions, "Suspended", "True", "JobSuspended", "Job suspended", now_s)
    if any(entry.get("type") == "Suspended" for entry in conditions):
        return with_condition(conditions, "Suspended", "False", "JobResumed", "Job resumed", now_s)
    return conditions
