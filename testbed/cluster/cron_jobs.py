"""CronJobs to Jobs: what should be, as a pure function of what is (k8s.io/kubernetes/pkg/controller/cronjob)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from testbed.cluster.cron import parse_schedule
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.jobs import is_over
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.ownership import controller_reference
from testbed.cluster.pod_facts import condition, created_at, is_terminating
from testbed.cluster.timestamps import seconds_of, timestamp

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
POLICIES = ("Allow", "Forbid", "Replace")
_LONGEST_NAME = 52  # eleven characters are left for the minute


class CronStep(NamedTuple):
    """What to do now: a Job to make, Jobs to delete, the status, what to tell (reason and message), and when to look
    again though nothing changes (seconds since the epoch)."""

    create: JsonObject | None
    delete: list[JsonObject]
    status: JsonObject
    told: list[tuple[str, str]]
    again_at: float | None


def next_step(cron_job: JsonObject, jobs: Sequence[JsonObject], now_s: float) -> CronStep:
    """What is to be done now; ``jobs`` are the CronJob's. Raises ValueError for a schedule or a zone that is none."""
    spec, before = cron_job["spec"], cron_job.get("status") or {}
    active = [job for job in jobs if not is_over(job) and not is_terminating(job)]
    told: list[tuple[str, str]] = []
    delete = list(_history(cron_job, jobs))
    status: JsonObject = {
        "active": [_reference(job) for job in active] or None,
        "lastScheduleTime": before.get("lastScheduleTime"),
        "lastSuccessfulTime": _last_success(jobs, before),
    }
    if spec.get("suspend") is True:
        return CronStep(None, delete, status, told, None)
    schedule, zone = parse_schedule(str(spec["schedule"])), _zone(spec)
    again_at = schedule.next_after(now_s, zone)
    due = _latest_due(cron_job, now_s)
    if due is None or timestamp(due) == before.get("lastScheduleTime"):
        return CronStep(None, delete, status, told, again_at)
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy == "Forbid" and active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        return CronStep(None, delete, status, [("JobAlreadyActive", text)], again_at)
    if policy == "Replace":
        delete += active
        status["active"] = None
    made = _job(cron_job, due, zone)
    status["lastScheduleTime"] = timestamp(due)
    return CronStep(made, delete, status, told, again_at)


def cron_job_problems(cron_job: JsonObject) -> Iterator[FieldProblem]:
    """What is wrong with a CronJob's own fields, beyond what the schemas say."""
    spec: dict[str, Any] = cron_job.get("spec") or {}
    if len(object_name(cron_job)) > _LONGEST_NAME:
        yield FieldProblem("metadata.name", f"must be no more than {_LONGEST_NAME} characters", object_name(cron_job))
    try:
        parse_schedule(str(spec.get("schedule") or ""))
    except ValueError as error:
        yield FieldProblem("spec.schedule", f"is no schedule: {error}", str(spec.get("schedule") or ""))
    try:
        _zone(spec)
    except ValueError:
        yield FieldProblem("spec.timeZone", "is no time zone", str(spec["timeZone"]), "such as Europe/Berlin")
    policy = spec.get("concurrencyPolicy")
    if policy is not None and policy not in POLICIES:
        yield FieldProblem("spec.concurrencyPolicy", "is not a policy", str(policy), ", ".join(POLICIES))
    for name in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        value = spec.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            yield FieldProblem(f"spec.{name}", "is not a number", str(value), "0 or more")


def job_template(cron_job: JsonObject) -> JsonObject:
    """The Job that a CronJob would make, without a time."""
    template = cron_job["spec"].get("jobTemplate") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": object_name(cron_job), "namespace": object_namespace(cron_job)},
        "spec": template.get("spec") or {},
    }


def _zone(spec: JsonObject) -> tzinfo:
    name = spec.get("timeZone")
    if name is None:
        return timezone.utc
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(str(error)) from None


def _latest_due(cron_job: JsonObject, now_s: float) -> float | None:
    """The latest moment of the schedule that has come since the last Job, or since the CronJob was made, and that is
    not too long ago."""
    spec, status = cron_job["spec"], cron_job.get("status") or {}
    since = seconds_of(status.get("lastScheduleTime")) or created_at(cron_job)
    deadline_s = spec.get("startingDeadlineSeconds")
    if deadline_s is not None:
        since = max(since, now_s - float(deadline_s))
    schedule, zone = parse_schedule(str(spec["schedule"])), _zone(spec)
    window_s = 60.0
    while True:  # back from now, because very many may have been missed
        start = max(since, now_s - window_s)
        due, moment = None, schedule.next_after(start, zone)
        while moment is not None and moment <= now_s:
            due, moment = moment, schedule.next_after(moment, zone)
        if due is not None or start == since:
            return due
        window_s *= 2


def _job(cron_job: JsonObject, due: float, zone: tzinfo) -> JsonObject:
    template = cron_job["spec"].get("jobTemplate") or {}
    metadata = template.get("metadata") or {}
    moment = datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")
    wire = job_template(cron_job)
    wire["metadata"] = {
        "name": f"{object_name(cron_job)}-{int(due) // 60}",
        "namespace": object_namespace(cron_job),
        "labels": dict(metadata.get("labels") or {}),
        "annotations": {**(metadata.get("annotations") or {}), SCHEDULED_AT: moment},
        "ownerReferences": [controller_reference(cron_job)],
    }
    return wire


def _history(cron_job: JsonObject, jobs: Sequence[JsonObject]) -> Iterator[JsonObject]:
    """Jobs that are over, beyond what is kept of those that succeeded and of those that failed; the oldest."""
    for kind, field, default in (("Complete", "successful", 3), ("Failed", "failed", 1)):
        kept = cron_job["spec"].get(f"{field}JobsHistoryLimit")
        over = [job for job in jobs if condition(job, kind).get("status") == "True" and not is_terminating(job)]
        over.sort(key=lambda job: (created_at(job), object_name(job)))
        yield from over[: max(0, len(over) - (default if kept is None else int(kept)))]


def _last_success(jobs: Sequence[JsonObject], before: JsonObject) -> str | None:
    moments = [str((job.get("status") or {}).get("completionTime") or "") for job in jobs]
    return max([*moments, str(before.get("lastSuccessfulTime") or "")]) or None


def _reference(job: JsonObject) -> JsonObject:
    metadata = job["metadata"]
    named = {name: metadata[name] for name in ("name", "namespace", "uid") if name in metadata}
    return {"apiVersion": job["apiVersion"], "kind": job["kind"], **named}
