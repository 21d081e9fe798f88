"""Pods as pods: their containers' lives, files, variables, ports and ends, with real programs in one cluster."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.kinds import CONFIG_MAP, EVENT, POD
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.status import NotFound
from testbed.network.pods.spawner import Spawner
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

WAIT_S = 20
SHELL = "busybox"


def container(name: str, script: str = "", **fields: Any) -> dict[str, Any]:
    command = {"command": ["/bin/sh", "-c", script]} if script else {}
    return {"name": name, "image": SHELL, **command, **fields}


def wait_pod(testbed: Testbed, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The pod as soon as something holds of it."""
    deadline = time.monotonic() + WAIT_S
    with testbed.store.watch(POD) as watch:
        while True:
            wire = testbed.store.get(POD, name)
            if "containerStatuses" in wire.get("status", {}) and holds(wire):
                return wire
            assert time.monotonic() < deadline, (wire["status"], events(testbed, name))
            watch.next(deadline - time.monotonic())


def wait_file(path: Path, holds: Callable[[str], object]) -> str:
    deadline = time.monotonic() + WAIT_S
    while not (path.exists() and holds(path.read_text())):
        assert time.monotonic() < deadline, path.read_text() if path.exists() else path
        time.sleep(0.02)
    return path.read_text()


def state(wire: dict[str, Any], index: int = 0) -> dict[str, Any]:
    status: dict[str, Any] = wire["status"]["containerStatuses"][index]
    return status


def events(testbed: Testbed, name: str) -> list[tuple[str, str]]:
    found = [wire for wire in testbed.store.list(EVENT).items if wire["involvedObject"]["name"] == name]
    return [(wire["reason"], wire["message"]) for wire in found]


def output(testbed: Testbed, endpoint: str, *argv: str) -> str:
    process = testbed.popen(parse_endpoint(endpoint), argv, stdout=subprocess.PIPE, text=True)
    return str(process.communicate(timeout=WAIT_S)[0])


def containers_are_restarted(testbed: Testbed) -> None:
    testbed.apply([pod("fails", "n1", containers=[container("main", "echo run $(date +%N); exit 3")])])
    wait_pod(testbed, "fails", lambda wire: state(wire)["restartCount"] >= 2)
    wire = wait_pod(testbed, "fails", lambda wire: "waiting" in state(wire)["state"])
    status = state(wire)
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert wire["status"]["phase"] == "Running"
    assert not is_ready(wire)
    runs = [testbed.containers.log("default/fails", "main", previous).read_text() for previous in (False, True)]
    assert runs[0].startswith("run ") and runs[1].startswith("run ") and runs[0] != runs[1]
    assert ("Started", "Started container main") in events(testbed, "fails")
    assert "BackOff" in dict(events(testbed, "fails"))


def pods_that_do_their_work_are_done(testbed: Testbed) -> None:
    testbed.apply(
        [
            pod("works", "n1", restartPolicy="Never", containers=[container("main", "true")]),
            pod(
                "gives-up", "n1", restartPolicy="Never", containers=[container("main", "sh -c 'kill -9 $$$$'; exit $?")]
            ),
        ]
    )
    assert wait_pod(testbed, "works", lambda wire: wire["status"]["phase"] == "Succeeded")
    ended = state(wait_pod(testbed, "gives-up", lambda wire: wire["status"]["phase"] == "Failed"))
    assert ended["state"]["terminated"]["exitCode"] == 137


def files_and_variables(testbed: Testbed) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "blue"}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "data": {"password": "c2VzYW1l"},
    }
    testbed.apply([settings, secret])
    mounts = [
        {"name": "shared", "mountPath": "/data/shared"},
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "claim", "mountPath": "/var/lib/claim", "subPath": "sub"},
    ]
    env = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
        {"name": "BOTH", "value": "$(NODE)-$(PASSWORD)"},
    ]
    volumes = [
        {"name": "shared", "emptyDir": {}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "disk"}},
    ]
    testbed.apply(
        [
            pod(
                "files",
                "n1",
                volumes=volumes,
                initContainers=[container("first", "echo prepared > /data/shared/file", volumeMounts=mounts)],
                containers=[
                    container(
                        "main",
                        "cat /data/shared/file; echo $BOTH; touch /etc/settings/x 2>/dev/null || echo read-only; "
                        "echo kept > /var/lib/claim/file; echo mine > /etc/own-file; exec sleep 1000",
                        volumeMounts=mounts,
                        env=env,
                    ),
                    container("other", "exec sleep 1000"),
                ],
            )
        ]
    )
    wire = wait_pod(testbed, "files", is_ready)
    assert wire["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    log = testbed.containers.log("default/files", "main")
    assert wait_file(log, lambda text: text.count("\n") == 3) == "prepared\nn1-sesame\nread-only\n"
    assert wait_file(Path("/run/claims/default/disk/sub/file"), bool) == "kept\n"
    assert not Path("/etc/own-file").exists(), "what a pod writes is its own"
    inside = testbed.containers.command("default/files", "main", ["cat", "/etc/settings/color", "/etc/own-file"])
    assert subprocess.run(inside, capture_output=True, text=True).stdout == "bluemine\n"
    testbed.store.patch(CONFIG_MAP, "settings", {"data": {"color": "green"}})
    deadline = time.monotonic() + WAIT_S
    while subprocess.run(inside, capture_output=True, text=True).stdout != "greenmine\n":
        assert time.monotonic() < deadline


def probes_have_consequences(testbed: Testbed) -> None:
    quick = {"periodSeconds": 1, "failureThreshold": 1}
    script = "touch /tmp/alive; trap exit TERM; while :; do sleep 0.05; done"
    testbed.apply(
        [
            pod(
                "probed",
                "n1",
                containers=[
                    container(
                        "main",
                        script,
                        startupProbe={"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1},
                        livenessProbe={"exec": {"command": ["cat", "/tmp/alive"]}, **quick},
                    )
                ],
            )
        ]
    )
    wait_pod(testbed, "probed", is_ready)
    command = testbed.containers.command("default/probed", "main", ["rm", "/tmp/alive"])
    assert subprocess.run(command).returncode == 0
    wire = wait_pod(testbed, "probed", lambda wire: state(wire)["restartCount"] == 1 and is_ready(wire))
    assert state(wire)["lastState"] == {} or state(wire)["lastState"]["terminated"]
    said = dict(events(testbed, "probed"))
    assert "Liveness probe failed" in said["Unhealthy"] and "/tmp/alive" in said["Unhealthy"]
    assert said["Killing"] == "Container main failed liveness probe, will be restarted"


def inside(testbed: Testbed, key: str, name: str, script: str) -> str:
    command = testbed.containers.command(f"default/{key}", name, ["sh", "-c", script])
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S).stdout


def processes_and_files_of_a_container_are_its_own(testbed: Testbed) -> None:
    files = "/tmp/mine /run/mine /dev/shm/pods /shared/ours"
    left = f"trap 'exit 5' TERM; setsid sleep 4711 & touch {files}; while :; do sleep 0.05; done"
    begun = {"readinessProbe": {"exec": {"command": ["pgrep", "-fx", "sleep 4711"]}}}
    share = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    apart = [
        container("main", left, **share, **begun),
        container("other", "exec sleep 1000", **share),
        container("waits"),
    ]
    together = [container("main", "exec sleep 1000"), {"name": "web", "image": "whoami"}]
    agent = [container("main", "exec sleep 1000")]
    testbed.apply(
        [
            pod("apart", "n1", containers=apart, volumes=[{"name": "shared", "emptyDir": {}}]),
            pod("together", "n1", shareProcessNamespace=True, containers=together),
            pod("agent-of-all", "n2", hostPID=True, containers=agent),
        ]
    )
    for name in ("apart", "together", "agent-of-all"):
        wait_pod(testbed, name, is_ready)
    assert inside(testbed, "apart", "other", "ls /tmp/mine /shared; cat /etc/hostname") == "/shared:\nours\napart\n"
    assert inside(testbed, "apart", "other", "ls -A /dev/shm /run").split() == ["/dev/shm:", "pods", "/run:", "testbed"]
    assert "pods" not in inside(testbed, "together", "web", "ls /dev/shm")
    numbers = "cd /proc; ls -d [0-9]* | sort -n | head -2 | xargs -I@ cat @/comm"
    assert inside(testbed, "apart", "other", numbers) == "sleep\nsh\n"
    assert inside(testbed, "apart", "waits", numbers) == "pause\nsh\n"
    assert inside(testbed, "together", "web", numbers) == "pause\nsleep\n"
    assert "ovs-vswitchd\n" in inside(testbed, "agent-of-all", "main", "cat /proc/[0-9]*/comm")
    # To PID 1 comes only what it has a handler for: a real kubectl exec POD -- kill 1 does no more.
    assert inside(testbed, "apart", "other", "kill -9 1; kill 1; echo alive") == "alive\n"
    first = testbed.containers.process("default/apart", "main").pid
    (orphan,) = subprocess.check_output(["pgrep", "-fx", "sleep 4711"], text=True).split()
    inside(testbed, "apart", "main", "kill 1")
    wire = wait_pod(testbed, "apart", lambda wire: state(wire)["restartCount"] == 1 and is_ready(wire))
    assert testbed.containers.process("default/apart", "main").pid != first
    assert state(wire, 1)["restartCount"] == 0
    assert not Path("/proc", orphan).exists(), "what has left its session ends with its container"
    inside(testbed, "together", "main", "kill $(pgrep -f testbed.network.pods.parent)")
    wire = wait_pod(testbed, "together", lambda wire: state(wire, 1)["restartCount"] == 1 and is_ready(wire))
    assert state(wire, 1)["lastState"] == {} or state(wire, 1)["lastState"]["terminated"]["exitCode"] == 143
    for name in ("apart", "together", "agent-of-all"):
        testbed.store.delete(POD, name, grace_period_s=0)
    testbed.wait_settled()


def images_that_nobody_knows(testbed: Testbed) -> None:
    testbed.apply([pod("unknown", "n1", containers=[{"name": "main", "image": "example.org/nothing:1"}])])
    wire = wait_pod(testbed, "unknown", lambda wire: "waiting" in state(wire)["state"])
    assert state(wire)["state"]["waiting"]["reason"] == "ErrImagePull"
    assert wire["status"]["phase"] == "Pending"
    assert any(reason == "Failed" and "docs/pods.md" in text for reason, text in events(testbed, "unknown"))
    testbed.store.patch(POD, "unknown", {"spec": {"containers": [{"name": "main", "image": "pause"}]}})
    wait_pod(testbed, "unknown", is_ready)


def pods_end_in_order(testbed: Testbed) -> None:
    trace = Path("/run/traces/trace")
    trace.parent.mkdir()
    traces = {"volumeMounts": [{"name": "traces", "mountPath": str(trace.parent)}]}
    volume = {"name": "traces", "hostPath": {"path": str(trace.parent)}}
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo hook >> {trace}"]}}}
    script = f"trap 'echo term >> {trace}; exit 0' TERM; echo up >> {trace}; while :; do sleep 0.05; done"
    stubborn = "trap '' TERM; while :; do sleep 0.05; done"
    testbed.apply(
        [
            pod("leaves", "n1", containers=[container("main", script, lifecycle=hook, **traces)], volumes=[volume]),
            pod("stays", "n1", terminationGracePeriodSeconds=1, containers=[container("main", stubborn)]),
        ]
    )
    wait_file(trace, bool)
    wait_pod(testbed, "stays", is_ready)
    began = time.monotonic()
    for name in ("leaves", "stays"):
        testbed.store.delete(POD, name)
    testbed.wait_settled()
    assert 1 <= time.monotonic() - began < 10, time.monotonic() - began
    assert trace.read_text() == "up\nhook\nterm\n"
    assert not testbed.containers.log("default/stays", "main").exists()


def ports_of_nodes_lead_to_pods(testbed: Testbed) -> None:
    ports = [{"containerPort": 8000, "hostPort": 8081}]
    listens = {"readinessProbe": {"tcpSocket": {"port": 8000}}}
    testbed.apply([pod("door", "n2", containers=[{"name": "main", "image": "whoami", "ports": ports, **listens}])])
    wait_pod(testbed, "door", is_ready)
    address = testbed.address(parse_endpoint("node/n2"))
    fetch = ["curl", "-s", "-m", "5", f"http://{address}:8081/"]
    for proxy in ("openflow", "nftables"):
        testbed.set_proxy(proxy)  # type: ignore[arg-type]
        for source in ("ext/ext1", "node/n1", "node/n2", "client", "door"):
            if source == "ext/ext1" and proxy == "openflow":
                client = str(testbed.address(parse_endpoint(source)))
                assert client in output(testbed, source, *fetch), "the client's address is kept"
            assert output(testbed, source, *fetch).startswith("door\n"), (proxy, source)
    testbed.set_proxy("openflow")
    testbed.store.delete(POD, "door")
    testbed.wait_settled()
    assert output(testbed, "node/n1", *fetch) == ""


def a_node_of_its_own(testbed: Testbed) -> None:
    testbed.apply([pod("agent", "n1", hostNetwork=True)])
    wait_pod(testbed, "agent", is_ready)
    text = output(testbed, "agent", "cat", "/etc/hosts")
    for name in ("n1", "n2", "ext1"):
        assert (
            f"{testbed.address(parse_endpoint(f'ext/{name}' if name == 'ext1' else f'node/{name}'))}\t{name}\n" in text
        )


def more_is_asked_at_once_than_sockets_hold(_: Testbed) -> None:
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    spawner = Spawner(lambda ended: None, lambda: None)
    spawner.start()
    try:
        requests = [{"sandbox": "nobody's"}] * 3000

        def ask() -> None:
            for request in requests:
                spawner.run(request, lambda pid, error: answers.put(error))

        threading.Thread(target=ask, daemon=True).start()
        assert all("gone" in answers.get(timeout=WAIT_S) for _ in requests)
    finally:
        spawner.stop()


def everything_comes_back(testbed: Testbed) -> None:
    parent = testbed.containers.parent_pid
    assert parent is not None
    before = state(testbed.store.get(POD, "client"))["restartCount"]
    os.kill(parent, signal.SIGKILL)
    wait_pod(testbed, "client", lambda wire: state(wire)["restartCount"] > before and is_ready(wire))
    assert output(testbed, "client", "hostname") == "client\n"


def pods_live() -> None:
    with cluster(plan_of("single_switch", [pod("client", "n1")], nodes=2)) as testbed:
        for part in (
            containers_are_restarted,
            pods_that_do_their_work_are_done,
            files_and_variables,
            probes_have_consequences,
            processes_and_files_of_a_container_are_its_own,
            images_that_nobody_knows,
            pods_end_in_order,
            ports_of_nodes_lead_to_pods,
            a_node_of_its_own,
            more_is_asked_at_once_than_sockets_hold,
            everything_comes_back,
        ):
            began = time.monotonic()
            part(testbed)
            print(f"{part.__name__}: {time.monotonic() - began:.2f} s", flush=True)
        with pytest.raises(NotFound):
            testbed.store.get(POD, "leaves")


@pytest.mark.parametrize("user", USERS)
def test_pods_live_as_in_kubernetes(user: str) -> None:
    print(run_in_box(pods_live, user))
