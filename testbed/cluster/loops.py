"""The loops that keep a cluster's objects true to each other, in one thread against the store.

As Kubernetes' controllers they are level-triggered: an event only says where to look again. Each round takes in every
change there is, and then each loop writes what does not fit; what it writes comes back as the next round's changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

from testbed.cluster.api_service import ApiServiceLoop
from testbed.cluster.attempt import attempt
from testbed.cluster.binder import Binder
from testbed.cluster.cron_job_loop import CronJobLoop
from testbed.cluster.disruption_loop import DisruptionLoop
from testbed.cluster.endpoints_loop import EndpointsLoop
from testbed.cluster.events import EventRecorder
from testbed.cluster.garbage_loop import GarbageLoop
from testbed.cluster.kinds import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    INGRESS,
    INGRESS_CLASS,
    JOB,
    LEASE,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
)
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.namespace_loop import NamespaceLoop
from testbed.cluster.node_loop import NodeLoop
from testbed.cluster.notice_loop import NoticeLoop
from testbed.cluster.objects import JsonObject
from testbed.cluster.slice_loop import SliceLoop
from testbed.cluster.status import Expired
from testbed.cluster.store import Store, Watch
from testbed.cluster.workload_loop import WorkloadLoop
from testbed.errors import RunError

_log = logging.getLogger(__name__)

# Slices before the pods that they name, and owners before what they keep, so that a restart finds what is there before
# it looks for what is missing. Nothing follows from Events.
_FOLLOWED = (
    *(NAMESPACE, NODE, LEASE, ENDPOINT_SLICE, ENDPOINTS, SERVICE),
    *(DEPLOYMENT, STATEFUL_SET, DAEMON_SET, CRON_JOB, JOB, REPLICA_SET, CONTROLLER_REVISION, POD),
    *(CONFIG_MAP, SECRET, INGRESS_CLASS, INGRESS, NETWORK_POLICY, POD_DISRUPTION_BUDGET),
)


_LONGEST_WAIT_S = 3600.0  # what is due in a million years is no number for the system
_MUCH_S, _MUCH_EACH_S, _LONGEST_PAUSE_S = 0.002, 0.0005, 0.05

_WITH_SPEC = {kind.name for kind in (NODE, SERVICE, DEPLOYMENT, STATEFUL_SET, DAEMON_SET, JOB, REPLICA_SET, POD)}


class Loop(Protocol):
    """Is told what there is, and writes what follows from it."""

    def put(self, wire: JsonObject) -> None:
        """Take in an object as it is now."""

    def remove(self, wire: JsonObject) -> None:
        """Forget an object that was deleted."""

    def work(self) -> None:
        """Write what is to be written, about what has changed since the last time."""

    def due_s(self) -> float | None:
        """When there is something to do though nothing changes, in seconds since the epoch; None: never."""


class Loops:
    """EndpointSlices and Endpoints, the binding of pods, workloads, the state of nodes, and the deletion of what has
    lost its owner or its Namespace. ``clock`` gives seconds since the epoch."""

    def __init__(
        self, store: Store, settings: LoopSettings | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._settings, self._clock = store, settings or LoopSettings(), clock
        # They outlive the loops, which begin anew when they have missed changes.
        self._recorder = cache(lambda component: EventRecorder(store, component))
        self._loops: tuple[Loop, ...] = ()
        self._watch: Watch | None = None
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster-loops", daemon=True)

    def start(self) -> None:
        """Take in the objects that are there, and follow the store from here."""
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """Follow the store no longer. Idempotent."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.close()
            self._thread.join()

    def wait_settled(self, timeout_s: float) -> None:
        """Wait until there is no change that the loops have not dealt with. Raises RunError after ``timeout_s``, and
        when the loops have failed or are stopped."""
        deadline = time.monotonic() + timeout_s
        while True:
            watch = self._watch
            if watch is not None and watch.wait_handled(max(0.0, deadline - time.monotonic())):
                return
            if self._failure is not None:
                raise RunError(f"the cluster's loops have failed: {self._failure!r}") from self._failure
            if watch is None or self._stopping.is_set():
                raise RunError("the cluster's loops do not run")
            if time.monotonic() >= deadline:
                raise RunError(f"the cluster's loops are not done within {timeout_s:g} s")

    def _begin(self) -> None:
        """Start from the objects as they are, forgetting what was known of them."""
        objects, watch = self._store.follow(_FOLLOWED)
        # Slices first: nothing else is waited for as eagerly.
        self._loops = (
            SliceLoop(self._store),
            Binder(self._store, self._recorder),
            GarbageLoop(self._store),
            NamespaceLoop(self._store, self._clock, self._settings),
            WorkloadLoop(self._store, self._recorder, self._clock),
            CronJobLoop(self._store, self._recorder, self._clock),
            NodeLoop(self._store, self._recorder, self._clock, self._settings),
            NoticeLoop(self._recorder),
            DisruptionLoop(self._store, self._clock),
            EndpointsLoop(self._store),
            *([ApiServiceLoop(self._store)] if self._settings.api_service else []),
        )
        for wire in objects:
            self._take("ADDED", wire)
        self._work()
        before, self._watch = self._watch, watch
        if before is not None:
            before.close()
        if self._stopping.is_set():
            watch.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                assert self._watch is not None
                try:
                    events = self._watch.next(self._wait_s())
                except Expired:  # more changes at once than the store keeps
                    self._begin()
                    continue
                started = time.monotonic()
                for event in events:
                    self._take(event.type, event.object)
                self._work()
                self._watch.handled()
                self._pause(time.monotonic() - started, len(events))
        except Exception as error:
            _log.exception("the cluster's loops have failed")
            self._failure = error
            assert self._watch is not None
            self._watch.close()

    def _pause(self, busy_s: float, changes: int) -> None:
        """Where few changes are much work, as in a Service of hundreds of pods that become ready one by one, leave the
        processor to those who report them: what they say meanwhile is one round instead of many."""
        if busy_s > max(_MUCH_S, changes * _MUCH_EACH_S):
            self._stopping.wait(min(_LONGEST_PAUSE_S, 4 * busy_s))

    def _wait_s(self) -> float | None:
        """How long there is nothing to do unless something changes."""
        due = [at for loop in self._loops if (at := loop.due_s()) is not None]
        return min(_LONGEST_WAIT_S, max(0.0, min(due) - self._clock())) if due else None

    def _take(self, event_type: str, wire: JsonObject) -> None:
        whole = wire if "spec" in wire or wire["kind"] not in _WITH_SPEC else {**wire, "spec": {}}
        for loop in self._loops:
            tell = loop.remove if event_type == "DELETED" else loop.put
            attempt(wire, lambda tell=tell: tell(whole))  # type: ignore[misc]

    def _work(self) -> None:
        for loop in self._loops:
            loop.work()
