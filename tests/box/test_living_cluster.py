"""A cluster in the background, as people drive it: with kubectl from outside its box, and with testbed's commands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.box.harness import USERS, as_user
from tests.box.test_command_line import COMMAND, SMOKE_PODS, command, environment, told

pytestmark = pytest.mark.box

_LIMIT_S = 60
# The issue's own deadline for a killed cluster to be gone.
GONE_S = 5.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may write to; what a failing test leaves running is ended."""
    path = Path(tempfile.mkdtemp(prefix="testbed-living-"))
    path.chmod(0o777)
    yield path
    for pid in _processes(path / "runtime"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path)


def clusters(folder: Path, user: str) -> list[dict[str, object]]:
    done = command(user, folder, "ps", "-o", "json")
    assert done.returncode == 0, told(done)
    listed: list[dict[str, object]] = json.loads(done.stdout)["clusters"]
    return listed


def kubectl(user: str, folder: Path, kubeconfig: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o777)
    return subprocess.run(
        as_user(user, ["env", f"HOME={home}", f"KUBECONFIG={kubeconfig}", "kubectl", *arguments]),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def up(user: str, folder: Path, *arguments: str) -> str:
    """Start a cluster in the background; returns the path of its kubeconfig."""
    done = command(user, folder, "up", *arguments, "--detach")
    assert done.returncode == 0, told(done)
    (line,) = done.stdout.splitlines()
    name, _, kubeconfig = line.partition("=")
    assert name == "KUBECONFIG"
    assert "build: done" in done.stderr
    return kubeconfig


@pytest.mark.parametrize("user", USERS)
def test_a_cluster_in_the_background_is_driven_by_kubectl_and_entered(user: str, folder: Path) -> None:
    (folder / "images.yaml").write_text("waiter: {about: it waits, entrypoint: [busybox, sleep, '1000']}\n")
    kubeconfig = up(user, folder, "single_switch", "-f", SMOKE_PODS, "--images", "images.yaml", "--name", "lab")
    assert stat.S_IMODE(Path(kubeconfig).stat().st_mode) == 0o600

    nodes = kubectl(user, folder, kubeconfig, "get", "nodes", "-o", "name")
    assert nodes.stdout.split() == ["node/n1", "node/n2"], told(nodes)
    ready = kubectl(user, folder, kubeconfig, "get", "nodes", "-o", "wide").stdout
    assert ready.count(" Ready ") == 2 and os.uname().release in ready, ready
    pods = kubectl(user, folder, kubeconfig, "get", "pods", "-A")
    assert pods.returncode == 0, told(pods)
    assert "cluster-dns-" in pods.stdout and "server-cross-node" in pods.stdout, told(pods)
    refused = kubectl(user, folder, kubeconfig, "--token=wrong", "get", "pods")
    assert refused.returncode == 1 and "Unauthorized" in refused.stderr, told(refused)

    # A pod that is made later can be entered, too; its standard input is not touched on the way.
    made = kubectl(user, folder, kubeconfig, "run", "later", "--image=example.org/waiter:1")
    assert made.returncode == 0, told(made)
    ready = kubectl(user, folder, kubeconfig, "wait", "--for=condition=Ready", "pod/later", "--timeout=30s")
    assert ready.returncode == 0, told(ready)
    data = os.urandom(10_000_000)
    copied = subprocess.run(
        as_user(user, [*COMMAND, "exec", "--name", "lab", "later", "-c", "later", "--", "cat"]),
        env=environment(folder),
        input=data,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr
    assert hashlib.sha256(copied.stdout).digest() == hashlib.sha256(data).digest()
    wrong = command(user, folder, "exec", "later", "-c", "sidecar", "--", "true")
    assert wrong.returncode == 2
    assert "later has no container sidecar; it has: later" in wrong.stderr
    misspelt = command(user, folder, "exec", "n1", "--", "true")
    assert "there is no n1 (did you mean node/n1?)" in misspelt.stderr, told(misspelt)
    # The API's front: while it is started again, connections wait. What it served has ended.
    front = next(pid for pid in _processes(folder / "runtime") if b"api_front" in _command_line(pid))
    os.kill(front, signal.SIGKILL)
    events = kubectl(user, folder, kubeconfig, "get", "events", "--field-selector", "involvedObject.name=kubernetes")
    assert "the API's front has ended" in events.stdout, told(events)
    # Whoever is inside cannot end the box by its PID 1, which a program there takes for its own container's.
    kill = command(user, folder, "exec", "node/n1", "--", "sh", "-c", "kill 1; kill -INT 1; kill -HUP 1")
    assert kill.returncode == 0, told(kill)
    traced = command(user, folder, "trace", "--name", "lab", "later", "client")
    assert "DELIVERED to pod" in traced.stdout, told(traced)

    taken = command(user, folder, "up", "single_switch", "--name", "lab")
    assert taken.returncode == 2
    assert "a cluster named lab is running already" in taken.stderr
    assert "build" not in taken.stderr
    (listed,) = clusters(folder, user)
    assert (listed["name"], listed["status"], listed["kubeconfig"]) == ("lab", "running", kubeconfig)
    assert (listed["mode"], listed["proxy"], listed["nodes"]) == ("overlay", "openflow", 2)
    assert f"KUBECONFIG={kubeconfig}" in Path(str(listed["log"])).read_text()
    table = command(user, folder, "ps").stdout.splitlines()
    assert table[0].split() == ["NAME", "STATUS", "MODE", "PROXY", "NODES", "PODS", "UPTIME", "KUBECONFIG", "LOG"]
    assert table[1].startswith("lab")

    down = command(user, folder, "down", "lab")
    assert (down.returncode, down.stdout) == (0, "lab has ended\n"), told(down)
    assert clusters(folder, user) == []
    assert list((folder / "runtime" / "testbed").iterdir()) == []
    gone = kubectl(user, folder, kubeconfig, "get", "nodes")
    assert gone.returncode == 1


def _processes(runtime: Path) -> list[int]:
    """Every process that was started with this runtime directory and has not ended."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"XDG_RUNTIME_DIR={runtime}".encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
    return found


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _wait_gone(folder: Path) -> None:
    deadline = time.monotonic() + GONE_S
    while left := _processes(folder / "runtime"):
        assert time.monotonic() < deadline, f"left: {left}"


def test_nothing_is_left_of_a_killed_cluster_and_its_log_says_how_it_ended(folder: Path) -> None:
    user = USERS[-1]
    up(user, folder, "single_switch,nodes=1", "--name", "first")
    up(user, folder, "single_switch,nodes=1", "--name", "second")
    first, second = clusters(folder, user)
    # The process outside, with which the box ends.
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    # And the one inside that holds API, kubelets and loops: its end is the cluster's, and it is told.
    (entrance,) = _children(int(str(second["pid"])))
    (init,) = _children(entrance)
    worker = min(_children(init))
    os.kill(worker, signal.SIGKILL)
    _wait_gone(folder)
    assert clusters(folder, user) == []
    files = sorted(path.name for path in (folder / "runtime" / "testbed").iterdir())
    assert files == ["first.log", "second.log"]
    log = Path(str(second["log"])).read_text()
    assert "second has ended: the process that holds it (API, kubelets, loops) was ended by SIGKILL" in log
    said = command(user, folder, "ps").stdout
    assert re.search(r"^second ended unexpectedly .* ago; its log says how: .*/second\.log$", said, re.MULTILINE), said


def test_a_cluster_that_does_not_come_up_says_so_and_leaves_nothing(folder: Path) -> None:
    user = USERS[-1]
    starting = subprocess.Popen(
        as_user(user, [*COMMAND, "up", "single_switch,nodes=20", "--detach"]),
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert starting.stderr is not None
    assert starting.stderr.readline().startswith("build: started")
    (background,) = _children(starting.pid)
    (entrance,) = _children(background)
    os.kill(entrance, signal.SIGKILL)
    said, errors = starting.communicate(timeout=_LIMIT_S)
    assert starting.returncode == 128 + signal.SIGKILL, errors
    assert said == ""
    assert "was ended by SIGKILL" in errors
    _wait_gone(folder)
    assert list((folder / "runtime" / "testbed").iterdir()) == []


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
