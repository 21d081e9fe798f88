"""Starts the containers of pods: processes in the pod's one network namespace, so that they share localhost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.cluster.objects import JsonObject, object_name, pod_key
from testbed.errors import RunError
from testbed.network.place import Place
from testbed.spec.images import container_argv, container_environment

LOGS = Path("/run/containers")
# How long a process may take to end after SIGTERM before it is killed (the pods' default grace period is longer;
# nothing here has state to save).
_GRACE_S = 2.0


class Containers:
    """The running containers of a cluster. Different pods may be started and stopped by different threads."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def start(self, pods: Iterable[JsonObject], places: Mapping[str, Place]) -> None:
        """Start every container of the given pods; ``places`` is keyed by ``namespace/name``.

        Raises RunError naming each container whose program could not be started.
        """
        LOGS.mkdir(exist_ok=True)
        for pod in pods:
            self.start_pod(pod, places[pod_key(pod)])

    def start_pod(self, pod: JsonObject, place: Place) -> None:
        """Start every container of one pod. Raises RunError as :meth:`start` does."""
        for container in pod["spec"].get("containers", ()):
            argv = container_argv(container)
            if argv is not None:
                self._start(pod, container, argv, place)

    def stop_pod(self, key: str) -> None:
        """End the containers of one pod, as :meth:`stop` does, and return when they have ended."""
        self._stop([entry for entry in list(self._running) if entry[0] == key])

    def _start(self, pod: JsonObject, container: JsonObject, argv: list[str], place: Place) -> None:
        key = (pod_key(pod), container["name"])
        log = self.log(*key)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/root",
            "HOSTNAME": place.hostname,
            **container_environment(container),
        }
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "env": environment}
        with log.open("wb") as output:
            try:
                self._running[key] = place.popen(argv, stdout=output, start_new_session=True, **options)
            except OSError as error:
                raise RunError(f"pod {object_name(pod)}, container {container['name']}: {error}") from error

    @staticmethod
    def log(key: str, container: str) -> Path:
        """The file that holds a container's output."""
        return LOGS / f"{key.replace('/', '_')}_{container}.log"

    def process(self, key: str, container: str) -> subprocess.Popen[bytes]:
        """A container's process. Raises KeyError when the container runs none."""
        return self._running[key, container]

    def exited(self) -> list[str]:
        """Containers whose process has ended with an error, each with its status and last line of output."""
        texts = []
        for (key, container), process in list(self._running.items()):
            if process.poll():
                lines = self.log(key, container).read_text(errors="replace").splitlines()
                texts.append(f"{key}/{container}: status {process.returncode}: {lines[-1] if lines else 'no output'}")
        return texts

    def stop(self) -> None:
        """End every container: SIGTERM, then SIGKILL after a grace period."""
        self._stop(list(self._running))

    def _stop(self, containers: Sequence[tuple[str, str]]) -> None:
        ending = [self._running.pop(entry) for entry in containers]
        for process in ending:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in ending:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
