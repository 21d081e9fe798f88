"""Brings a cluster back to what it was before a cell's events: the next cell finds what this one found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from testbed.cluster.kinds import DEPLOYMENT, NODE, POD
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key
from testbed.cluster.store import Store
from testbed.errors import RunError
from testbed.measure.events.pods import Workload, controller_of, living_pods, workload_of
from testbed.measure.events.rest import come_to_rest
from testbed.measure.interface import Network
from testbed.spec.events import Event

# Each attempt puts pods on the nodes that lack some; one is enough unless something else moves them.
_MOST_ATTEMPTS = 3
# What the server gives an object, and another one of its name must not bring along.
_SERVERS_METADATA = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "deletionTimestamp")

Places = Counter[tuple[Workload, str]]
"""How many pods of a workload are on a node."""


@dataclass(frozen=True)
class _Before:
    """What a cluster was."""

    deployments: Mapping[tuple[str, str], JsonObject]
    cordoned: Mapping[str, bool]
    lone_pods: Mapping[str, JsonObject]
    places: Places


@contextmanager
def brought_back(network: Network, events: Sequence[Event]) -> Iterator[None]:
    """Within, events may happen; afterwards the cluster is what it was, also when an error was raised.

    Controller and nodes run, cordons, replicas and templates are as before, pods that nobody makes anew are there
    again, and of each workload as many pods are on each node. Raises RunError when that does not come about.
    """
    if not events:
        yield
        return
    before = _state(network.store)
    try:
        yield
    except Exception:
        _bring_back(network, before)
        raise
    _bring_back(network, before)  # not when somebody interrupts the run, who does not want to wait


def _state(store: Store) -> _Before:
    pods = living_pods(store)
    return _Before(
        {(object_namespace(each), object_name(each)): each["spec"] for each in store.list(DEPLOYMENT).items},
        {object_name(node): _is_cordoned(node) for node in store.list(NODE).items},
        {pod_key(pod): pod for pod in pods if controller_of(pod) is None},
        _places(store, pods),
    )


def _is_cordoned(node: JsonObject) -> bool:
    return bool(node["spec"].get("unschedulable"))


def _places(store: Store, pods: Sequence[JsonObject]) -> Places:
    placed = ((workload_of(store, pod), pod["spec"].get("nodeName")) for pod in pods)
    return Counter((workload, node) for workload, node in placed if workload is not None and node)


def _bring_back(network: Network, before: _Before) -> None:
    store = network.store
    if not network.controller_is_running:
        network.start_controller()
    for node in sorted(network.stopped_nodes):
        network.start_node(node)
    _cordon(store, before.cordoned)
    for (namespace, name), spec in before.deployments.items():
        patch = _difference(store.get(DEPLOYMENT, name, namespace)["spec"], spec)
        if patch:
            store.patch(DEPLOYMENT, name, {"spec": patch}, namespace)
    come_to_rest(network)
    there = {pod_key(pod) for pod in store.list(POD).items}
    missing = [pod for key, pod in before.lone_pods.items() if key not in there]
    for pod in missing:
        store.create(_as_written(pod))
    if missing:
        come_to_rest(network)
    for _ in range(_MOST_ATTEMPTS):
        lacking = before.places - _places(store, living_pods(store))
        if not lacking:
            return
        _move(network, before, lacking)
    raise RunError(f"pods are not on the nodes where they were: {_places_text(lacking)}")


def _cordon(store: Store, cordoned: Mapping[str, bool]) -> None:
    """Have exactly these nodes cordoned."""
    for node in store.list(NODE).items:
        wanted = cordoned.get(object_name(node), False)
        if _is_cordoned(node) != wanted:
            store.patch(NODE, object_name(node), {"spec": {"unschedulable": wanted or None}})


def _difference(now: JsonObject, before: JsonObject) -> JsonObject:
    """The merge patch that takes a Deployment back; a restart is no difference, as its pods are what they were."""
    patch: JsonObject = {}
    if now.get("replicas") != before.get("replicas"):
        patch["replicas"] = before.get("replicas")
    if _containers(now) != _containers(before):
        patch["template"] = {"spec": {"containers": _containers(before)}}
    return patch


def _containers(spec: JsonObject) -> object:
    return spec["template"]["spec"]["containers"]


def _as_written(pod: JsonObject) -> JsonObject:
    """A pod as somebody could have written it who wants it where it was."""
    metadata = {name: value for name, value in pod["metadata"].items() if name not in _SERVERS_METADATA}
    return {**{name: value for name, value in pod.items() if name != "status"}, "metadata": metadata}


def _move(network: Network, before: _Before, lacking: Places) -> None:
    """Have pods made anew on the nodes that lack some, by cordoning all others meanwhile."""
    store = network.store
    nodes = list(before.cordoned)
    for target in sorted({node for _, node in lacking}):
        pods = living_pods(store)
        surplus = _places(store, pods) - before.places
        leaving = []
        for pod in pods:
            workload, node = workload_of(store, pod), pod["spec"].get("nodeName", "")
            if workload is None or not surplus[workload, node] or not lacking[workload, target]:
                continue
            surplus[workload, node] -= 1
            lacking[workload, target] -= 1
            leaving.append(pod)
        try:
            _cordon(store, {node: node != target for node in nodes})
            for pod in leaving:
                store.delete(POD, object_name(pod), object_namespace(pod), 1)
            come_to_rest(network)
        finally:
            _cordon(store, before.cordoned)


def _places_text(places: Places) -> str:
    return ", ".join(f"{count} of {'/'.join(workload)} on {node}" for (workload, node), count in places.items())
