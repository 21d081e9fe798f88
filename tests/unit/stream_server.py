"""A cluster API with one pod, whose programs run on this machine, for the tests of its streams."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testbed.apiserver.server import ApiServer
from testbed.cluster.store import Store
from tests.kubectl import kubectls
from tests.unit.cluster_objects import pod
from tests.unit.local_pods import LocalPods


def _kubectl_ways() -> list[object]:
    """Every kubectl. Those from 1.30 on prefer WebSocket, and speak SPDY if they are told to; older ones always do."""
    newest, *others = kubectls()
    ways = [pytest.param((newest, "true"), id="websocket"), pytest.param((newest, "false"), id="spdy")]
    return ways + [pytest.param((program, "true"), id=f"other{number}") for number, program in enumerate(others)]


KUBECTL_WAYS = _kubectl_ways()


def kubectl_environment(websockets: str) -> dict[str, str]:
    """The variables for a kubectl that is given the server's URL."""
    names = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS")
    return {**os.environ, "KUBECONFIG": "/dev/null", **dict.fromkeys(names, websockets)}


class Served:
    """The server's port, its pods, and the store with the pod ``web``, which has the container ``main``."""

    def __init__(self, server: ApiServer, pods: LocalPods) -> None:
        self.server, self.pods, self.port, self.url = server, pods, server.tcp_port, server.url


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    store = Store()
    wire = pod("web", nodeName="n1", containers=[{"name": "main", "image": "busybox"}])
    store.create({**wire, "status": {"phase": "Running", "podIP": "10.244.0.2"}})
    pods = LocalPods(tmp_path)
    with ApiServer(store, socket.create_server(("127.0.0.1", 0)), pods=pods) as server:
        yield Served(server, pods)
    for program in [*pods.started, *pods.containers.values()]:
        if program.poll() is None:
            program.kill()
            program.wait()


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def resources() -> set[tuple[str, str]]:
    """The threads and open files of this process: afterwards there should be none that were not there before."""
    found = {("thread", str(thread.ident)) for thread in threading.enumerate()}
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.add((fd.name, str(fd.readlink())))
    return found
