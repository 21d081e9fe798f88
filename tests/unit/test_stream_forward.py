"""kubectl port-forward: every way to carry connections, with real ones at both ends."""

from __future__ import annotations

import base64
import gc
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kubernetes import client as kubernetes
from kubernetes.stream import portforward

from testbed.apiserver.streams.spdy_frames import Data, FrameReader, FrameWriter, Ping, RstStream, SynReply, SynStream
from testbed.cluster.kinds import POD
from tests.unit.stream_clients import Refused, SpdyClient, WebSocketClient, url
from tests.unit.stream_server import KUBECTL_WAYS, Served, kubectl_environment, resources, served, wait_until

__all__ = ["served"]

LARGE = os.urandom(10_000_000)


class Echo:
    """A TCP server that sends back what it gets and, at the end of that, ``bye``."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.open = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.open += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)
                connection.sendall(b"bye")
        except OSError:
            pass
        finally:
            self.open -= 1


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def silent_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def there_and_back(port: int, data: bytes) -> bytes:
    """What comes back of some bytes, sent and received at the same time, until the other side's end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:

        def send() -> None:
            with suppress(OSError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        with suppress(ConnectionResetError):  # kubectl's, when the pod's end is gone
            while piece := connection.recv(65536):
                got += piece
        sender.join()
        return bytes(got)


@contextmanager
def kubectl_forward(served: Served, port: int, way: tuple[Path, str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A running kubectl port-forward; the port that it has chosen on this side."""
    command = [str(way[0]), "--server", served.url, "port-forward", "--address", "127.0.0.1", "pod/web", f":{port}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=kubectl_environment(way[1]), **pipes) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline().decode()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, line
            yield int(found[1]), running
        finally:
            running.kill()


@pytest.mark.parametrize("way", KUBECTL_WAYS)
def test_kubectl(served, echo, way):
    """Several connections at once, each with much data both ways and its own end; nothing is left behind."""
    gc.collect()
    before = resources()
    with kubectl_forward(served, echo.port, way) as (port, _), ThreadPoolExecutor(4) as pool:
        assert there_and_back(port, b"first") == b"firstbye"
        sent = [LARGE, LARGE[::-1], b"", LARGE[:70_000]]
        assert list(pool.map(there_and_back, [port] * 4, sent)) == [data + b"bye" for data in sent]
        left_open = socket.create_connection(("127.0.0.1", port), timeout=10)
        left_open.sendall(b"x")
        assert left_open.recv(1) == b"x"
        wait_until(lambda: echo.open == 1)
    wait_until(lambda: echo.open == 0)
    left_open.close()
    wait_until(lambda: resources() <= before)


@pytest.mark.parametrize("way", KUBECTL_WAYS)
def test_kubectl_is_told_that_nobody_listens(served, silent_port, way):
    with kubectl_forward(served, silent_port, way) as (port, running):
        assert there_and_back(port, b"x") == b""
        assert running.stderr is not None
        line = running.stderr.readline().decode()
        assert f"error forwarding port {silent_port} to pod web" in line
        assert f"dial tcp4 127.0.0.1:{silent_port}: connect: connection refused" in line


def test_the_python_client(served, echo, silent_port):
    api = kubernetes.CoreV1Api(kubernetes.ApiClient(kubernetes.Configuration(host=served.url)))
    ports = f"{echo.port},{silent_port}"
    forward = portforward(api.connect_get_namespaced_pod_portforward, "web", "default", ports=ports)
    sock = forward.socket(echo.port)
    sock.settimeout(10)
    sock.sendall(LARGE[:300_000])
    got = b""
    while len(got) < 300_000:
        got += sock.recv(65536)
    assert got == LARGE[:300_000]
    wait_until(lambda: forward.error(silent_port))
    assert "connection refused" in forward.error(silent_port)
    sock.close()
    wait_until(lambda: echo.open == 0)


# Each way by itself


def forward_headers(kind: str, port: int, request: int = 0) -> dict[str, str]:
    return {"streamtype": kind, "port": str(port), "requestid": str(request)}


def test_spdy(served, echo):
    client = SpdyClient(served.port, url("portforward"), "portforward.k8s.io")
    first, second = (
        [client.open(kind == "error", **forward_headers(kind, echo.port, request)) for kind in ("error", "data")]
        for request in (0, 1)
    )
    client.send(Data(second[1], b"two", fin=True))
    client.send(Data(first[1], b"one", fin=True))
    ended, got = set(), {}
    for frame in client.frames():
        if isinstance(frame, Data):
            got[frame.stream] = got.get(frame.stream, b"") + frame.payload
            ended |= {frame.stream} if frame.fin else set()
        if len(ended) == 4:
            break
    assert {stream: text for stream, text in got.items() if text} == {first[1]: b"onebye", second[1]: b"twobye"}


def test_spdy_without_request_numbers(served, silent_port):
    client = SpdyClient(served.port, url("portforward"), "portforward.k8s.io")
    error = client.open(streamtype="error", port=str(silent_port))
    client.open(streamtype="data", port=str(silent_port))
    text = next(frame.payload for frame in client.frames() if isinstance(frame, Data) and frame.stream == error)
    assert b"connection refused" in text


@pytest.mark.parametrize("headers", [{}, {"streamtype": "data"}, {"streamtype": "x", "port": "80"}] + [
    {"streamtype": "data", "port": text} for text in ("0", "65536", "-1", "80x", "\u0664")
])  # fmt: skip
def test_spdy_streams_without_a_port_are_refused(served, headers):
    client = SpdyClient(served.port, url("portforward"), "portforward.k8s.io")
    stream = client.open(**headers)
    assert [frame for _, frame in zip(range(2), client.frames(), strict=False)] == [
        SynReply(stream),
        RstStream(stream, 3),
    ]


def test_a_connection_that_the_client_gives_up(served, echo):
    client = SpdyClient(served.port, url("portforward"), "portforward.k8s.io")
    error, data = (client.open(**forward_headers(kind, echo.port)) for kind in ("error", "data"))
    client.send(Data(data, b"x"))
    assert any(frame == Data(data, b"x") for frame in client.frames())
    client.send(RstStream(data))
    assert next(frame for frame in client.frames() if isinstance(frame, Data)) == Data(error, fin=True)
    wait_until(lambda: echo.open == 0)


def test_spdy_inside_websocket_messages(served, echo):
    """Frames and messages have their own borders."""
    client = WebSocketClient(served.port, url("portforward"), "SPDY/3.1+portforward.k8s.io")
    assert client.protocol == "SPDY/3.1+portforward.k8s.io"
    writer, reader = FrameWriter(), FrameReader()
    frames = [
        SynStream(1, forward_headers("error", echo.port), fin=True),
        SynStream(3, forward_headers("data", echo.port)),
        Ping(1),
        *(Data(3, LARGE[start : start + 30_000]) for start in range(0, 300_000, 30_000)),
        Data(3, fin=True),
    ]
    wire = b"".join(writer.encode(frame) for frame in frames)
    for start in range(0, len(wire), 7001):
        client.send(wire[start : start + 7001])
    got, ended = bytearray(), set()
    for message in client.messages():
        for frame in reader.feed(message):
            if isinstance(frame, Data):
                got += frame.payload
                ended |= {frame.stream} if frame.fin else set()
        if len(ended) == 2:
            break
    assert bytes(got) == LARGE[:300_000] + b"bye"


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""])
def test_channels(served, echo, silent_port, protocol):
    path = url("portforward", ports=[echo.port, silent_port])
    client = WebSocketClient(served.port, path, *([protocol] if protocol else []))

    def message(channel: int, payload: bytes) -> bytes | str:
        return f"{channel}{base64.b64encode(payload).decode()}" if "base64" in protocol else bytes([channel]) + payload

    client.send(message(0, b"hello"))
    client.send(message(8, b"no such channel"))
    got = dict.fromkeys(range(4), b"")
    for raw in client.messages():
        channel, payload = raw[0], raw[1:]
        if "base64" in protocol:
            channel, payload = channel - ord("0"), base64.b64decode(payload)
        got[channel] += payload
        if got[0].endswith(b"hello") and b"refused" in got[3]:
            break
    assert got[0] == echo.port.to_bytes(2, "little") + b"hello"
    assert got[1] == echo.port.to_bytes(2, "little")
    assert got[3].startswith(silent_port.to_bytes(2, "little") + b"error forwarding port")


def test_refusals(served):
    for path in (url("portforward"), url("portforward", ports="80,x"), url("portforward", ports="0")):
        with pytest.raises(Refused, match="400"):
            WebSocketClient(served.port, path, "v4.channel.k8s.io")
    with pytest.raises(Refused, match="403"):
        SpdyClient(served.port, url("portforward"), "v2.portforward.k8s.io")
    served.server.store.patch(POD, "web", {"status": {"phase": "Pending"}})
    with pytest.raises(Refused, match=r"400(?s:.*)pod is not running. Current status=Pending"):
        SpdyClient(served.port, url("portforward"), "portforward.k8s.io")


def test_a_client_that_leaves_closes_the_connections(served, echo):
    client = SpdyClient(served.port, url("portforward"), "portforward.k8s.io")
    for request in range(20):
        for kind in ("error", "data"):
            client.open(**forward_headers(kind, echo.port, request))
    wait_until(lambda: echo.open == 20)
    client.socket.close()
    wait_until(lambda: echo.open == 0)
