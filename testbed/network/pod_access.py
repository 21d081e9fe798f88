"""The way into running pods for the API: programs beside a container's own, its log, and a pod's localhost."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from testbed.cluster.kinds import POD
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, NotFound
from testbed.cluster.store import Store
from testbed.network import netns
from testbed.network.containers import Containers
from testbed.network.log_times import LogTimes
from testbed.network.place import Place
from testbed.network.pods.console import Console
from testbed.spec.endpoints import EndpointRef
from testbed.spec.images import find_image

_CONNECT_S = 10.0


class _Program(subprocess.Popen[bytes]):
    """A program that was started by way of nsenter, which leads a session and waits for it; on a terminal the program
    leads a session of its own. To end it is to end both their process groups."""

    def kill(self) -> None:
        children: list[str] = []
        with suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for leader in (*map(int, children), self.pid):
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)


class RunningPods:
    """Implements :class:`testbed.cluster.pod_access.PodAccess` for the pods of a cluster; methods raise as it says."""

    def __init__(
        self, store: Store, places: Mapping[EndpointRef, Place], containers: Containers, times: LogTimes
    ) -> None:
        self._store, self._places, self._containers, self._times = store, places, containers, times

    def start(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal: bool,
    ) -> _Program:
        """Start a program in a container, which has its variables, its files and its working directory."""
        spec = self._container(namespace, pod, container)
        if not self.is_running(namespace, pod, container):
            raise BadRequest(f'container not found ("{container}")')
        key = f"{namespace}/{pod}"
        environment = self._containers.environment(key, container)
        root = Path(f"/proc/{self._containers.process(key, container).pid}/root")
        if not _is_there(argv[0], root, environment.get("PATH", os.defpath)):
            # An image with its own tools (BusyBox) has more of them than the machine.
            image = find_image(str(spec.get("image") or ""))
            if "/" in argv[0] or image is None or not image.prefix:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
            argv = [*image.prefix, *argv]
        if terminal:
            environment.setdefault("TERM", "xterm")
        directory = str(spec.get("workingDir") or "/")
        # In there, so that an interactive shell sees the number of the group that it leads.
        session = ["setsid", "--ctty"] if terminal else []
        command = self._containers.command(key, container, [*session, "env", f"--chdir={directory}", "--", *argv])
        return _Program(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, start_new_session=True)

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path:
        """The file that holds a container's output."""
        self._container(namespace, pod, container)
        path = self._containers.log(f"{namespace}/{pod}", container, previous)
        if path.exists():
            return path
        if previous:
            raise BadRequest(f'previous terminated container "{container}" in pod "{pod}" not found')
        reason = self._waiting_reason(namespace, pod, container)
        raise BadRequest(f'container "{container}" in pod "{pod}" is waiting to start: {reason}')

    def log_times(self, namespace: str, pod: str, container: str, *, previous: bool) -> Sequence[tuple[int, float]]:
        """When the parts of a container's log were written, to a tenth of a second."""
        return self._times.of(self.log(namespace, pod, container, previous=previous))

    def console(self, namespace: str, pod: str, container: str) -> Console | None:
        """The standard input of a container that asks for it (``stdin: true``), and its terminal (``tty: true``)."""
        if not self.is_running(namespace, pod, container):
            raise BadRequest(f'container not found ("{container}")')
        return self._containers.console(f"{namespace}/{pod}", container)

    def is_running(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container's process runs."""
        self._container(namespace, pod, container)
        return self._containers.is_running(f"{namespace}/{pod}", container)

    def connect(self, namespace: str, pod: str, number: int) -> socket.socket:
        """A TCP connection to a port of the pod's localhost."""
        place = self._places.get(EndpointRef("pod", namespace, pod))
        if place is None:
            raise NotFound(f'pods "{pod}" not found')
        with netns.entered(place.namespace):
            connection = socket.socket()
        try:
            connection.settimeout(_CONNECT_S)
            connection.connect(("127.0.0.1", number))
        except OSError:
            connection.close()
            raise
        return connection

    def _container(self, namespace: str, pod: str, container: str) -> JsonObject:
        """A container's part of the pod's specification. Raises NotFound."""
        spec = self._store.get(POD, pod, namespace)["spec"]
        for one in _all(spec, "containers", "initContainers", "ephemeralContainers"):
            if one["name"] == container:
                return one
        raise NotFound(f"container {container} is not valid for pod {pod}")

    def _waiting_reason(self, namespace: str, pod: str, container: str) -> str:
        status = self._store.get(POD, pod, namespace).get("status") or {}
        for one in _all(status, "containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            if one["name"] == container and (waiting := (one.get("state") or {}).get("waiting")):
                return str(waiting.get("reason", ""))
        return "ContainerCreating"


def _all(wire: JsonObject, *names: str) -> Iterable[JsonObject]:
    for name in names:
        yield from wire.get(name) or ()


def _is_there(program: str, root: Path, search_path: str) -> bool:
    """Whether there is such a program below a root directory."""
    places = [""] if "/" in program else search_path.split(":")
    # A link counts, wherever it leads: an absolute one means another file here than inside the pod.
    return any(os.path.lexists(f"{root}{place}/{program}") for place in places)
