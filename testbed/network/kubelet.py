"""The kubelets of all nodes in one: pods that appear in the store are wired and run, those deleted are ended.

It follows the store, like a kubelet its API server: a Pod that has a node and an address is wired, its containers are
started and kept as it asks, and what becomes of them is written into its status; one that is being deleted is ended,
unwired, and then removed for good. One thread does everything, and writes once for whatever has happened meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from testbed.cluster.api_service import is_api_service
from testbed.cluster.events import EventRecorder, EventType
from testbed.cluster.kinds import CONFIG_MAP, NODE, POD, SECRET, SERVICE, Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key, resource_version
from testbed.cluster.status import Conflict, Expired, NotFound
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
from testbed.network.pods.environment import service_variables
from testbed.network.pods.host_ports import HostPort, apply_host_ports, host_ports
from testbed.network.pods.lifecycle import BACKOFF_BASE_S, Waiting
from testbed.network.pods.probes import Prober, Verdict
from testbed.network.pods.runner import Attached, PodRunner
from testbed.network.pods.status import failed_status
from testbed.network.pods.volumes import referenced
from testbed.network.supervisor import DIED, RESTARTED
from testbed.network.wiring import Wiring
from testbed.spec.endpoints import EndpointRef, pod_reference

LOG = logging.getLogger(__name__)

_FOLLOWED = (POD, CONFIG_MAP, SECRET)
_START_S = 120.0
# The parent of all processes is started again at once, then after so long, and twice as long after each further death.
_REVIVE_EVERY_S, _DEATHS_WITHIN_S, _MOST_DEATHS = 0.5, 60.0, 6
_LONGEST_WAIT_S = 3600.0  # what is due in a million years is no number for the system
_MOST_SERVICES = 100  # of a namespace, for the variables that Services make


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


@dataclass(order=True)
class _Timer:
    due: float
    number: int
    act: Callable[[], None] = field(compare=False)


class Kubelet:
    """Runs the pods; ``start`` takes over those that the builder has wired already.

    ``backoff_base_s`` is the first wait before a container that keeps ending is started again.
    """

    def __init__(self, store: Store, machinery: Machinery, *, backoff_base_s: float = BACKOFF_BASE_S) -> None:
        self._store, self._with = store, machinery
        self.backoff_base_s, self.containers = backoff_base_s, machinery.containers
        self.events = EventRecorder(store, "kubelet")
        self.prober = Prober(self._verdict, self._run_probe)
        self._happened: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self._pods: dict[str, PodRunner] = {}
        self._touched: dict[PodRunner, None] = {}
        self._failed: dict[str, tuple[str, str]] = {}  # uids and reasons
        self._arrived: dict[
            str, JsonObject
        ] = {}  # to be made, some when a pod has ended that has their name or address
        self._users: dict[tuple[str, str, str], set[str]] = defaultdict(set)  # of a ConfigMap or Secret, keys of pods
        self._host_ports: dict[str, dict[str, list[HostPort]]] = defaultdict(dict)  # by node and key of the pod
        self._service_variables: dict[str, tuple[int, dict[str, str]]] = {}
        self._silent: set[str] = set()  # nodes whose kubelet is cut off
        self._unheard: dict[tuple[str, str], Event] = {}  # by node and key, of their pods: what came last meanwhile
        self._watch: Watch | None = None
        self._stopping = False
        self._parent_deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
        self._begun = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="kubelet", daemon=True),
            threading.Thread(target=self._follow, name="kubelet-watch", daemon=True),
        ]

    @property
    def is_running(self) -> bool:
        """Whether it follows the store and cares for pods."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def failures(self) -> list[str]:
        """Pods that could not be made, and containers that cannot be started, and why."""
        texts = [f"{key}: {reason}" for key, (_, reason) in sorted(self._failed.items())]
        for key, runner in sorted(self._pods.copy().items()):
            for run in runner.runs:
                if isinstance(run.state, Waiting) and run.state.message:
                    texts.append(f"{key}/{run.name}: {run.state.reason}: {run.state.message}")
        return texts

    def start(self) -> None:
        """Run the pods that are wired, then follow the store. Returns when each of them was tried to be started."""
        listed = self._store.list(POD)
        wired = [pod for pod in listed.items if _is_placed(pod)]
        self.containers.lost = lambda: self.post(self._parent_lost)
        self.prober.start()
        for pod in wired:
            self._take(pod, Attached(pod_network(pod), self._with.places[pod_reference(pod)]))
        self._watch = self._store.watch(_FOLLOWED, listed.resource_version)
        for thread in self._threads:
            thread.start()
        if wired:
            self._begun.wait(_START_S)

    def stop(self) -> None:
        """Follow the store no longer. The pods stay as they are."""
        if self._watch is None:
            return
        self._stopping = True
        self._watch.close()
        self._happened.put(None)
        for thread in self._threads:
            thread.join()
        self.prober.stop()

    def settled(self) -> bool:
        """Whether every pod that has a node is as the store wants it (readiness aside), or cannot be.

        Pods of silent nodes are not waited for.
        """
        for pod in self._store.list(POD).items:
            if pod["spec"].get("nodeName") in self._silent:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                return False
            key = pod_key(pod)
            if _is_placed(pod) and not self._has_failed(pod):
                runner = self._pods.get(key)
                if runner is None or not runner.settled:
                    return False
        return not any(
            runner.stage in ("ending", "ended") and runner.node_name not in self._silent
            for runner in list(self._pods.values())
        )

    # -- nodes that are cut off ----------------------------------------------------------------------------------

    def silence(self, node_name: str) -> None:
        """The kubelet of a node neither hears nor says anything from now on; its pods go on as they are."""
        self._silent.add(node_name)

    def resume(self, node_name: str) -> None:
        """It hears what it has missed, and reports its pods."""
        self._silent.discard(node_name)
        self.post(lambda: self._hear(node_name))

    def _hear(self, node_name: str) -> None:
        missed = {key: event for (node, key), event in self._unheard.items() if node == node_name}
        for key in missed:
            del self._unheard[node_name, key]
        for runner in self._pods.values():
            if runner.node_name == node_name:
                self.touched(runner)
        self._pods_changed(missed)

    # -- what pods need ------------------------------------------------------------------------------------------

    def post(self, act: Callable[[], None]) -> None:
        """Do something in the kubelet's thread, soon."""
        self._happened.put(act)

    def at(self, due: float, act: Callable[[], None]) -> None:
        """Do something in the kubelet's thread at a time (of the monotonic clock). Called in that thread."""
        heapq.heappush(self._timers, _Timer(due, next(self._numbers), act))

    def touched(self, runner: PodRunner) -> None:
        """Look at a pod again before the next wait. Called in the kubelet's thread."""
        runner.settled = False
        self._touched[runner] = None

    def lookup(self, namespace: str, kind: Kind, name: str) -> JsonObject | None:
        """An object of the store; None when there is none."""
        try:
            return self._store.get(kind, name, namespace)
        except NotFound:
            return None

    def service_variables(self, namespace: str) -> dict[str, str]:
        """The variables that say where a namespace's Services are, and the API; none where there are very many."""
        version = self._store.newest_versions([SERVICE])[SERVICE.name]
        known = self._service_variables.get(namespace)
        if known is None or known[0] != version:
            services = self._store.list(
                SERVICE, lambda wire: object_namespace(wire) == namespace or is_api_service(wire)
            ).items
            variables = service_variables(services) if len(services) <= _MOST_SERVICES else {}
            known = self._service_variables[namespace] = version, variables
        return known[1]

    # -- the thread ----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        assert self._watch is not None
        while not self._stopping:
            try:
                events: Sequence[Event] = self._watch.next()
            except Expired:  # more changes at once than the store keeps
                events = self._all_anew()
            if events:
                self._happened.put(lambda events=events: self._objects_changed(events))  # type: ignore[misc]

    def _all_anew(self) -> list[Event]:
        """Everything as it is now, and what has gone, for one who has missed changes."""
        objects, watch = self._store.follow(_FOLLOWED)
        before, self._watch = self._watch, watch
        if before is not None:
            before.close()
        if self._stopping:
            watch.close()
        there = {_uid(wire) for wire in objects}
        gone = [runner.pod for runner in self._pods.copy().values() if runner.uid not in there]
        at = {"resourceVersion": str(watch.resource_version)}
        events = [Event("DELETED", {**pod, "metadata": {**pod["metadata"], **at}}) for pod in gone]
        return events + [Event("MODIFIED", wire) for wire in objects]

    def _run(self) -> None:
        self._look_at_touched()
        while True:
            for task in self._next_tasks():
                if task is None:
                    return
                self._attempt(task)
            self._attempt(self._add_arrived)
            self._look_at_touched()

    def _next_tasks(self) -> list[Callable[[], None] | None]:
        """What has happened, and what is due; waits for the first of it."""
        tasks: list[Callable[[], None] | None] = []
        with suppress(queue.Empty):
            wait_s = max(0.0, self._timers[0].due - time.monotonic()) if self._timers else _LONGEST_WAIT_S
            tasks.append(self._happened.get(timeout=0.0 if self._touched else min(wait_s, _LONGEST_WAIT_S)))
            while True:
                tasks.append(self._happened.get_nowait())
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now:
            tasks.append(heapq.heappop(self._timers).act)
        return tasks

    @staticmethod
    def _attempt(task: Callable[[], None]) -> None:
        try:
            task()
        except Exception:
            # One pod's trouble must not end the care for all others.
            LOG.exception("the kubelet's task failed")

    def _look_at_touched(self) -> None:
        """Let every pod that something has happened to do what follows, then write what has become of it."""
        touched, self._touched = self._touched, {}
        ended = []
        for runner in touched:
            if self._pods.get(runner.key) is not runner:
                continue  # a late word about a pod that has gone; there may be another by its name
            self._attempt(runner.work)
            if runner.stage == "ended":
                ended.append(runner)
            elif runner not in self._touched and (runner.settled or runner.is_settled):
                # What is under way will be heard of soon, and is written then.
                self._attempt(lambda runner=runner: self._report(runner))  # type: ignore[misc]
                runner.settled = runner not in self._touched
        if ended:
            self._attempt(lambda: self._unwire(ended))
        if not self._begun.is_set() and all(runner.settled for runner in self._pods.values()):
            self._begun.set()

    # -- pods that come ------------------------------------------------------------------------------------------

    def _objects_changed(self, events: Iterable[Event]) -> None:
        newest: dict[str, Event] = {}
        for event in events:
            if event.object["kind"] == POD.name:
                newest[pod_key(event.object)] = event
                continue
            wire = event.object
            for key in self._users.get((wire["kind"], object_namespace(wire), object_name(wire)), ()):
                if key in self._pods:
                    self._attempt(self._pods[key].sources_changed)
        self._pods_changed(newest)

    def _pods_changed(self, newest: Mapping[str, Event]) -> None:
        for key, event in newest.items():
            self._attempt(lambda key=key, event=event: self._newest_of(key, event))  # type: ignore[misc]

    def _newest_of(self, key: str, event: Event) -> None:
        pod, runner = event.object, self._pods.get(key)
        if _node_of(pod) in self._silent:
            self._unheard[_node_of(pod), key] = event
            return
        known = self._arrived.get(key) or (runner.pod if runner is not None else None)
        if known is not None and resource_version(pod) < resource_version(known):
            return  # older than what the kubelet has written itself, or missed by a node that was silent
        self._arrived.pop(key, None)
        if runner is not None and runner.uid == _uid(pod):
            self._pod_changed(runner, event)
            return
        if runner is not None:
            runner.end(0.0)  # another pod has its name
        if event.type == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            if self._has_failed(pod):
                del self._failed[key]
            self._forget(pod)
        elif not self._has_failed(pod) and _is_placed(pod):
            self._arrived[key] = pod

    @staticmethod
    def _pod_changed(runner: PodRunner, event: Event) -> None:
        pod = event.object
        if event.type == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            gone = event.type == "DELETED"
            runner.pod = pod
            runner.end(0.0 if gone else float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
        else:
            runner.changed(pod)

    def _has_failed(self, pod: JsonObject) -> bool:
        """Whether this very pod could not be made."""
        return self._failed.get(pod_key(pod), ("", ""))[0] == _uid(pod)

    def _add_arrived(self) -> None:
        """Wire the pods that have come, all of a node's at once: what takes time is each change to a bridge."""
        if not self._arrived:
            return
        by_node: dict[str, list[JsonObject]] = defaultdict(list)
        ending = [
            runner.network
            for runner in self._pods.values()
            if runner.stage in ("ending", "ended") and runner.network is not None
        ]
        held: set[object] = {network.pod_ip for network in ending}
        held |= {(network.node_name, network.of_port) for network in ending}
        for key, pod in list(self._arrived.items()):
            network = pod_network(pod)
            wanted = () if network is None else (network.pod_ip, (network.node_name, network.of_port))
            if key not in self._pods and held.isdisjoint(wanted):
                del self._arrived[key]
                by_node[_node_of(pod)].append(pod)
        for node_name, group in by_node.items():
            self._attempt(lambda node_name=node_name, group=group: self._add(self._with.nodes[node_name], group))  # type: ignore[misc]

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
            network = attached.get(pod_key(pod))
            node_place = self._with.places[EndpointRef("node", "", node.name)]
            place = self._with.places[pod_reference(pod)] = pod_place(pod, self._with.config, node_place)
            if network is not None:
                add_pod(self._with.net, network, node, place)
            self._take(pod, Attached(network, place))

    def _take(self, pod: JsonObject, attached: Attached) -> None:
        """Run a pod that is wired."""
        runner = PodRunner(pod, attached, self)
        self._pods[runner.key] = runner
        self._failed.pop(runner.key, None)
        for kind, name in referenced(pod):
            self._users[kind.name, object_namespace(pod), name].add(runner.key)
        if ports := host_ports(pod):
            self._host_ports[runner.node_name][runner.key] = ports
            self._apply_host_ports(runner.node_name, pod)
        self.touched(runner)
        self._attempt(runner.work)  # the parent of processes makes these pods' namespaces while others are wired

    def _apply_host_ports(self, node_name: str, pod: JsonObject) -> None:
        by_pod = self._host_ports[node_name]
        try:
            ports = [port for ports in by_pod.values() for port in ports]
            apply_host_ports(node_name, ports, self._with.config.cluster_cidr)
        except (RunError, OSError) as error:
            self.events.record(pod, "Warning", "FailedCreatePodSandBox", f"hostPort: {error}")

    def _fail(self, pod: JsonObject, reason: str) -> None:
        LOG.error("pod %s: %s", pod_key(pod), reason)
        self._failed[pod_key(pod)] = _uid(pod), reason
        self.events.record(pod, "Warning", "FailedCreatePodSandBox", reason)
        self._patch(pod, failed_status(pod, "FailedCreatePodSandBox", reason, time.time()))

    def _report(self, runner: PodRunner) -> None:
        if runner.node_name in self._silent:
            return
        status = runner.status()
        current = runner.pod.get("status") or {}
        if any(current.get(name) != value for name, value in status.items()):
            stored = self._patch(runner.pod, status)
            if stored is not None:
                runner.changed(stored)  # others may have written meanwhile

    def _patch(self, pod: JsonObject, status: JsonObject) -> JsonObject | None:
        patch = {"metadata": {"uid": _uid(pod)}, "status": status}
        with suppress(NotFound, Conflict):  # deleted meanwhile, and perhaps made anew
            return self._store.patch(POD, object_name(pod), patch, object_namespace(pod))
        return None

    # -- what happens to pods ------------------------------------------------------------------------------------

    def _verdict(self, verdict: Verdict) -> None:
        """In the prober's thread."""

        def take() -> None:
            runner = self._runner(verdict.key, verdict.uid)
            if runner is not None and runner.node_name not in self._silent:
                runner.take(verdict)

        self.post(take)

    def _run_probe(
        self, key: str, uid: str, container: str, command: list[str], limit_s: float, done: Callable[[bool, str], None]
    ) -> None:
        """In the prober's thread."""

        def execute() -> None:
            if (runner := self._runner(key, uid)) is not None:
                runner.execute(container, command, limit_s, done)

        self.post(execute)

    def _runner(self, key: str, uid: str) -> PodRunner | None:
        """Of this very pod: another may have its name by now."""
        runner = self._pods.get(key)
        return runner if runner is not None and runner.uid == uid else None

    def _parent_lost(self) -> None:
        """The parent of all pods' processes has died, and all of them with it."""
        self._tell_nodes("Warning", DIED, "the parent of the pods' processes has ended, and all pods with it")
        now = time.monotonic()
        self._parent_deaths.append(now)
        recent = sum(now - death < _DEATHS_WITHIN_S for death in self._parent_deaths)
        if recent == 1:
            self._revive_parent()
        else:
            self.at(now + _REVIVE_EVERY_S * 2 ** (recent - 2), self._revive_parent)

    def _revive_parent(self) -> None:
        try:
            self.containers.revive()
        except OSError as error:
            LOG.error("the parent of the pods' processes cannot be started again: %s", error)
            self.at(time.monotonic() + _REVIVE_EVERY_S, self._revive_parent)
        else:
            self._tell_nodes("Normal", RESTARTED, "the parent of the pods' processes was started again")
            for runner in self._pods.values():
                runner.make_again()  # those that have tried in vain meanwhile

    def _tell_nodes(self, event_type: EventType, reason: str, message: str) -> None:
        for node in self._store.list(NODE).items:
            self.events.record(node, event_type, reason, message)

    # -- pods that go --------------------------------------------------------------------------------------------

    def _unwire(self, runners: list[PodRunner]) -> None:
        """Remove pods that have ended: from the bridges, from Mininet's view, from the kernel, and from the store."""
        by_node: dict[str, list[PodNetwork]] = defaultdict(list)
        for runner in runners:
            del self._pods[runner.key]
            self._with.places.pop(pod_reference(runner.pod), None)
            if runner.network is not None:
                by_node[runner.node_name].append(runner.network)
            if self._host_ports[runner.node_name].pop(runner.key, None):
                self._apply_host_ports(runner.node_name, runner.pod)
            for users in self._users.values():
                users.discard(runner.key)
        for node_name, networks in by_node.items():
            for network in networks:
                remove_pod(self._with.net, network, self._with.nodes[node_name])
        if by_node:
            # A bridge waits for the kernel with each port that it gives up, for milliseconds; nodes do so side by side.
            with ThreadPoolExecutor(len(by_node), "pods-unwire") as pool:
                list(pool.map(lambda entry: self._unwire_from(*entry), by_node.items()))
        for runner in runners:
            self._attempt(runner.clean_up)
            self._attempt(lambda runner=runner: self._forget(runner.pod))  # type: ignore[misc]
        if self._arrived:
            self.post(lambda: None)  # look at them in the next round

    def _unwire_from(self, node_name: str, networks: list[PodNetwork]) -> None:
        self._attempt(lambda: self._with.switches[node_name].delete_ports([network.interface for network in networks]))
        self._attempt(lambda: self._with.wiring.remove_pods(self._with.nodes[node_name], networks))

    def _forget(self, pod: JsonObject) -> None:
        name, namespace = object_name(pod), object_namespace(pod)
        with suppress(NotFound, Conflict):  # it was deleted at once, and perhaps made anew
            self._store.delete(POD, name, namespace, grace_period_s=0, preconditions={"uid": _uid(pod)})


def _node_of(pod: JsonObject) -> str:
    return str(pod["spec"].get("nodeName") or "")


def _uid(pod: JsonObject) -> str:
    return str(pod["metadata"].get("uid", ""))


def _is_placed(pod: JsonObject) -> bool:
    return bool(pod["spec"].get("nodeName") and pod.get("status", {}).get("podIP"))
