"""Notices when a component of the cluster dies, tells it as an Event, and starts the component again.

Components are the processes that everything else relies on and that are in no pod: the controller, the kernel Service
proxies, and every node's ovsdb-server and ovs-vswitchd. (A pod's containers are its kubelet's to restart.) The kernel
tells of a process's end by its descriptor (pidfd_open(2)), so nothing is polled.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from testbed.cluster import identity
from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import CONFIG_MAP, NODE, SERVICE, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import NotFound
from testbed.cluster.store import Store
from testbed.errors import RunError
from testbed.network import openvswitch
from testbed.network.api_process import ApiProcess
from testbed.network.openvswitch import VSwitch

if TYPE_CHECKING:
    from testbed.network.testbed import Testbed

LOG = logging.getLogger(__name__)

DIED, RESTARTED, GIVEN_UP = "ComponentDied", "ComponentRestarted", "ComponentGivenUp"
# The first restart is at once; then it waits, twice as long after each death. After so many within the span, a restart
# will not help, and the log of the component is to be looked at.
_FIRST_WAIT_S, _MOST_DEATHS, _SPAN_S = 0.5, 6, 60.0


@dataclass(frozen=True)
class Component:
    """One process. ``kind``, ``object_name`` and ``namespace`` say which object its Events are about; ``pid`` gives the
    process id (None while it is not meant to run); ``has_died`` tells a death from an intended end."""

    name: str
    log: str
    kind: Kind
    object_name: str
    namespace: str
    pid: Callable[[], int | None]
    has_died: Callable[[], bool]
    restart: Callable[[], None]


@dataclass
class _Care:
    """What is known of a component: its process's descriptor, its latest deaths, and when it is to be restarted."""

    descriptor: int | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_DEATHS))
    restart_at: float | None = None
    given_up: bool = False


class Supervisor:
    """Watches components in a thread of its own. A context manager, inside that of the cluster.

    ``processes`` are those among them that are started and stopped on purpose, too. ``first_wait_s``: how long a
    component that dies for the second time is left alone; then it is twice as long each time.
    """

    def __init__(
        self,
        store: Store,
        components: Sequence[Component],
        processes: Sequence[ApiProcess],
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        self._store, self._events = store, EventRecorder(store, "supervisor")
        self._processes, self._first_wait_s = processes, first_wait_s
        self._on_start: dict[ApiProcess, Callable[[], None]] = {}
        self._care = {component: _Care() for component in components}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        for process in self._processes:
            self._on_start[process] = process.on_start
            process.on_start = partial(self._started, process.on_start)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process, on_start in self._on_start.items():
            process.on_start = on_start
        self._stopping = True
        self._look_again()
        self._thread.join()
        for care in self._care.values():
            self._forget(care)
        os.close(self._wake)

    def _look_again(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _started(self, on_start: Callable[[], None]) -> None:
        """A process has been started: it is to be watched from now on, beside what else follows from it."""
        on_start()
        self._look_again()

    def _run(self) -> None:
        while not self._stopping:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            watched = {}
            for component, care in self._care.items():
                self._open(component, care)
                if care.descriptor is not None:
                    poll.register(care.descriptor, select.POLLIN)
                    watched[care.descriptor] = component
            due = [care.restart_at for care in self._care.values() if care.restart_at is not None]
            timeout_ms = max(0.0, min(due) - time.monotonic()) * 1e3 if due else None
            for descriptor, _ in poll.poll(timeout_ms):
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._ended(watched[descriptor])
            for component, care in self._care.items():
                if care.restart_at is not None and time.monotonic() >= care.restart_at and not self._stopping:
                    self._restart(component, care)

    def _open(self, component: Component, care: _Care) -> None:
        """Have a descriptor of a component's process, if it is meant to run."""
        if care.descriptor is not None or care.restart_at is not None or care.given_up:
            return
        try:
            pid = component.pid()
            if pid is not None:
                care.descriptor = os.pidfd_open(pid)
        except (OSError, ValueError):  # it has ended already, perhaps before it could write its process id
            self._died(component, care)

    @staticmethod
    def _forget(care: _Care) -> None:
        if care.descriptor is not None:
            os.close(care.descriptor)
            care.descriptor = None

    def _ended(self, component: Component) -> None:
        care = self._care[component]
        self._forget(care)
        if component.has_died():
            self._died(component, care)

    def _died(self, component: Component, care: _Care) -> None:
        now = time.monotonic()
        care.deaths.append(now)
        recent = [death for death in care.deaths if now - death < _SPAN_S]
        self._tell(component, DIED, f"{component.name} has ended; its log in the box is {component.log}")
        if len(recent) == _MOST_DEATHS:
            care.given_up = True
            text = f"{component.name} has ended {len(recent)} times within {now - recent[0]:.0f} s and is left as it is"
            self._tell(component, GIVEN_UP, f"{text}; its log in the box is {component.log}")
        else:
            wait_s = 0.0 if len(recent) == 1 else self._first_wait_s * 2 ** (len(recent) - 2)
            care.restart_at = now + wait_s

    def _restart(self, component: Component, care: _Care) -> None:
        care.restart_at = None
        began = time.monotonic()
        try:
            component.restart()
        except Exception as error:
            # Whatever it is, the others are still to be watched.
            LOG.error("%s cannot be started again: %s", component.name, error, exc_info=not isinstance(error, RunError))
            self._died(component, care)
            return
        took_ms = (time.monotonic() - began) * 1e3
        LOG.warning("%s was started again in %.0f ms", component.name, took_ms)
        self._tell(component, RESTARTED, f"{component.name} was started again")

    def _tell(self, component: Component, reason: str, message: str) -> None:
        involved: JsonObject = {
            "apiVersion": component.kind.api_version,
            "kind": component.kind.name,
            "metadata": {"name": component.object_name, "namespace": component.namespace},
        }
        with suppress(NotFound):  # with its uid, `kubectl describe` finds the Event
            involved = self._store.get(component.kind, component.object_name, component.namespace)
        self._events.record(involved, "Normal" if reason == RESTARTED else "Warning", reason, message)


def supervised(testbed: Testbed) -> Supervisor:
    """The supervisor of a cluster."""
    components = [
        of_process(testbed.controller, identity.STATUS_NAME),
        of_process(testbed.proxy, identity.PROXY_STATUS_NAME),
    ]
    for switch in testbed.switches.values():
        components.append(_of_switch(switch, "ovsdb-server", openvswitch.DATABASE_PID_FILE, testbed))
        components.append(_of_switch(switch, "ovs-vswitchd", openvswitch.DAEMON_PID_FILE, testbed))
    processes = [testbed.controller, testbed.proxy]
    if testbed.api_front is not None:
        components.append(_of_front(testbed.api_front))
        processes.append(testbed.api_front)
    return Supervisor(testbed.store, components, processes)


def of_process(process: ApiProcess, status_name: str) -> Component:
    """A client of the API as a component; its Events are about the ConfigMap in which it reports."""

    def pid() -> int | None:
        try:
            return process.pid
        except RunError:
            return None  # it has not been started, or has been stopped

    return Component(
        process.name,
        str(process.log),
        CONFIG_MAP,
        status_name,
        identity.STATUS_NAMESPACE,
        pid=pid,
        has_died=lambda: process.has_died,
        restart=process.revive,
    )


def _of_front(front: ApiProcess) -> Component:
    """The API's front; its Events are about the Service that stands for the API."""
    return replace(of_process(front, ""), kind=SERVICE, object_name="kubernetes", namespace="default")


def _of_switch(switch: VSwitch, program: str, pid_file: str, testbed: Testbed) -> Component:
    def restart() -> None:
        if program == "ovsdb-server":
            openvswitch.restart_database(switch)
        else:
            openvswitch.restart_daemon(switch, testbed.datapath)

    return Component(
        f"{program} of {switch.node_name}",
        str(switch.directory / f"{pid_file.removesuffix('.pid')}.log"),
        NODE,
        switch.node_name,
        "",
        pid=lambda: int((switch.directory / pid_file).read_text()),
        has_died=lambda: True,  # nobody stops it while the cluster runs
        restart=restart,
    )
