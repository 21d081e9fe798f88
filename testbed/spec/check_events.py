"""Checks of events: one thing each, done to what is there, in an order that makes sense, and not to who measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.errors import Problem
from testbed.spec.check_paths import Surroundings
from testbed.spec.endpoints import EndpointRef, parse_endpoint, pod_reference
from testbed.spec.events import ACTIONS, Event, Pods, Rollout
from testbed.spec.images import find_image
from testbed.spec.manifests import Manifest, pod_template
from testbed.spec.models import Path, Probe
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import Document, FieldPath

# What ends the state that another begins: neither can come twice in a row.
_PAIRS = {"stop_node": "start_node", "drain": "uncordon", "stop_controller": "start_controller"}
_STATES = {"stop_node": "is stopped", "drain": "is drained", "stop_controller": "is stopped"}


@dataclass(frozen=True)
class _Here:
    """What the checks of one event look at."""

    document: Document
    manifests: Sequence[Manifest] | None
    around: Surroundings
    sources: frozenset[EndpointRef]


def event_problems(
    document: Document,
    probes: Mapping[int, Probe],
    paths: Mapping[str, Path],
    manifests: Sequence[Manifest] | None,
    around: Surroundings,
) -> Iterator[Problem]:
    """All problems of the events of all probes. ``manifests`` is None where not every object was sound: then what is
    missing may only be unsound, which is said elsewhere."""
    for index, probe in probes.items():
        own = [paths[name] for name in probe.paths or paths if name in paths]
        here = _Here(document, manifests, around, frozenset(parse_endpoint(path.source) for path in own))
        for number, event in enumerate(probe.events):
            path: FieldPath = ("probes", index, "events", number)
            if event.at_s >= probe.duration_s:
                limit = f"less than duration_s, which is {probe.duration_s:g}"
                yield document.problem((*path, "at_s"), "is after the end", event.at_s, limit)
            if len(event.actions) != 1:
                message = "does nothing" if not event.actions else f"does {' and '.join(event.actions)} at once"
                yield document.problem(path, f"{message}; an event is one of", allowed=", ".join(ACTIONS))
                continue
            if event.expect is not None and not event.expect.model_fields_set:
                limits = ", ".join(type(event.expect).model_fields)
                yield document.problem((*path, "expect"), "expects nothing", allowed=limits)
            yield from _action_problems(here, (*path, event.action), event)
        if all(len(event.actions) == 1 for event in probe.events):
            yield from _order_problems(document, index, probe)


def _action_problems(here: _Here, path: FieldPath, event: Event) -> Iterator[Problem]:
    if event.scale is not None:
        yield from _deployment_problems(here, path, event.scale.namespace, event.scale.deployment)
    if event.rollout is not None:
        yield from _rollout_problems(here, path, event.rollout)
    for pods in (event.delete_pod, event.kill):
        if pods is not None:
            yield from _pods_problems(here, path, pods)
    for node in (event.drain, event.uncordon, event.stop_node, event.start_node):
        if node is not None:
            yield from _node_problems(here, path, node.node, ends_pods=event.action in ("drain", "stop_node"))


def _deployment_problems(here: _Here, path: FieldPath, namespace: str, name: str) -> Iterator[Problem]:
    if here.manifests is None:
        return
    known = [f"{each.namespace}/{each.name}" for each in here.manifests if each.kind == "Deployment"]
    wanted = f"{namespace}/{name}"
    if wanted not in known:
        message = f"no manifest has this Deployment{suggestion(wanted, known)}"
        allowed = names_text(known) or "add the Deployment to manifests"
        yield here.document.problem((*path, "deployment"), message, wanted, allowed)


def _rollout_problems(here: _Here, path: FieldPath, rollout: Rollout) -> Iterator[Problem]:
    yield from _deployment_problems(here, path, rollout.namespace, rollout.deployment)
    restart = rollout.image is None and not rollout.env
    for manifest in here.manifests or () if not restart else ():
        if (manifest.kind, manifest.namespace, manifest.name) == ("Deployment", rollout.namespace, rollout.deployment):
            yield from _container_problems(here, path, [manifest.spec["template"]["spec"]], rollout.container)
    if rollout.container is not None and restart:
        message = "has no effect: a restart is of all containers"
        yield here.document.problem((*path, "container"), message, rollout.container, "image or env beside it")
    if rollout.image is not None and find_image(rollout.image) is None:
        message = "stands for no program of this machine, so its pods would never be ready"
        yield here.document.problem((*path, "image"), message, rollout.image, "an image of the catalogue")


def _container_problems(
    here: _Here, path: FieldPath, specs: Sequence[JsonObject], container: str | None
) -> Iterator[Problem]:
    """A container that none of some pods has."""
    names = list(dict.fromkeys(each["name"] for spec in specs for each in spec["containers"]))
    if container is not None and specs and container not in names:
        message = f"the pods have no such container{suggestion(container, names)}"
        yield here.document.problem((*path, "container"), message, container, names_text(names))


def _pods_problems(here: _Here, path: FieldPath, wanted: Pods) -> Iterator[Problem]:
    if (wanted.pod is None) == (wanted.selector is None):
        yield here.document.problem(path, "needs exactly one of pod and selector", "none" if not wanted.pod else "both")
        return
    if wanted.pod is not None and wanted.count is not None:
        yield here.document.problem((*path, "count"), "has no effect on a pod by its name", wanted.count, "selector")
    specs = list(_named(here, path, wanted) if wanted.pod is not None else _selected(here, path, wanted))
    yield from (found for found in specs if isinstance(found, Problem))
    container = getattr(wanted, "container", None)
    yield from _container_problems(here, path, [spec for spec in specs if not isinstance(spec, Problem)], container)


def _named(here: _Here, path: FieldPath, wanted: Pods) -> Iterator[Problem | JsonObject]:
    """The spec of the pod with the name, or what is wrong with that name."""
    if here.around.objects is None:
        return
    end = EndpointRef("pod", wanted.namespace, str(wanted.pod))
    by_name = {pod_reference(pod): pod for pod in here.around.of_kind("Pod")}
    pod = by_name.get(end)
    if pod is None:
        known = [f"{each.namespace}/{each.name}" for each, found in by_name.items() if not _renamed(found)]
        name = f"{wanted.namespace}/{wanted.pod}"
        message = f"no manifest has this pod{suggestion(name, known)}"
        yield here.document.problem((*path, "pod"), message, name, names_text(known) or "selector")
    elif _renamed(pod):
        labels = ", ".join(f"{key}: {value}" for key, value in (pod["metadata"].get("labels") or {}).items())
        message = f"the pods of a {_renamed(pod)} get other names when they are made anew"
        yield here.document.problem((*path, "pod"), message, wanted.pod, f"selector: {{{labels}}}, count: 1")
    else:
        yield pod["spec"]
    if end in here.sources:
        yield here.document.problem((*path, "pod"), "is where the requests of the probe come from", wanted.pod)


def _renamed(pod: JsonObject) -> str:
    """The kind of the pod's controller if it gives its pods names that are not known before."""
    kinds = [str(each["kind"]) for each in pod["metadata"].get("ownerReferences") or () if each.get("controller")]
    return next((kind for kind in kinds if kind != "StatefulSet"), "")


def _selected(here: _Here, path: FieldPath, wanted: Pods) -> Iterator[Problem | JsonObject]:
    """The specs of the pods with the labels, or what is wrong with these."""
    if here.manifests is None:
        return
    labels = dict(wanted.selector or {})
    found = False
    for manifest in here.manifests:
        template = pod_template(manifest)
        if template is None or manifest.namespace != wanted.namespace:
            continue
        if labels.items() <= ((template[1].get("metadata") or {}).get("labels") or {}).items():
            found = True
            yield template[1]["spec"]
            if manifest.kind == "Pod" and EndpointRef("pod", manifest.namespace, manifest.name) in here.sources:
                message = f"also means {manifest.name}, where the requests of the probe come from"
                yield here.document.problem((*path, "selector"), message, labels)
    if not found:
        message = f"no pod of the manifests in namespace {wanted.namespace} has these labels"
        yield here.document.problem((*path, "selector"), message, labels)


def _node_problems(here: _Here, path: FieldPath, name: str, *, ends_pods: bool) -> Iterator[Problem]:
    field = (*path, "node")
    for fabric in here.around.built:
        known = [element.name for element in fabric.fabric.of_kind("node")]
        if name not in known:
            message = f"the topology has no such node{fabric.where}{suggestion(name, known)}"
            yield here.document.problem(field, message, name, names_text(known))
            return
    if not ends_pods:
        return
    for source in sorted(here.sources):
        if source.kind == "node" and source.name == name and path[-1] == "stop_node":
            yield here.document.problem(field, "is where the requests of the probe come from", name)
    for pod in here.around.of_kind("Pod"):
        if pod_reference(pod) in here.sources and pod["spec"].get("nodeName") == name:
            message = f"the requests of the probe come from {object_namespace(pod)}/{object_name(pod)}, which is there"
            yield here.document.problem(field, message, name, "another node, or another place for that pod")


def _order_problems(document: Document, index: int, probe: Probe) -> Iterator[Problem]:
    """What is begun twice or ended before it began, and changes that nobody is there to carry out."""
    ends = {end: begin for begin, end in _PAIRS.items()}
    begun: dict[tuple[str, str], int] = {}
    waiting: list[FieldPath] = []
    in_order = sorted(enumerate(probe.events), key=lambda entry: entry[1].at_s)
    for number, event in in_order:
        path: FieldPath = ("probes", index, "events", number, event.action)
        details = getattr(event, event.action)
        node = getattr(details, "node", "")
        begin = ends.get(event.action, event.action)
        who = f"node {node}" if node else "the controller"
        if event.action in _PAIRS:
            if (begin, node) in begun:
                message = f"{who} {_STATES[begin]} already, by events[{begun[begin, node]}]"
                yield document.problem(path, message, allowed=f"{_PAIRS[begin]} in between")
            begun.setdefault((begin, node), number)
        elif event.action in ends:
            if begun.pop((begin, node), None) is None:
                yield document.problem(path, f"no event before it is {begin}{' of ' + who if node else ''}")
            if event.action == "start_controller":
                waiting = []
        if ("stop_controller", "") in begun and event.action != "stop_controller":
            waiting.append(path)
    for path in waiting:
        message = "happens while the controller is stopped, so it takes effect only after start_controller"
        yield document.problem(path, message, allowed="start_controller in a later event")
