"""kubectl logs and attach: what is chosen of a log, and following one that grows."""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes import client as kubernetes

from testbed.apiserver.streams.log_lines import LogReader
from testbed.apiserver.streams.log_options import LogOptions
from testbed.cluster.kinds import POD
from tests.unit.stream_clients import SpdyClient, WebSocketClient, url
from tests.unit.stream_server import KUBECTL_WAYS, Served, kubectl_environment, served, wait_until

__all__ = ["served"]

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def read(text: bytes, times: list[tuple[int, float]] = (), **options: object) -> bytes:
    reader = LogReader(io.BytesIO(text), LogOptions(**options), lambda: times)
    return b"".join(iter(reader.read, b""))


# What is chosen


@given(st.lists(st.sampled_from([b"", b"a", b"long" * 5])), st.integers(0, 8), st.booleans(), st.integers(1, 40))
def test_the_last_lines(lines, wanted, ended, block):
    text = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    whole = text.splitlines(keepends=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("testbed.apiserver.streams.log_lines.READ_BYTES", block)
        assert read(text, tail_lines=wanted) == b"".join(whole[max(0, len(whole) - wanted) :])


def test_the_first_bytes():
    assert read(b"one\ntwo\n", limit_bytes=5) == b"one\nt"
    assert read(b"one\ntwo\n", limit_bytes=3, tail_lines=1) == b"two"


def test_lines_since_a_time():
    times = [(0, NOON), (4, NOON + 10), (8, NOON + 20), (10, NOON + 30)]  # the third line was written in two pieces
    text = b"one\ntwo\nthree\nfour\n"
    for since, expected in [(-5, text), (0, text), (5, text[4:]), (20, text[8:]), (25, text[14:]), (31, b"")]:
        assert read(text, times, since=NOON + since) == expected, since
    assert read(text, times, since=NOON, tail_lines=1) == b"four\n"
    assert read(b"", [], since=NOON) == b""


def test_times_stand_before_lines():
    times = [(0, NOON), (4, NOON + 1.25)]
    assert read(b"one\n\nlast", times, timestamps=True).decode().splitlines() == [
        "2026-01-01T12:00:00.000000000Z one",
        "2026-01-01T12:00:01.250000000Z ",
        "2026-01-01T12:00:01.250000000Z last",
    ]


def test_a_line_that_comes_in_pieces_has_one_time():
    log = io.BytesIO(b"begin")
    reader = LogReader(log, LogOptions(timestamps=True), lambda: [(0, NOON)])
    first = reader.read()
    log.write(b"ning\nnext\n")
    log.seek(5)
    assert (first + reader.read()).count(b"2026-01-01T12:00:00") == 2


# By HTTP


def get(served: Served, **query: object) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", url("log", **query))
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def write(served: Served, text: str, *, previous: bool = False) -> Path:
    path = served.pods.folder / f"web_main{'.previous' if previous else ''}.log"
    with path.open("a") as log:
        log.write(text)
    return path


def open_logs() -> list[str]:
    """The log, as often as the server has it open."""
    open_files = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    return [path for path in open_files if path.endswith("web_main.log")]


def test_a_log(served):
    write(served, "one\ntwo\nthree\n")
    served.pods.times = [(0, NOON), (8, NOON + 60)]
    assert get(served) == (200, b"one\ntwo\nthree\n")
    assert get(served, tailLines=1, container="main") == (200, b"three\n")
    assert get(served, sinceTime="2026-01-01T13:00:30+01:00") == (200, b"three\n")
    assert get(served, sinceSeconds=5) == (200, b"")
    assert get(served, timestamps="true", limitBytes=24) == (200, b"2026-01-01T12:00:00.0000")
    assert get(served, previous="true")[0] == 400
    write(served, "before\n", previous=True)
    assert get(served, previous="true", follow="true") == (200, b"before\n")


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"container": "x"}, 400, "container x is not valid for pod web"),
        ({"tailLines": "-1"}, 400, "tailLines"),
        ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, 422, "sinceSeconds"),
        ({"sinceSeconds": "1", "sinceTime": "2026-01-01T12:00:00Z"}, 422, "at most one of"),
        ({"sinceTime": "yesterday"}, 400, "RFC 3339"),
        ({"sinceTime": "2026-01-01T12:00:00"}, 400, "time zone"),
    ],
)
def test_what_cannot_be_done_is_refused(served, query, code, text):
    status, body = get(served, **query)
    assert (status, json.loads(body)["kind"]) == (code, "Status")
    assert text in json.loads(body)["message"]


def test_the_container_of_a_pod_that_has_several(served):
    containers = [{"name": "a", "image": "x"}, {"name": "main", "image": "x"}]
    served.server.store.patch(POD, "web", {"spec": {"containers": containers, "initContainers": [{"name": "first"}]}})
    write(served, "text\n")
    status, body = get(served)
    wanted = (
        "a container name must be specified for pod web, choose one of: [a main] or one of the init containers: [first]"
    )
    assert (status, json.loads(body)["message"]) == (400, wanted)
    annotations = {"kubectl.kubernetes.io/default-container": "main"}
    served.server.store.patch(POD, "web", {"metadata": {"annotations": annotations}})
    assert get(served) == (200, b"text\n")
    assert get(served, container="first")[0] == 200


# Following


def test_following_ends_with_the_container(served):
    run = served.pods.run("web", ["sleep", "1000"])
    write(served, "one\n")
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", url("log", follow="true"))
    response = connection.getresponse()
    assert response.readline() == b"one\n"
    write(served, "two\n")
    assert response.readline() == b"two\n"
    write(served, "last words\n")
    run.kill()
    assert response.read() == b"last words\n"


def test_following_ends_with_the_run(served):
    """A container that was started again has a log of its own."""
    path = write(served, "one\n")
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", url("log", follow="true"))
    response = connection.getresponse()
    assert response.readline() == b"one\n"
    path.rename(path.with_name("old"))
    write(served, "two\n")
    assert response.read() == b""


def test_following_ends_with_the_limit_and_with_the_client(served):
    write(served, "one\n")
    assert get(served, follow="true", limitBytes=3) == (200, b"one")
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", url("log", follow="true"))
    assert connection.getresponse().readline() == b"one\n"
    assert open_logs()
    connection.close()
    wait_until(lambda: not open_logs())


# By kubectl and the Python client


def kubectl(served: Served, way: tuple[Path, str], *arguments: str) -> subprocess.Popen[bytes]:
    command = [str(way[0]), "--server", served.url, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=kubectl_environment(way[1]))


@pytest.mark.parametrize("way", KUBECTL_WAYS)
def test_kubectl_logs(served, way):
    write(served, "one\ntwo\n")
    run = served.pods.run("web", ["sleep", "1000"])
    with kubectl(served, way, "logs", "-f", "web", "--tail=1") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"two\n"
        write(served, "three\n")
        assert following.stdout.readline() == b"three\n"
        run.kill()
        assert following.wait(10) == 0
    with kubectl(served, way, "logs", "web", "--since=1h", "--timestamps", "--limit-bytes=1000") as once:
        assert once.stdout is not None
        assert [line.split()[1] for line in once.stdout] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("way", KUBECTL_WAYS)
def test_kubectl_attach(served, way):
    served.pods.times = [(0, NOON)]
    write(served, "before\n")
    run = served.pods.run("web", ["sh", "-c", "while sleep 0.1; do echo after; done"])
    with kubectl(served, way, "attach", "web") as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline() == b"after\n"
        run.kill()
        assert attached.wait(10) == 0


@pytest.mark.parametrize("connect", [SpdyClient, WebSocketClient])
def test_attach_ends_with_the_client(served, connect):
    client = connect(served.port, url("attach", stdout="true"), "v4.channel.k8s.io")
    wait_until(open_logs)
    client.socket.close()
    wait_until(lambda: not open_logs())


class Heard:
    """A container's own input, as far as a client can tell."""

    def __init__(self) -> None:
        self.text, self.size, self.ended = b"", (0, 0), 0

    def write(self, data: bytes) -> int:
        self.text += data[:1000]
        return len(data[:1000])

    def client_ended(self) -> None:
        self.ended += 1

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)


def test_attach_reaches_the_containers_own_input(served):
    """A container that has just begun is attached to from its first byte; its input hears when the client leaves."""
    heard = served.pods.consoles["web"] = Heard()
    write(served, "prompt> ")
    query = {"stdin": "true", "stdout": "true", "tty": "true"}
    client = WebSocketClient(served.port, url("attach", **query), "v5.channel.k8s.io")
    client.send(b"\x00" + b"typed" * 1000)
    client.send(b'\x04{"Width":132,"Height":24}')
    wait_until(lambda: (heard.text, heard.size) == (b"typed" * 1000, (132, 24)))
    assert next(client.messages()) == b"\x01prompt> "
    write(served, "answer")
    assert next(client.messages()) == b"\x01answer"
    assert heard.ended == 0
    client.send(b"\xff\x00")
    wait_until(lambda: heard.ended)
    client.socket.close()
    wait_until(lambda: not open_logs())


def test_attach_to_a_container_that_has_long_begun_shows_what_follows(served):
    served.pods.times = [(0, NOON)]
    write(served, "long ago\n")
    client = WebSocketClient(served.port, url("attach", stdout="true"), "v5.channel.k8s.io")
    wait_until(open_logs)
    assert client.ping() == b"there?"
    write(served, "now\n")
    assert next(client.messages()) == b"\x01now\n"


def test_the_python_client(served):
    write(served, "one\ntwo\n")
    api = kubernetes.CoreV1Api(kubernetes.ApiClient(kubernetes.Configuration(host=served.url)))
    assert api.read_namespaced_pod_log("web", "default", tail_lines=1) == "two\n"
