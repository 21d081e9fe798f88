"""kubectl logs, exec, cp and port-forward on real pods: their namespaces, files, variables, terminals and ports."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.cluster.kinds import POD
from testbed.network.testbed import Testbed
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

# Writes a line at once, another when it finds a file, and serves its name's length in bytes on port 8080 of localhost.
PROGRAM = """
import os, socket, sys, time
print("begun", os.environ["COLOUR"], flush=True)
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = listener.accept()
    data = b""
    while piece := connection.recv(65536):
        data += piece
    print("got", len(data), flush=True)
    if data == b"end":
        sys.exit(3)
    connection.sendall(data[::-1])
    connection.close()
"""
LARGE = os.urandom(3_000_000)


def program_pod() -> dict[str, object]:
    main = {
        "name": "main",
        "image": "python",
        "command": ["python3", "-c", PROGRAM],
        "env": [{"name": "COLOUR", "value": "blue"}],
        "workingDir": "/usr",
    }
    return pod("talker", "n1", containers=[main, {"name": "side", "image": "busybox"}])


@pytest.mark.parametrize("user", USERS)
def test_pods_are_reached_by_kubectl(user):
    run_in_box(_pods_are_reached_by_kubectl, user)


def _pods_are_reached_by_kubectl():
    with cluster(plan_of("single_switch", [program_pod(), pod("quiet", "n2")], nodes=2)) as testbed:
        _programs_run_where_the_container_does(testbed)
        _terminals_are_the_programs_own(testbed)
        _a_containers_own_terminal_and_input(testbed)
        _a_container_that_is_added_sees_another_ones_processes(testbed)
        _what_a_client_leaves_behind_ends(testbed)
        _refusals(testbed)
        _ports_of_localhost_and_what_is_logged_of_it(testbed)


def kubectl(testbed: Testbed, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(testbed, *arguments), capture_output=True, timeout=20, check=False, **options)


def command(testbed: Testbed, *arguments: str) -> list[str]:
    program = shutil.which("kubectl")
    assert program is not None, "install kubectl (Debian: kubernetes-client)"
    return ["env", "KUBECONFIG=/dev/null", "HOME=/nonexistent", program, "--server", testbed.api_url, *arguments]


@contextmanager
def running_kubectl(testbed: Testbed, *arguments: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """One that is ended, should it not have ended by itself."""
    terminal = ["setsid", "--ctty"] if "stdin" in options else []
    with subprocess.Popen([*terminal, *command(testbed, *arguments)], **options) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _programs_run_where_the_container_does(testbed: Testbed) -> None:
    address = testbed.store.get(POD, "talker")["status"]["podIP"]
    script = "hostname; pwd; echo $COLOUR; ip -4 -o addr show eth0; readlink /proc/self/ns/net; cat; exit 4"
    done = kubectl(testbed, "exec", "-i", "talker", "-c", "main", "--", "sh", "-c", script, input=LARGE)
    lines = done.stdout.split(b"\n", 5)
    assert (lines[:3], done.returncode) == ([b"talker", b"/usr", b"blue"], 4), done
    assert f" {address}/".encode() in lines[3]
    assert lines[5] == LARGE
    assert b"BusyBox" in kubectl(testbed, "exec", "talker", "-c", "side", "--", "httpd", "--help").stderr
    own = testbed.containers.process("default/talker", "main").pid
    assert lines[4].decode() == str(Path(f"/proc/{own}/ns/net").readlink())


def _terminals_are_the_programs_own(testbed: Testbed) -> None:
    ours, theirs = os.openpty()
    argv = [
        "exec",
        "-it",
        "quiet",
        "--",
        "sh",
        "-c",
        "echo >/dev/tty $((1 + 1))-$(cut -d' ' -f5 /proc/$$/stat)-$(tty); exec sleep 4320",
    ]
    with running_kubectl(testbed, *argv, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        screen = b""
        while not re.search(rb"2-[1-9]\d*-/dev/pts/\d+\r", screen):  # the group that it leads has a number in there
            screen += os.read(ours, 4096)
        wait_until(lambda: _runs("sleep\0004320"))
        os.write(ours, b"\x03")
        assert running.wait(10) == 130, screen
    os.close(ours)


def _a_containers_own_terminal_and_input(testbed: Testbed) -> None:
    """kubectl run -it without a command is a shell; kubectl run -i reads to the end of what it is given."""
    ours, theirs = os.openpty()
    argv = ["run", "shell", "-it", "--rm", "--restart=Never", "--image=busybox"]
    with running_kubectl(testbed, *argv, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        screen = b""
        for typed, shown in [(b"hostname; tty; exit 7\n", rb"# "), (b"", rb"shell\r\n/dev/pts/\d+\r\n")]:
            while not re.search(shown, screen):
                screen += os.read(ours, 4096)
            os.write(ours, typed)
        while True:
            try:
                screen += os.read(ours, 4096)
            except OSError:
                break
        assert running.wait(10) == 7, screen
    os.close(ours)
    done = kubectl(testbed, "run", "filter", "-i", "--restart=Never", "--image=busybox", "--", "wc", "-c", input=LARGE)
    assert done.stdout.split() == [b"%d" % len(LARGE)], done


def _a_container_that_is_added_sees_another_ones_processes(testbed: Testbed) -> None:
    """What kubectl debug --target writes (Debian's kubectl 1.20 does so in a form that is no more)."""
    look = {"name": "look", "image": "busybox", "targetContainerName": "main", "command": ["sh", "-c"]}
    look["args"] = ["cat /proc/1/comm; hostname"]
    testbed.store.patch(POD, "talker", {"spec": {"ephemeralContainers": [look]}})
    wait_until(lambda: kubectl(testbed, "logs", "talker", "-c", "look").stdout == b"python3\ntalker\n")


def _what_a_client_leaves_behind_ends(testbed: Testbed) -> None:
    script = "trap '' HUP TERM; sleep 4321 & wait"
    with running_kubectl(testbed, "exec", "quiet", "--", "sh", "-c", script):
        wait_until(lambda: _runs("sleep\0004321"))
    wait_until(lambda: not _runs("sleep\0004321"))


def _runs(text: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_text().startswith(text):
                return True
        except OSError:
            continue
    return False


def _refusals(testbed: Testbed) -> None:
    for arguments, text in [
        (["exec", "quiet", "--", "no-such-program"], b'exec: "no-such-program": executable file not found in $PATH'),
        (["exec", "quiet", "-c", "x", "--", "true"], b"container x is not valid for pod quiet"),
        (["logs", "talker", "-c", "main", "-p"], b'previous terminated container "main" in pod "talker" not found'),
        (["logs", "nobody"], b'pods "nobody" not found'),
    ]:
        done = kubectl(testbed, *arguments)
        assert (done.returncode, text in done.stderr) == (1, True), done


def _ports_of_localhost_and_what_is_logged_of_it(testbed: Testbed) -> None:
    """The log is followed meanwhile; the container's end ends that, and the next run has a log of its own."""
    begun = time.time()
    logs = ["logs", "-f", "talker", "-c", "main"]
    forward = ["port-forward", "--address", "127.0.0.1", "talker", ":8080"]
    with (
        running_kubectl(testbed, *logs, stdout=subprocess.PIPE) as following,
        running_kubectl(testbed, *forward, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as forwarding,
    ):
        assert forwarding.stdout is not None
        found = re.search(rb"127\.0\.0\.1:(\d+)", line := forwarding.stdout.readline())
        assert found, line
        assert _ask(int(found[1]), LARGE) == LARGE[::-1]
        assert _ask(int(found[1]), b"end") == b""
        assert following.stdout is not None
        assert following.stdout.read().decode().split("\n") == ["begun blue", f"got {len(LARGE)}", "got 3", ""]
        assert following.wait(10) == 0
    wait_until(lambda: kubectl(testbed, "logs", "talker", "-c", "main").stdout == b"begun blue\n")
    done = kubectl(testbed, "logs", "talker", "-c", "main", "--previous", "--timestamps", "--tail=1")
    stamp, text = done.stdout.decode().split(" ", 1)
    assert text == "got 3\n"
    written = subprocess.check_output(["date", "--date", stamp, "+%s.%N"], text=True)
    assert begun < float(written) < time.time()


def _ask(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        got = bytearray()
        try:
            while piece := connection.recv(65536):
                got += piece
        except ConnectionResetError:  # kubectl's, when the pod's end is gone
            pass
        return bytes(got)
