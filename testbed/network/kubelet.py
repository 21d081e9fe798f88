"""The kubelets of all nodes in one: pods that appear in the store are wired and started, those deleted are ended.

It follows the store, like a kubelet its API server: a Pod that has a node and an address is made so and reported as
running and, when its probes agree, as ready; one that is being deleted is ended, unwired, and then removed for good.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from testbed.cluster.kinds import POD
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key, uses_host_network
from testbed.cluster.status import NotFound
from testbed.cluster.store import Event, Store, Watch
from testbed.cluster.values import NetworkConfig, NodeNetwork, PodNetwork
from testbed.cluster.view import pod_network
from testbed.errors import RunError
from testbed.network.containers import Containers
from testbed.network.hosts import ClusterNet
from testbed.network.mininet_view import add_pod, remove_pod
from testbed.network.openvswitch import VSwitch
from testbed.network.place import Place
from testbed.network.places import pod_place
from testbed.network.readiness import Readiness, has_probe
from testbed.network.wiring import Wiring
from testbed.spec.endpoints import EndpointRef, pod_reference

LOG = logging.getLogger(__name__)

_ENDERS = 4  # pods of one batch are ended side by side: most of it is waiting


@dataclass(frozen=True)
class Machinery:
    """What pods are made with."""

    config: NetworkConfig
    nodes: Mapping[str, NodeNetwork]
    wiring: Wiring
    switches: Mapping[str, VSwitch]
    places: MutableMapping[EndpointRef, Place]
    containers: Containers
    net: ClusterNet


class Kubelet:
    """One thread that does everything; ``start`` takes over the pods that the builder has wired already."""

    def __init__(self, store: Store, machinery: Machinery) -> None:
        self._store, self._with = store, machinery
        self._happened: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._known: dict[str, PodNetwork | None] = {}  # None: a pod on its node's own network
        self._ending: set[str] = set()
        self._failed: dict[str, str] = {}
        self._waiting: dict[str, JsonObject] = {}  # pods whose name or address an ending pod still has
        self._readiness = Readiness(lambda key, ready: self._happened.put(lambda: self._report_ready(key, ready)))
        self._enders = ThreadPoolExecutor(_ENDERS, "pod-end")
        self._watch: Watch | None = None
        self._threads = [
            threading.Thread(target=self._run, name="kubelet", daemon=True),
            threading.Thread(target=self._follow, name="kubelet-watch", daemon=True),
        ]

    @property
    def failures(self) -> list[str]:
        """Pods that could not be made, and why."""
        return [f"{key}: {reason}" for key, reason in sorted(self._failed.items())]

    def start(self) -> None:
        """Start the containers of the pods that are wired, then follow the store. Raises RunError when one cannot."""
        listed = self._store.list(POD)
        wired = [pod for pod in listed.items if _is_placed(pod)]
        self._with.containers.start(wired, {pod_key(pod): self._with.places[pod_reference(pod)] for pod in wired})
        self._readiness.start()
        for pod in wired:
            self._known[pod_key(pod)] = pod_network(pod)
            self._started(pod)
        self._watch = self._store.watch(POD, listed.resource_version)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Follow the store no longer. The pods stay as they are."""
        if self._watch is None:
            return
        self._watch.close()
        self._happened.put(None)
        for thread in self._threads:
            thread.join()
        self._enders.shutdown()
        self._readiness.stop()

    def settled(self) -> bool:
        """Whether every pod that has a node is as the store wants it (readiness aside), or has failed."""
        if self._ending:
            return False
        for pod in self._store.list(POD).items:
            if "deletionTimestamp" in pod["metadata"]:
                return False
            if _is_placed(pod) and pod_key(pod) not in self._known and pod_key(pod) not in self._failed:
                return False
        return True

    def _follow(self) -> None:
        assert self._watch is not None
        while not self._watch.closed:
            events = self._watch.next()
            if events:
                self._happened.put(lambda events=events: self._pods_changed(events))  # type: ignore[misc]

    def _run(self) -> None:
        while (task := self._happened.get()) is not None:
            try:
                task()
            except Exception:
                # One pod's trouble must not end the care for all others.
                LOG.exception("the kubelet's task failed")

    def _pods_changed(self, events: Iterable[Event]) -> None:
        newest = {pod_key(event.object): event for event in events}
        added: list[JsonObject] = []
        for key, event in newest.items():
            pod = event.object
            leaving = event.type == "DELETED" or "deletionTimestamp" in pod["metadata"]
            if leaving:
                self._waiting.pop(key, None)
            if leaving and key in self._known:
                if key not in self._ending:
                    self._ending.add(key)
                    self._readiness.forget(key)
                    self._enders.submit(self._end, key, pod)
            elif leaving and key not in self._ending:
                self._failed.pop(key, None)
                self._forget(pod)
            elif not leaving and key in self._ending:
                self._waiting[key] = pod  # another pod by the name of the one that is being ended
            elif not leaving and key not in self._known and key not in self._failed and _is_placed(pod):
                added.append(pod)
        self._add_all(added)

    def _add_all(self, pods: Iterable[JsonObject]) -> None:
        by_node: dict[str, list[JsonObject]] = defaultdict(list)
        held = {network.pod_ip for key in self._ending if (network := self._known[key]) is not None}
        for pod in pods:
            network = pod_network(pod)
            if network is not None and network.pod_ip in held:
                self._waiting[pod_key(pod)] = pod
            else:
                by_node[pod["spec"]["nodeName"]].append(pod)
        for node_name, group in by_node.items():
            self._add(self._with.nodes[node_name], group)

    def _add(self, node: NodeNetwork, pods: list[JsonObject]) -> None:
        attached = {pod_key(pod): network for pod in pods if (network := pod_network(pod)) is not None}
        try:
            if attached:
                self._with.wiring.add_pods(node, list(attached.values()))
                self._with.switches[node.name].add_ports({pod.interface: pod.of_port for pod in attached.values()})
        except RunError as error:
            self._with.wiring.remove_pods(node, list(attached.values()))
            for pod in pods:
                self._fail(pod, str(error))
            return
        for pod in pods:
            key = pod_key(pod)
            place = self._with.places[pod_reference(pod)] = pod_place(pod, self._with.config)
            self._known[key] = attached.get(key)
            if key in attached:
                add_pod(self._with.net, attached[key], node, place)
            try:
                self._with.containers.start_pod(pod, place)
            except RunError as error:
                self._fail(pod, str(error))
                continue
            self._started(pod)

    def _started(self, pod: JsonObject) -> None:
        key = pod_key(pod)
        node_name = pod["spec"]["nodeName"]
        if has_probe(pod):
            self._readiness.watch(key, pod, node_name, self._with.places[pod_reference(pod)])
        self._report(pod, ready=not has_probe(pod))

    def _fail(self, pod: JsonObject, reason: str) -> None:
        LOG.error("pod %s: %s", pod_key(pod), reason)
        self._failed[pod_key(pod)] = reason
        self._patch(pod, {"phase": "Failed", "message": reason, "conditions": _conditions(False)})

    def _report_ready(self, key: str, ready: bool) -> None:
        if key in self._known and key not in self._ending:
            namespace, name = key.split("/", 1)
            self._report({"metadata": {"namespace": namespace, "name": name}}, ready)

    def _report(self, pod: JsonObject, ready: bool) -> None:
        self._patch(pod, {"phase": "Running", "conditions": _conditions(ready)})

    def _patch(self, pod: JsonObject, status: JsonObject) -> None:
        with suppress(NotFound):  # deleted meanwhile
            self._store.patch(POD, object_name(pod), {"status": status}, object_namespace(pod))

    def _end(self, key: str, pod: JsonObject) -> None:
        """In a thread of its own: a program may take its time to end."""
        self._with.containers.stop_pod(key)
        self._happened.put(lambda: self._ended(key, pod))

    def _ended(self, key: str, pod: JsonObject) -> None:
        network = self._known.pop(key)
        place = self._with.places.pop(pod_reference(pod))
        if network is not None and not uses_host_network(pod):
            node = self._with.nodes[network.node_name]
            remove_pod(self._with.net, network, node)
            self._with.switches[node.name].delete_ports([network.interface])
            self._with.wiring.remove_pods(node, [network])
        place.remove()
        self._failed.pop(key, None)
        self._forget(pod)
        self._ending.discard(key)
        waiting, self._waiting = self._waiting, {}
        self._add_all([pod for pod in waiting.values() if _is_placed(pod)])

    def _forget(self, pod: JsonObject) -> None:
        name, namespace = object_name(pod), object_namespace(pod)
        with suppress(NotFound):  # it was deleted at once
            if self._store.get(POD, name, namespace)["metadata"]["uid"] == pod["metadata"]["uid"]:
                self._store.delete(POD, name, namespace, grace_period_s=0)


def _is_placed(pod: JsonObject) -> bool:
    return bool(pod["spec"].get("nodeName") and pod.get("status", {}).get("podIP"))


def _conditions(ready: bool) -> list[JsonObject]:
    """The Pod conditions that others act on (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    status = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return [
        {"type": kind, "status": "True" if value else "False", "lastTransitionTime": now}
        for kind, value in status.items()
    ]
