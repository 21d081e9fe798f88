"""Probes that cannot be asked, or are answered oddly: they fail, and the others go on."""

from __future__ import annotations

import socket
import threading
from contextlib import nullcontext, suppress
from queue import SimpleQueue

import pytest

from testbed.network.pods.probes import Prober

_WAIT_S = 10


@pytest.fixture
def prober(monkeypatch):
    monkeypatch.setattr("testbed.network.netns.entered", lambda name: nullcontext())
    verdicts = SimpleQueue()
    prober = Prober(verdicts.put, lambda *_: pytest.fail("no program is to be run"))
    prober.start()
    prober.verdicts = verdicts
    yield prober
    prober.stop()


@pytest.fixture
def port():
    """A port where one page is answered by bytes that are no HTTP, and all others as they should be."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    odd = b"GET /odd" in connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 " + b"9" * 5000 + b" x\r\n\r\n" if odd else b"HTTP/1.1 204 x\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def container(name, **probe):
    return {"name": name, "readinessProbe": {"periodSeconds": 1, "failureThreshold": 1, **probe}}


def test_one_odd_probe_ends_no_other(prober, port):
    pod = {
        "metadata": {"name": "web", "namespace": "default", "uid": "1"},
        "spec": {"nodeName": "n1"},
        "status": {"podIP": "127.0.0.1"},
    }
    odd = {
        "answer": {"httpGet": {"path": "/odd", "port": port}},
        "number": {"tcpSocket": {"port": "99999"}},
        "named": {"httpGet": {"port": "web"}},
        "host": {"tcpSocket": {"host": "example", "port": 80}},
        "late": {"tcpSocket": {"port": port}, "initialDelaySeconds": 2**31 - 1},
    }
    for name, probe in odd.items():
        prober.watch(pod, container(name, **probe), 1)
    said = {}
    while len(said) < 4:  # a second failure in a row is told
        verdict = prober.verdicts.get(timeout=_WAIT_S)
        assert not verdict.passed and verdict.uid == "1"
        said[verdict.container] = verdict.message
    assert said.pop("answer").endswith("malformed HTTP response")
    assert said == {
        "number": "dial tcp: address 99999: invalid port",
        "named": "couldn't find port: web",
        "host": "dial tcp: lookup example: no such host",
    }
    prober.watch(pod, container("good", httpGet={"host": "localhost", "port": port}), 1)
    while (verdict := prober.verdicts.get(timeout=_WAIT_S)).container != "good":
        pass
    assert verdict.passed
