"""Pods that are not Ready, and why: what their conditions, containers and Events say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.cluster.kinds import EVENT
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key
from testbed.cluster.ownership import controller
from testbed.cluster.pod_facts import condition, is_ready

# What every new pod waits for, with no fault of anybody's.
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
_MOST_CHARACTERS = 200  # of what a container waits for: a finding is one line
_REMEDIES = {
    "ErrImagePull": "correct its image: docs/pods.md lists those that there are",
    "ImagePullBackOff": "correct its image: docs/pods.md lists those that there are",
    "InvalidImageName": "correct its image",
    "CreateContainerConfigError": "create the ConfigMap or Secret, or the key of it",
    "OOMKilled": "raise resources.limits.memory",
    "Unschedulable": "change what it asks for, or the nodes: kubectl describe nodes",
    "NodeNotReady": "nodes, above",
}


@dataclass(frozen=True)
class Trouble:
    """Why a pod is not Ready: in one word, in a sentence, and of which container ("" for the pod itself)."""

    reason: str
    evidence: str
    container: str = ""


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each pod that something keeps from being Ready; one for all of an owner that wait for the same."""
    return judge(cluster.pods, cluster.objects(EVENT))


def judge(pods: Mapping[str, JsonObject], events: Iterable[JsonObject]) -> list[Finding]:
    """The same from the pods that have not ended, by ``namespace/name``, and the Events."""
    warnings = _warnings(events)
    alike: dict[tuple[str, str, str, str], list[tuple[JsonObject, Trouble]]] = {}
    starting = 0
    for key, pod in pods.items():
        if is_ready(pod):
            continue
        trouble = trouble_of(pod, warnings.get(str(pod["metadata"].get("uid")), {}))
        if trouble is None:
            starting += 1
            continue
        owner = controller(pod)
        kind = owner[0] + owner[1] if owner is not None else key
        alike.setdefault((object_namespace(pod), kind, trouble.reason, trouble.container), []).append((pod, trouble))
    found = [_finding(group) for group in alike.values()]
    if starting:
        remedy = "look again: kubectl get pods -A -w"
        found.append(Finding("workloads", "info", f"pods that are starting: {starting}", "", remedy))
    return found or [Finding("workloads", "ok", f"pods that are Ready: {len(pods)}")]


def _warnings(events: Iterable[JsonObject]) -> dict[str, dict[str, str]]:
    """The newest message of each reason for a warning, by the pod's uid."""
    found: dict[str, dict[str, str]] = {}
    for event in sorted(events, key=lambda event: str(event.get("lastTimestamp") or "")):
        about = event.get("involvedObject") or {}
        if event.get("type") == "Warning" and about.get("kind") == "Pod":
            found.setdefault(str(about.get("uid")), {})[str(event.get("reason"))] = str(event.get("message"))
    return found


def trouble_of(pod: JsonObject, warnings: Mapping[str, str]) -> Trouble | None:
    """What keeps a pod from being Ready, by the newest message of each reason of its Events; None if it is starting."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble(str(scheduled.get("reason")), f"Pending: {scheduled.get('message')}")
    if condition(pod, "Ready").get("reason") == "NodeNotReady":
        return Trouble("NodeNotReady", f"its node {pod['spec'].get('nodeName')} is not Ready")
    waiting = list(_of_containers(pod))
    if waiting:
        # What comes first is what the others wait for.
        return waiting[0]
    for reason in ("Unhealthy", "FailedMount", "FailedCreatePodSandBox"):
        if reason in warnings:
            return Trouble(reason, warnings[reason])
    return None


def _of_containers(pod: JsonObject) -> Iterator[Trouble]:
    status = pod.get("status") or {}
    for entry in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = entry.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        last = (entry.get("lastState") or {}).get("terminated")
        if waiting and waiting.get("reason") not in _STARTING:
            reason = str(waiting.get("reason"))
            yield _with_last_end(reason, _short(str(waiting.get("message") or reason)), last, entry)
        elif ended and ended.get("exitCode"):
            yield _with_last_end(str(ended.get("reason")), "it has ended", ended, entry)


def _with_last_end(reason: str, said: str, last: JsonObject | None, entry: JsonObject) -> Trouble:
    if last is not None:
        said += f"; {last.get('reason')}, exit code {last.get('exitCode')}, {entry.get('restartCount', 0)} restarts"
        if last.get("reason") == "OOMKilled":
            reason = "OOMKilled"
    return Trouble(reason, said, str(entry["name"]))


def _short(message: str) -> str:
    return message if len(message) <= _MOST_CHARACTERS else f"{message[:_MOST_CHARACTERS].rstrip()} ..."


def _finding(group: list[tuple[JsonObject, Trouble]]) -> Finding:
    pod, trouble = group[0]
    namespace, name = object_namespace(pod), object_name(pod)
    what = f"pod {pod_key(pod)}" + (f" and {len(group) - 1} like it" if len(group) > 1 else "")
    what += " is not Ready" if len(group) == 1 else " are not Ready"
    what += f": {trouble.reason}" + (f" (container {trouble.container})" if trouble.container else "")
    remedy = _REMEDIES.get(trouble.reason, "")
    if not remedy and trouble.container:
        remedy = f"kubectl -n {namespace} logs {name} -c {trouble.container} --previous"
    elif trouble.reason == "Unhealthy":
        remedy = f"correct the probe or the program: kubectl -n {namespace} logs {name}"
    return Finding(
        "workloads", "fault", what, trouble.evidence, remedy or f"kubectl -n {namespace} describe pod {name}"
    )
