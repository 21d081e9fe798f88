"""Jobs whose pods have a number each (``completionMode: Indexed``).

https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode,
k8s.io/kubernetes/pkg/controller/job/indexed_job_utils.go
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import annotations_of, has_failed, is_active, is_finished
from testbed.cluster.templates import new_names

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
_VARIABLE = {
    "name": "JOB_COMPLETION_INDEX",
    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{COMPLETION_INDEX}']"}},
}


def is_indexed(job: JsonObject) -> bool:
    """Whether the Job's pods have numbers."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def index_of(pod: JsonObject) -> int | None:
    """A pod's number; None for one that has none."""
    text = annotations_of(pod).get(COMPLETION_INDEX, "")
    return int(text) if text.isdecimal() else None


def completed_indexes(job: JsonObject, pods: Iterable[JsonObject]) -> set[int]:
    """The numbers of which a pod has succeeded, be it there or not."""
    found = _parse(str((job.get("status") or {}).get("completedIndexes") or ""))
    for pod in pods:
        if is_finished(pod) and not has_failed(pod) and (index := index_of(pod)) is not None:
            found.add(index)
    return {index for index in found if index < int(job["spec"].get("completions") or 0)}


def indexes_text(indexes: Iterable[int]) -> str:
    """Numbers as ``status.completedIndexes`` has them: ``0,2-4``."""
    runs: list[tuple[int, int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1] = runs[-1][0], index
        else:
            runs.append((index, index))
    # Two in a row are no range, as in Kubernetes.
    return ",".join(
        f"{first}-{last}" if last > first + 1 else f"{first},{last}" if last > first else str(first)
        for first, last in runs
    )


def next_indexes(job: JsonObject, count: int, pods: Iterable[JsonObject], completed: set[int]) -> list[int]:
    """The lowest numbers that neither have succeeded nor have a pod."""
    there = completed | {index_of(pod) for pod in pods if is_active(pod)}
    free = (index for index in range(int(job["spec"].get("completions") or 0)) if index not in there)
    return [index for _, index in zip(range(count), free, strict=False)]


def duplicates(pods: Sequence[JsonObject]) -> list[JsonObject]:
    """Pods of a number that another has already, and those without."""
    seen: set[int | None] = {None}
    found = []
    for pod in pods:
        index = index_of(pod)
        if index in seen:
            found.append(pod)
        seen.add(index)
    return found


def numbered(job: JsonObject, pod: JsonObject, index: int, is_taken: Callable[[str], bool]) -> JsonObject:
    """A pod of the Job as the one with this number."""
    base, metadata, spec = f"{object_name(job)}-{index}", pod["metadata"], pod["spec"]
    mark = {COMPLETION_INDEX: str(index)}
    own = {
        **metadata,
        "name": new_names(base, 1, is_taken)[0],
        "labels": {**(metadata.get("labels") or {}), **mark},
        "annotations": {**(metadata.get("annotations") or {}), **mark},
    }
    lists = {
        name: [_knowing(each) for each in spec[name]] for name in ("initContainers", "containers") if spec.get(name)
    }
    return {**pod, "metadata": own, "spec": {**spec, **lists, "hostname": base}}


def _knowing(container: JsonObject) -> JsonObject:
    there = container.get("env") or []
    if any(variable.get("name") == _VARIABLE["name"] for variable in there):
        return container
    return {**container, "env": [*there, _VARIABLE]}


def _parse(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
