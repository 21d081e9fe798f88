"""Pods and what they belong to, as events and the way back look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testbed.cluster.kinds import POD, REPLICA_SET
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.status import NotFound
from testbed.cluster.store import Store
from testbed.spec.events import Pods

Workload = tuple[str, str, str]
"""Kind, namespace and name."""


def living_pods(store: Store) -> list[JsonObject]:
    """All pods that are neither ending nor over."""
    return [
        pod
        for pod in store.list(POD).items
        if "deletionTimestamp" not in pod["metadata"]
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


def meant(store: Store, wanted: Pods) -> list[JsonObject]:
    """The pods that an event means, by their names, ready ones first."""
    of_namespace = [pod for pod in living_pods(store) if object_namespace(pod) == wanted.namespace]
    if wanted.pod is not None:
        return [pod for pod in of_namespace if object_name(pod) == wanted.pod]
    labels: Mapping[str, str] = wanted.selector or {}
    found = [pod for pod in of_namespace if labels.items() <= (pod["metadata"].get("labels") or {}).items()]
    return sorted(found, key=lambda pod: (not is_ready(pod), object_name(pod)))[: wanted.count]


def controller_of(wire: JsonObject) -> tuple[str, str] | None:
    """Kind and name of the object that made another, and makes it anew."""
    owners = (wire["metadata"].get("ownerReferences") or ()) if wire else ()
    return next(((owner["kind"], owner["name"]) for owner in owners if owner.get("controller")), None)


def workload_of(store: Store, pod: JsonObject) -> Workload | None:
    """What a pod belongs to: the Deployment rather than one of its ReplicaSets. None for a pod that nobody made."""
    namespace, owner = object_namespace(pod), controller_of(pod)
    if owner is not None and owner[0] == REPLICA_SET.name:
        try:
            owner = controller_of(store.get(REPLICA_SET, owner[1], namespace)) or owner
        except NotFound:
            return None
    return None if owner is None else (owner[0], namespace, owner[1])


def restarts(pod: JsonObject) -> int:
    """How often containers of a pod have ended, as its kubelet reports it."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(each.get("restartCount", 0) + ("terminated" in (each.get("state") or {})) for each in statuses)


def on_node(pods: list[JsonObject], node: str) -> Iterator[JsonObject]:
    """Those of some pods that are on a node."""
    return (pod for pod in pods if pod["spec"].get("nodeName") == node)
