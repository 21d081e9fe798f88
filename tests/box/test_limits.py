"""The limits of containers, kept to by real cgroups where they may be made, and what is left of these."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.kinds import POD
from testbed.network.pods.cgroup_trees import trees
from testbed.network.pods.cgroups import Cgroups, box_name
from testbed.network.testbed import Testbed
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import PROJECT, USERS, run_in_box
from tests.box.test_pods import events, state, wait_pod

pytestmark = pytest.mark.box

MEBIBYTE = 1 << 20
CPU = 0.2
MEASURED_S = 1.0
GONE_S = 5.0


def limited(name: str, command: list[str], **limits: str) -> dict[str, Any]:
    containers = [{"name": "main", "image": "busybox", "command": command, "resources": {"limits": limits}}]
    return pod(name, "n1", restartPolicy="Never", containers=containers)


def used_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def groups() -> set[str]:
    """The groups of this box's containers, without the numbers of their runs."""
    box = box_name(Path("/proc/self"))
    return {entry.name for tree in trees() for entry in (tree.folder / box).iterdir() if entry.is_dir()}


def limits_are_kept() -> None:
    memory = f"x = bytearray({200 * MEBIBYTE})"
    pods = [
        limited("busy", ["sh", "-c", "while :; do :; done"], cpu=str(CPU)),
        limited("hungry", [sys.executable, "-c", memory], memory="48Mi"),
        limited("content", [sys.executable, "-c", memory], memory="400Mi"),
    ]
    pods[0]["spec"]["restartPolicy"] = "Always"
    with cluster(plan_of("single_switch", pods, nodes=1)) as testbed:
        assert wait_pod(testbed, "content", lambda wire: wire["status"]["phase"] == "Succeeded")
        hungry = wait_pod(testbed, "hungry", lambda wire: wire["status"]["phase"] in ("Succeeded", "Failed"))
        ended = state(hungry)["state"]["terminated"]
        if trees():
            assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
            processor_time_is_limited(testbed)
        else:
            assert ended["reason"] == "Completed"
            said = "Limits of container main are not enforced: cpu (no cgroup may be made)"
            assert ("LimitsNotEnforced", said) in events(testbed, "busy")


def processor_time_is_limited(testbed: Testbed) -> None:
    pid = testbed.containers.process("default/busy", "main").pid
    began, used = time.monotonic(), used_s(pid)
    time.sleep(MEASURED_S)
    used, took = used_s(pid) - used, time.monotonic() - began
    assert used <= CPU * (took + 0.3), f"{used} s of {took} s"  # it may begin and end within a period
    beside = testbed.containers.command("default/busy", "main", ["cat", "/proc/self/cgroup"])
    inside = subprocess.run(beside, capture_output=True, text=True, check=True).stdout
    assert inside == Path(f"/proc/{pid}/cgroup").read_text(), "what kubectl exec starts is limited with it"
    uid = testbed.store.get(POD, "busy")["metadata"]["uid"]
    assert groups() == {f"{uid}-main-1"}, "groups of containers that have ended are gone"
    os.kill(pid, signal.SIGKILL)
    wire = wait_pod(
        testbed, "busy", lambda wire: state(wire)["restartCount"] == 1 and "running" in state(wire)["state"]
    )
    assert state(wire)["lastState"]["terminated"]["reason"] == "Error", "killed, but not for its memory"
    assert groups() == {f"{uid}-main-2"}


@pytest.mark.parametrize("user", USERS)
def test_limits_are_kept_where_cgroups_may_be_made(user: str) -> None:
    run_in_box(limits_are_kept, user)


def hold_a_group() -> None:
    made = Cgroups().make("held", {"resources": {"limits": {"memory": "64Mi", "cpu": "1"}}})
    print(*made.folders, flush=True)
    signal.pause()


@contextmanager
def holder() -> Iterator[tuple[int, list[Path]]]:
    """The supervisor of a box with a container's groups, and the groups."""
    target = f"{__name__}:{hold_a_group.__name__}"
    argv = [sys.executable, "-m", "tests.box.harness", target, "60"]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            folders = [Path(text) for text in process.stdout.readline().split()]
            assert folders and all(folder.is_dir() for folder in folders)
            yield process.pid, folders
        finally:
            process.kill()


def wait_for(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + GONE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def are_gone(folders: list[Path]) -> bool:
    return not any(folder.parent.exists() for folder in folders)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_no_group_is_left_even_after_kill_9() -> None:
    if not trees():  # nothing is made then, so nothing can be left; the container is told
        group = Cgroups().make("web", {"resources": {"limits": {"cpu": "1"}}})
        assert (group.folders, group.lacking) == ((), "cpu (no cgroup may be made)")
        return
    with holder() as (supervisor, killed):
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: are_gone(killed))
    # Had everybody who could remove them been killed, too, the next box would find and remove them.
    with holder() as (supervisor, abandoned):
        wait_for(lambda: len(children(supervisor)) == 2)
        janitor = children(supervisor)[1]
        for pid in (janitor, supervisor):
            os.kill(pid, signal.SIGKILL)
    assert not are_gone(abandoned)
    with holder() as (supervisor, held):
        wait_for(lambda: are_gone(abandoned))
        assert all(folder.is_dir() for folder in held), "those of a living box stay"
        os.kill(supervisor, signal.SIGTERM)
        wait_for(lambda: are_gone(held))
