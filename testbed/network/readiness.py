"""Readiness probes of containers: whether a pod may be given connections, asked from its node as a kubelet asks.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from testbed.cluster.objects import JsonObject
from testbed.network import netns
from testbed.network.place import Place

# Programs here are up in milliseconds, not in the seconds that pulling and starting a container takes, so until the
# first success the question is put more often than Kubernetes' shortest period, which is a second.
_UNTIL_READY_S = 0.1
_WORKERS = 4
_SILENT = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

Told = Callable[[str, bool], None]
Ask = Callable[[float], bool]  # within so many seconds


@dataclass
class _Probe:
    """One container's probe, and how its answers stand."""

    key: str
    container: str
    ask: Ask
    period_s: float
    timeout_s: float
    successes_needed: int
    failures_needed: int
    ready: bool = False
    has_been_ready: bool = False
    streak: int = 0
    gone: bool = False

    def take(self, answer: bool) -> bool:
        """Count an answer; whether ``ready`` has changed by it."""
        if answer == self.ready:
            self.streak = 0
            return False
        self.streak += 1
        if self.streak < (self.successes_needed if answer else self.failures_needed):
            return False
        self.ready, self.streak = answer, 0
        self.has_been_ready = self.has_been_ready or answer
        return True


@dataclass(order=True)
class _Turn:
    due: float
    number: int
    probe: _Probe = field(compare=False)


class Readiness:
    """Asks the probes of all pods; ``told`` (key of the pod, ready) hears of every change, from some thread."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._changed = threading.Condition()
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._by_pod: dict[str, list[_Probe]] = {}
        self._ended = False
        self._workers = ThreadPoolExecutor(_WORKERS, "readiness")
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        self._workers.shutdown()

    def watch(self, key: str, pod: JsonObject, node_namespace: str, place: Place) -> None:
        """Begin to ask the probes of a pod that has any."""
        probes = list(_probes(key, pod, node_namespace, place))
        with self._changed:
            self._by_pod[key] = probes
            for probe in probes:
                delay_s = _container(pod, probe.container)["readinessProbe"].get("initialDelaySeconds", 0)
                self._schedule(probe, delay_s)
            self._changed.notify()

    def forget(self, key: str) -> None:
        """Stop asking a pod."""
        with self._changed:
            for probe in self._by_pod.pop(key, ()):
                probe.gone = True

    def _schedule(self, probe: _Probe, delay_s: float) -> None:
        heapq.heappush(self._turns, _Turn(time.monotonic() + delay_s, next(self._numbers), probe))

    def _run(self) -> None:
        with self._changed:
            while not self._ended:
                now = time.monotonic()
                while self._turns and self._turns[0].due <= now:
                    turn = heapq.heappop(self._turns)
                    if not turn.probe.gone:
                        self._workers.submit(self._ask, turn.probe)
                self._changed.wait(self._turns[0].due - now if self._turns else None)

    def _ask(self, probe: _Probe) -> None:
        answer = probe.ask(probe.timeout_s)
        with self._changed:
            if probe.gone or self._ended:
                return
            before = all(other.ready for other in self._by_pod[probe.key])
            probe.take(answer)
            after = all(other.ready for other in self._by_pod[probe.key])
            self._schedule(probe, probe.period_s if probe.has_been_ready else min(probe.period_s, _UNTIL_READY_S))
            self._changed.notify()
        if before != after:
            self._told(probe.key, after)


def has_probe(pod: JsonObject) -> bool:
    """Whether any container says when it is ready."""
    return any("readinessProbe" in container for container in pod["spec"].get("containers", ()))


def _container(pod: JsonObject, name: str) -> JsonObject:
    return next(entry for entry in pod["spec"]["containers"] if entry["name"] == name)


def _probes(key: str, pod: JsonObject, node_namespace: str, place: Place) -> Iterator[_Probe]:
    pod_ip = pod["status"]["podIP"]
    for container in pod["spec"].get("containers", ()):
        wanted = container.get("readinessProbe")
        if wanted is None:
            continue
        if "httpGet" in wanted:
            ask = _http_get(node_namespace, pod_ip, container, wanted["httpGet"])
        elif "tcpSocket" in wanted:
            ask = _tcp_socket(node_namespace, pod_ip, container, wanted["tcpSocket"])
        else:
            ask = _exec(place, wanted["exec"]["command"])
        yield _Probe(
            key,
            container["name"],
            ask,
            period_s=wanted.get("periodSeconds", 10),
            timeout_s=wanted.get("timeoutSeconds", 1),
            successes_needed=wanted.get("successThreshold", 1),
            failures_needed=wanted.get("failureThreshold", 3),
        )


def _number(container: JsonObject, named_or_number: int | str) -> int:
    """A container's port by number or by its name."""
    if isinstance(named_or_number, int):
        return named_or_number
    return next(int(entry["containerPort"]) for entry in container["ports"] if entry.get("name") == named_or_number)


def _http_get(node_namespace: str, pod_ip: str, container: JsonObject, wanted: Mapping[str, Any]) -> Ask:
    target_port = _number(container, wanted["port"])
    headers = {entry["name"]: entry["value"] for entry in wanted.get("httpHeaders") or ()}

    def ask(timeout_s: float) -> bool:
        with netns.entered(node_namespace):
            connection = http.client.HTTPConnection(wanted.get("host", pod_ip), target_port, timeout=timeout_s)
            try:
                connection.request("GET", wanted.get("path", "/"), headers=headers)
                return 200 <= connection.getresponse().status < 400
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()

    return ask


def _tcp_socket(node_namespace: str, pod_ip: str, container: JsonObject, wanted: Mapping[str, Any]) -> Ask:
    target_port = _number(container, wanted["port"])

    def ask(timeout_s: float) -> bool:
        with netns.entered(node_namespace):
            connection = http.client.HTTPConnection(wanted.get("host", pod_ip), target_port, timeout=timeout_s)
            try:
                connection.connect()
                return True
            except OSError:
                return False
            finally:
                connection.close()

    return ask


def _exec(place: Place, command: list[str]) -> Ask:
    def ask(timeout_s: float) -> bool:
        try:
            process = place.popen(command, **_SILENT)
        except OSError:
            return False
        try:
            return process.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False

    return ask
