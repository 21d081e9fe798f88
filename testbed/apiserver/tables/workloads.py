"""The tables of what keeps pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, their revisions, and Jobs."""

from __future__ import annotations

from typing import Any

from testbed.apiserver.tables.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    Column,
    Layout,
    age,
    containers_text,
    duration,
    labels_text,
    seconds_of,
    selector_text,
    since,
    spec,
    status,
)
from testbed.cluster.objects import JsonObject

_DESIRED = Column("Desired", "How many pods there are to be.", "integer")
_CURRENT = Column("Current", "How many pods there are.", "integer")
_READY = Column("Ready", "How many pods are ready.", "integer")
_READY_OF = Column("Ready", "How many pods are ready, of how many there are to be.")
_UP_TO_DATE = Column("Up-to-date", "How many pods are of the present template.", "integer")
_AVAILABLE = Column("Available", "How many pods have been ready for long enough.", "integer")


def _count(part: JsonObject, field: str) -> int:
    return int(part.get(field) or 0)


def _wanted(wire: JsonObject) -> int:
    replicas = spec(wire).get("replicas")
    return 1 if replicas is None else int(replicas)


def _ready_of(wire: JsonObject) -> str:
    return f"{_count(status(wire), 'readyReplicas')}/{_wanted(wire)}"


def _deployment(wire: JsonObject, now: float) -> list[Any]:
    told = status(wire)
    return [
        wire["metadata"]["name"],
        _ready_of(wire),
        _count(told, "updatedReplicas"),
        _count(told, "availableReplicas"),
        age(wire, now),
        *containers_text(wire),
        selector_text(spec(wire).get("selector")),
    ]


def _replica_set(wire: JsonObject, now: float) -> list[Any]:
    told = status(wire)
    return [
        wire["metadata"]["name"],
        _wanted(wire),
        _count(told, "replicas"),
        _count(told, "readyReplicas"),
        age(wire, now),
        *containers_text(wire),
        selector_text(spec(wire).get("selector")),
    ]


def _stateful_set(wire: JsonObject, now: float) -> list[Any]:
    return [wire["metadata"]["name"], _ready_of(wire), age(wire, now), *containers_text(wire)]


def _daemon_set(wire: JsonObject, now: float) -> list[Any]:
    told = status(wire)
    counts = (
        *("desiredNumberScheduled", "currentNumberScheduled", "numberReady"),
        *("updatedNumberScheduled", "numberAvailable"),
    )
    node_selector = ((spec(wire).get("template") or {}).get("spec") or {}).get("nodeSelector")
    return [
        wire["metadata"]["name"],
        *(_count(told, count) for count in counts),
        labels_text(node_selector),
        age(wire, now),
        *containers_text(wire),
        selector_text(spec(wire).get("selector")),
    ]


def _job(wire: JsonObject, now: float) -> list[Any]:
    return [
        wire["metadata"]["name"],
        _job_status(wire),
        _completions(wire),
        _job_duration(wire, now),
        age(wire, now),
        *containers_text(wire),
        selector_text(spec(wire).get("selector")),
    ]


def _job_status(wire: JsonObject) -> str:
    conditions = {c.get("type"): c.get("status") == "True" for c in status(wire).get("conditions") or ()}
    if conditions.get("Complete"):
        return "Complete"
    if conditions.get("Failed"):
        return "Failed"
    if wire["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for name in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if conditions.get(name):
            return name
    return "Running"


def _completions(wire: JsonObject) -> str:
    succeeded, completions = _count(status(wire), "succeeded"), spec(wire).get("completions")
    if completions is not None:
        return f"{succeeded}/{completions}"
    parallelism = _count(spec(wire), "parallelism")
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_duration(wire: JsonObject, now: float) -> str:
    started = seconds_of(status(wire).get("startTime"))
    if started is None:
        return ""
    ended = seconds_of(status(wire).get("completionTime"))
    return duration((now if ended is None else ended) - started)


def _controller_revision(wire: JsonObject, now: float) -> list[Any]:
    owners = [o for o in wire["metadata"].get("ownerReferences") or () if o.get("controller")]
    group = owners[0].get("apiVersion", "").rpartition("/")[0] if owners else ""
    kind = ".".join(part for part in (str(owners[0].get("kind", "")).lower(), group) if part) if owners else ""
    controller = f"{kind}/{owners[0].get('name')}" if owners else NONE
    return [wire["metadata"]["name"], controller, int(wire.get("revision") or 0), age(wire, now)]


def _cron_job(wire: JsonObject, now: float) -> list[Any]:
    told, template = status(wire), spec(wire).get("jobTemplate") or {}
    return [
        wire["metadata"]["name"],
        spec(wire).get("schedule", ""),
        spec(wire).get("timeZone") or NONE,
        str(spec(wire).get("suspend") is True),
        len(told.get("active") or ()),
        since(told["lastScheduleTime"], now) if told.get("lastScheduleTime") else NONE,
        age(wire, now),
        *containers_text({"spec": spec(template)}),
        selector_text(None),
    ]


def _disruption_budget(wire: JsonObject, now: float) -> list[Any]:
    wanted = [spec(wire).get(name) for name in ("minAvailable", "maxUnavailable")]
    limits = ["N/A" if limit is None else str(limit) for limit in wanted]
    return [wire["metadata"]["name"], *limits, _count(status(wire), "disruptionsAllowed"), age(wire, now)]


DEPLOYMENTS = Layout(
    (NAME, _READY_OF, _UP_TO_DATE, _AVAILABLE, AGE, CONTAINERS, IMAGES, SELECTOR),
    _deployment,
)
REPLICA_SETS = Layout((NAME, _DESIRED, _CURRENT, _READY, AGE, CONTAINERS, IMAGES, SELECTOR), _replica_set)
STATEFUL_SETS = Layout((NAME, _READY_OF, AGE, CONTAINERS, IMAGES), _stateful_set)
DAEMON_SETS = Layout(
    (
        *(NAME, _DESIRED, _CURRENT, _READY, _UP_TO_DATE, _AVAILABLE),
        Column("Node Selector", "The labels of the nodes that get a pod."),
        *(AGE, CONTAINERS, IMAGES, SELECTOR),
    ),
    _daemon_set,
)
CONTROLLER_REVISIONS = Layout(
    (
        NAME,
        Column("Controller", "Whose template it keeps."),
        Column("Revision", "Which one it is.", "integer"),
        AGE,
    ),
    _controller_revision,
)
JOBS = Layout(
    (
        NAME,
        Column("Status", "How far the job is."),
        Column("Completions", "How many pods have succeeded, of how many have to."),
        Column("Duration", "How long the job has taken."),
        *(AGE, CONTAINERS, IMAGES, SELECTOR),
    ),
    _job,
)
POD_DISRUPTION_BUDGETS = Layout(
    (
        NAME,
        Column("Min Available", "How many pods evictions leave."),
        Column("Max Unavailable", "How many pods may be missing."),
        Column("Allowed Disruptions", "How many pods may be evicted now.", "integer"),
        AGE,
    ),
    _disruption_budget,
)
CRON_JOBS = Layout(
    (
        NAME,
        Column("Schedule", "When it makes a job."),
        Column("Timezone", "Whose time is meant."),
        Column("Suspend", "Whether it makes none for now."),
        Column("Active", "How many of its jobs run.", "integer"),
        Column("Last Schedule", "How long ago it made one."),
        *(AGE, CONTAINERS, IMAGES, SELECTOR),
    ),
    _cron_job,
)
