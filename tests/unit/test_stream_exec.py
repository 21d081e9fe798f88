"""kubectl exec: every version of the protocol, by clients that are made here, by kubectl and by the Python client."""

from __future__ import annotations

import base64
import fcntl
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from kubernetes import client as kubernetes
from kubernetes.stream import stream as kubernetes_stream

from testbed.apiserver.streams.spdy_frames import Data, GoAway, Ping, RstStream, SynReply
from tests.kubectl import kubectls
from tests.unit.stream_clients import POD, Refused, SpdyClient, WebSocketClient, url
from tests.unit.stream_server import KUBECTL_WAYS, Served, kubectl_environment, resources, served, wait_until

__all__ = ["served"]

ECHO = [sys.executable, "-c", "import sys; print(sys.argv[1:]); print('bad', file=sys.stderr); sys.exit(7)", "a b", "*"]
ALL = {"stdin": "true", "stdout": "true", "stderr": "true"}


def kubectl(served: Served, way: tuple[Path, str], *arguments: str, **options):
    """Run a real kubectl."""
    command = [str(way[0]), "--server", served.url, *arguments]
    return subprocess.run(
        command, capture_output=True, timeout=20, check=False, env=kubectl_environment(way[1]), **options
    )


@pytest.mark.parametrize("way", KUBECTL_WAYS)
class TestKubectl:
    def test_arguments_outputs_and_exit_status(self, served, way):
        done = kubectl(served, way, "exec", "web", "--", *ECHO, "x" * 20_000)
        assert done.returncode == 7
        assert done.stdout.decode() == f"{['a b', '*', 'x' * 20_000]}\n"
        assert done.stderr.decode() == "bad\ncommand terminated with exit code 7\n"

    def test_large_input_comes_back_whole(self, served, way):
        data = os.urandom(10_000_000)
        done = kubectl(served, way, "exec", "-i", "web", "--", "cat", input=data)
        assert done.returncode == 0, done.stderr
        assert done.stdout == data

    def test_a_program_that_does_not_read_its_input(self, served, way):
        done = kubectl(served, way, "exec", "-i", "web", "--", "true", input=bytes(3_000_000))
        assert done.returncode == 0, done.stderr

    def test_a_program_that_does_not_exist(self, served, way):
        done = kubectl(served, way, "exec", "web", "--", "no-such-program")
        assert done.returncode == 1
        assert b"error executing command in container" in done.stderr
        assert b"no-such-program" in done.stderr

    def test_a_program_ended_by_a_signal(self, served, way):
        done = kubectl(served, way, "exec", "web", "--", "sh", "-c", "kill -TERM $$")
        assert done.returncode == 128 + signal.SIGTERM

    def test_files_are_copied_both_ways(self, served, way, tmp_path):
        (tmp_path / "from").write_bytes(os.urandom(100_000))
        place = str(tmp_path)[1:]
        done = kubectl(served, way, "cp", f"{tmp_path}/from", f"web:/{place}/to", "-c", "main")
        assert done.returncode == 0, done.stderr
        back = kubectl(served, way, "cp", f"web:/{place}/to", f"{tmp_path}/back", "-c", "main")
        assert back.returncode == 0, back.stderr
        assert (tmp_path / "back").read_bytes() == (tmp_path / "from").read_bytes()


@pytest.mark.parametrize("way", KUBECTL_WAYS)
def test_kubectl_with_a_terminal(served, way):
    """kubectl exec -it on a pseudoterminal of its own: its size, a change of it, the controlling terminal, Ctrl-C."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    command = [str(way[0]), "--server", served.url, "exec", "-it", "web", "--", "sh"]
    environment = kubectl_environment(way[1])
    with subprocess.Popen(
        ["setsid", "--ctty", *command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as run:
        os.close(theirs)
        screen = ""

        def until(text: str) -> None:
            nonlocal screen
            while text not in screen:
                screen += os.read(ours, 4096).decode()
            screen = screen.partition(text)[2]

        os.write(ours, b"test -t 0 && echo it-is-$((1 + 1))-$(stty size)\n")
        until("it-is-2-33 77")
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
        os.write(ours, b"until [ \"$(stty size)\" = '44 88' ]; do :; done; echo resized-$((1 + 1))\n")
        until("resized-2")
        os.write(ours, b"sleep 1000; echo slept-$?\n")
        [shell] = served.pods.started
        wait_until(lambda: "sleep" in _children(shell.pid))
        os.write(ours, b"\x03")
        os.write(ours, b"echo after-$((1 + 1))\n")
        until("after-2")
        os.write(ours, b"exit 5\n")
        assert run.wait(10) == 5
    os.close(ours)


def _children(pid: int) -> list[str]:
    """The names of a process's children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children]


def test_the_python_client(served):
    api = kubernetes.CoreV1Api(kubernetes.ApiClient(kubernetes.Configuration(host=served.url)))
    run = kubernetes_stream(
        api.connect_get_namespaced_pod_exec,
        "web",
        "default",
        command=["sh", "-c", "read line; echo got $line; echo bad >&2; exit 3"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    run.write_stdin("hello\n")
    run.run_forever(timeout=10)
    assert (run.read_stdout(), run.read_stderr(), run.returncode) == ("got hello\n", "bad\n", 3)
    run.close()


# Each version by itself


def exit_code(status: bytes) -> str:
    [cause] = json.loads(status)["details"]["causes"]
    assert (cause["reason"], json.loads(status)["reason"]) == ("ExitCode", "NonZeroExitCode")
    return cause["message"]


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"])
def test_spdy(served, protocol):
    client = SpdyClient(served.port, url("exec", command=ECHO, stdout="true", stderr="true"), f"nonsense,{protocol}")
    assert f"X-Stream-Protocol-Version: {protocol}" in client.head
    error, out, err = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
    got = client.until_end()
    assert (got[out], got[err]) == (b"['a b', '*']\n", b"bad\n")
    if protocol.startswith(("v4", "v5")):
        assert exit_code(got[error]) == "7"
    else:
        assert got[error] == b"command terminated with non-zero exit code: exit status 7"


def test_spdy_streams_end_one_by_one_before_the_connection(served):
    client = SpdyClient(served.port, url("exec", command="cat", stdin="true", stdout="true"), "v4.channel.k8s.io")
    error, stdin, stdout = (client.open(streamtype=name) for name in ("error", "stdin", "stdout"))
    client.send(Ping(1))
    client.send(Data(stdin, b"hello", fin=True))
    frames = list(client.frames())
    assert Ping(1) in frames
    assert [frame for frame in frames if isinstance(frame, SynReply)] == [
        SynReply(error),
        SynReply(stdin),
        SynReply(stdout),
    ]
    assert {frame.stream for frame in frames if isinstance(frame, Data) and frame.fin} == {error, stdin, stdout}
    assert isinstance(frames[-1], GoAway)
    assert (
        json.loads(next(f.payload for f in frames if isinstance(f, Data) and f.stream == error))["status"] == "Success"
    )


def test_spdy_streams_that_were_not_asked_for_are_refused(served):
    client = SpdyClient(served.port, url("exec", command="true", stdout="true"), "v4.channel.k8s.io")
    wrong, twice = client.open(streamtype="stderr"), [client.open(streamtype="stdout") for _ in range(2)]
    client.open(streamtype="error")
    resets = {frame.stream for frame in client.frames() if isinstance(frame, RstStream)}
    assert resets == {wrong, twice[1]}


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", ""])
def test_websocket(served, protocol):
    path = url("exec", command=["sh", "-c", "head -c5; echo; exit 7"], **ALL)
    client = WebSocketClient(served.port, path, *(["nonsense", protocol] if protocol else []))
    assert client.protocol == (protocol or None)
    assert client.ping() == b"there?"
    client.send(b"\x00hello")
    got = client.until_end()
    assert (got[1], client.code) == (b"hello\n", 1000)
    if protocol.startswith("v"):
        assert exit_code(got[3]) == "7"
    else:
        assert got[3] == b"command terminated with non-zero exit code: exit status 7"


@pytest.mark.parametrize("protocol", ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"])
def test_websocket_in_base64(served, protocol):
    client = WebSocketClient(served.port, url("exec", command=["head", "-c5"], **ALL), protocol)
    client.send("0" + base64.b64encode(b"hello").decode())
    messages = list(client.messages())
    assert b"".join(base64.b64decode(message[1:]) for message in messages if message[:1] == b"1") == b"hello"


def test_version_5_ends_standard_input(served):
    client = WebSocketClient(served.port, url("exec", command=["wc", "-c"], **ALL), "v5.channel.k8s.io")
    client.send(b"\x00" + bytes(1000))
    client.send(b"\xff\x00")
    got = client.until_end()
    assert (got[1], json.loads(got[3])["status"]) == (b"1000\n", "Success")


def test_text_and_strange_messages(served):
    client = WebSocketClient(served.port, url("exec", command=["head", "-c3"], **ALL), "v5.channel.k8s.io")
    for message in (b"", b"\x09on no channel", b"\x01on the wrong channel", b"\xff", b"\xff\x63", "\x00h\u00e9"):
        client.send(message)
    assert client.until_end()[1] == "h\u00e9".encode()


# Terminals without kubectl


def test_a_terminals_size_in_pieces_of_any_length(served):
    show = "until [ \"$(stty size)\" = '24 132' ]; do :; done; echo right"
    client = WebSocketClient(
        served.port, url("exec", command=["sh", "-c", show], stdout="true", tty="true"), "v4.channel.k8s.io"
    )
    text = (
        json.dumps({"Width": "wide"}) + "[]" + json.dumps({"Width": 80, "Height": 24}) + '\n{"Width":132,"Height":24}'
    )
    for start in range(0, len(text), 7):
        client.send(b"\x04" + text[start : start + 7].encode())
    assert client.until_end()[1] == b"right\r\n"


def test_all_that_was_written_to_a_terminal_arrives(served):
    client = WebSocketClient(
        served.port, url("exec", command=["seq", "20000"], stdout="true", tty="true"), "v4.channel.k8s.io"
    )
    assert client.until_end()[1].split() == [b"%d" % number for number in range(1, 20001)]


# Refusals


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        (url("exec", command="true"), 400, "at least 1 of stdin"),
        (url("exec", stdout="true"), 400, "at least 1 command"),
        (url("exec", command="true", stdout="true", container="x"), 400, "container x is not valid for pod web"),
        (f"{POD}x/exec?command=true&stdout=true", 404, 'pods \\"webx\\" not found'),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_protocol_changes(served, path, code, text):
    with pytest.raises(Refused) as caught:
        SpdyClient(served.port, path, "v4.channel.k8s.io")
    assert f" {code} " in str(caught.value).splitlines()[0]
    assert text in str(caught.value)
    with pytest.raises(Refused, match=str(code)):
        WebSocketClient(served.port, path, "v4.channel.k8s.io")


def test_protocols_that_are_not_shared_are_refused(served):
    path = url("exec", command="true", stdout="true")
    with pytest.raises(Refused, match=r"403(?s:.*)server accepts"):
        SpdyClient(served.port, path, "v9.channel.k8s.io")
    with pytest.raises(Refused, match="X-Stream-Protocol-Version is required"):
        SpdyClient(served.port, path, "")
    with pytest.raises(Refused, match="400"):
        WebSocketClient(served.port, path, "v9.channel.k8s.io")
    assert b"missing upgrade headers" in kubectl(served, (kubectls()[0], "true"), "get", "--raw", path).stderr


@pytest.mark.parametrize("way", KUBECTL_WAYS)
def test_a_container_that_does_not_run(served, way):
    served.pods.run("web", ["true"]).wait()
    done = kubectl(served, way, "exec", "web", "--", "true")
    assert done.returncode == 1
    assert b'container not found ("main")' in done.stderr


# Ends


def test_the_program_ends_when_the_client_leaves_and_nothing_is_left_behind(served):
    """However the client leaves, and whatever is under way: processes, threads and files are as before."""
    wait_until(lambda: [thread.name for thread in threading.enumerate()].count("cluster-api") == 1)
    gc.collect()  # the clients of other tests
    before = resources()
    stubborn = ["sh", "-c", "trap '' TERM HUP; sleep 1000 & yes"]
    clients = []
    for tty in ("false", "true"):
        path = url("exec", command=stubborn, **{**ALL, "tty": tty})
        spdy = SpdyClient(served.port, path, "v4.channel.k8s.io")
        for name in ("error", "stdin", "stdout", "stderr" if tty == "false" else "resize"):
            spdy.open(streamtype=name)
        clients += [spdy, WebSocketClient(served.port, path, "v5.channel.k8s.io")]
    silent = SpdyClient(served.port, url("exec", command="true", **ALL), "v4.channel.k8s.io")
    wait_until(lambda: len(served.pods.started) == 4)
    groups = [program.pid for program in served.pods.started]
    clients[0].send(GoAway())
    clients[1].socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes by a reset
    for client in (*clients, silent):
        client.socket.close()
    wait_until(lambda: all(program.poll() is not None for program in served.pods.started))
    wait_until(lambda: not any(_group_lives(group) for group in groups))
    wait_until(lambda: resources() <= before)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_a_program_leaves_running_does_not_hold_the_client(served):
    started = time.monotonic()
    client = WebSocketClient(
        served.port,
        url("exec", command=["sh", "-c", "echo first; (sleep 5; yes) &"], stdout="true"),
        "v4.channel.k8s.io",
    )
    assert client.until_end()[1] == b"first\n"
    assert time.monotonic() - started < 3
    os.killpg(served.pods.started[0].pid, signal.SIGKILL)


def test_a_client_that_breaks_the_protocol_is_left(served):
    client = SpdyClient(served.port, url("exec", command="true", **ALL), "v4.channel.k8s.io")
    client.socket.sendall(b"\xff" * 100)
    assert client.until_end() == {}
    socket_client = WebSocketClient(served.port, url("exec", command="cat", **ALL), "v4.base64.channel.k8s.io")
    socket_client.send("0not base64!")
    assert set(socket_client.until_end()) <= {ord("1")}


def test_a_slow_reader_holds_the_program_back(served):
    """What it does not read waits in the program, not in the server's memory; then all of it arrives."""
    client = WebSocketClient(
        served.port, url("exec", command=["head", "-c", "20000000", "/dev/zero"], stdout="true"), "v4.channel.k8s.io"
    )
    wait_until(lambda: served.pods.started)
    [program] = served.pods.started
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.5)
    assert len(client.until_end()[1]) == 20_000_000


def test_the_end_of_the_server_ends_the_programs(served):
    WebSocketClient(served.port, url("exec", command=["sleep", "1000"], stdout="true"), "v4.channel.k8s.io")
    wait_until(lambda: served.pods.started)
    served.server.stop()
    wait_until(lambda: served.pods.started[0].poll() is not None)
