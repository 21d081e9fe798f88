"""What each event does to a cluster. What follows from it is done by the cluster itself, as after ``kubectl``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from testbed.cluster.kinds import DAEMON_SET, DEPLOYMENT, NODE, POD
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.status import NotFound
from testbed.errors import RunError
from testbed.measure.events.pods import controller_of, living_pods, meant, on_node, restarts
from testbed.measure.interface import Network
from testbed.spec.events import DeletePod, Event, Kill, Rollout, Scale

_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"

Noticed = Callable[[], bool]
"""Whether the cluster has noticed the event; only from then on its being at rest says that all has followed."""


def act(network: Network, event: Event) -> Noticed:
    """Do what an event says. Raises RunError when there is nothing to do it to."""
    if event.scale is not None:
        return _scale(network, event.scale)
    if event.rollout is not None:
        return _roll_out(network, event.rollout)
    if event.delete_pod is not None:
        return _delete(network, event.delete_pod)
    if event.kill is not None:
        return _kill(network, event.kill)
    if event.drain is not None:
        return _drain(network, event.drain.node)
    if event.uncordon is not None:
        network.store.patch(NODE, event.uncordon.node, {"spec": {"unschedulable": None}})
    if event.stop_node is not None:
        return _stop_node(network, event.stop_node.node)
    if event.start_node is not None:
        network.start_node(event.start_node.node)
    if event.stop_controller is not None:
        network.stop_controller()
    if event.start_controller is not None:
        network.start_controller()
    return _at_once


def _at_once() -> bool:
    return True


def _scale(network: Network, wanted: Scale) -> Noticed:
    network.store.patch(DEPLOYMENT, wanted.deployment, {"spec": {"replicas": wanted.replicas}}, wanted.namespace)
    return _at_once


def _roll_out(network: Network, wanted: Rollout) -> Noticed:
    template = network.store.get(DEPLOYMENT, wanted.deployment, wanted.namespace)["spec"]["template"]
    if wanted.image is None and not wanted.env:
        now = datetime.now(timezone.utc).isoformat()
        change: JsonObject = {"metadata": {"annotations": {_RESTARTED_AT: now}}}
    else:
        change = {"spec": {"containers": [_changed(each, wanted, template) for each in template["spec"]["containers"]]}}
    patch = {"spec": {"template": change}}
    network.store.patch(DEPLOYMENT, wanted.deployment, patch, wanted.namespace)
    return _at_once


def _changed(container: JsonObject, wanted: Rollout, template: JsonObject) -> JsonObject:
    """A container as the rollout wants it; the others as they are."""
    if container["name"] != (wanted.container or template["spec"]["containers"][0]["name"]):
        return container
    kept = [each for each in container.get("env") or () if each["name"] not in wanted.env]
    env = kept + [{"name": name, "value": value} for name, value in wanted.env.items()]
    return {**container, "image": wanted.image or container["image"], **({"env": env} if env else {})}


def _delete(network: Network, wanted: DeletePod) -> Noticed:
    found = meant(network.store, wanted)
    if not found:
        raise RunError(f"{wanted}: there is no such pod now")
    for pod in found:
        network.store.delete(POD, object_name(pod), object_namespace(pod))
    return _at_once


def _kill(network: Network, wanted: Kill) -> Noticed:
    store, found = network.store, meant(network.store, wanted)
    if not found:
        raise RunError(f"{wanted}: there is no such pod now")
    before = {(object_namespace(pod), object_name(pod)): restarts(pod) for pod in found}
    for pod in found:
        container = wanted.container or pod["spec"]["containers"][0]["name"]
        network.kill_container(object_namespace(pod), object_name(pod), container)

    def noticed() -> bool:
        for (namespace, name), count in before.items():
            try:
                if restarts(store.get(POD, name, namespace)) <= count:
                    return False
            except NotFound:
                continue
        return True

    return noticed


def _drain(network: Network, node: str) -> Noticed:
    network.store.patch(NODE, node, {"spec": {"unschedulable": True}})
    for pod in on_node(living_pods(network.store), node):
        owner = controller_of(pod)
        if owner is None or owner[0] != DAEMON_SET.name:
            network.store.delete(POD, object_name(pod), object_namespace(pod))
    return _at_once


def _stop_node(network: Network, node: str) -> Noticed:
    network.stop_node(node)

    def noticed() -> bool:
        """The cluster has given the node up: it is not ready, and neither is any of its pods."""
        return not is_ready(network.store.get(NODE, node)) and not any(
            is_ready(pod) for pod in on_node(living_pods(network.store), node)
        )

    return noticed
