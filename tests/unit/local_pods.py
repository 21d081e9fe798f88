"""Pods without namespaces, for tests of the API's streams: real processes, files and sockets of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from testbed.cluster.pod_access import Console
from testbed.cluster.status import BadRequest


class Program(subprocess.Popen):
    """A program in a session of its own, all of which ends with it."""

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class LocalPods:
    """Answers for every pod that is asked for; ``started`` are the programs that were started in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Program] = []
        self.containers: dict[str, subprocess.Popen] = {}
        self.consoles: dict[str, Console] = {}
        self.times: list[tuple[int, float]] = []

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
    ) -> Program:
        if shutil.which(argv[0]) is None:
            raise FileNotFoundError(2, "no such file or directory", argv[0])
        command = ["setsid", "--ctty", *argv] if terminal else argv
        program = Program(command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=not terminal)
        self.started.append(program)
        return program

    def run(self, pod: str, argv: Sequence[str]) -> subprocess.Popen:
        """Start the container of a pod."""
        with self.log("default", pod, "main", previous=False).open("ab") as log:
            self.containers[pod] = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self.containers[pod]

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path:
        path = self.folder / f"{pod}_{container}{'.previous' if previous else ''}.log"
        if previous and not path.exists():
            raise BadRequest(f'previous terminated container "{container}" in pod "{pod}" not found')
        path.touch()
        return path

    def log_times(self, namespace: str, pod: str, container: str, *, previous: bool) -> Sequence[tuple[int, float]]:
        return self.times or [(0, time.time())]

    def console(self, namespace: str, pod: str, container: str) -> Console | None:
        return self.consoles.get(pod)

    def is_running(self, namespace: str, pod: str, container: str) -> bool:
        return pod not in self.containers or self.containers[pod].poll() is None

    def connect(self, namespace: str, pod: str, number: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", number), timeout=5)
