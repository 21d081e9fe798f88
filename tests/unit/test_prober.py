"""Probes that cannot be asked, or are answered oddly: they fail, and the others go on. Probes and hooks by HTTPS."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import nullcontext, suppress
from queue import SimpleQueue

import pytest

from testbed.network.ingress.certificates import self_signed
from testbed.network.pods.hooks import ask_page
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


@pytest.fixture
def asked_securely():
    """The first lines of what was asked by TLS."""
    return []


@pytest.fixture
def secure_port(tmp_path, asked_securely):
    """A port where pages are answered by TLS alone, ``/absent`` by 404, with a certificate that nobody has signed."""
    (tmp_path / "own.pem").write_bytes(self_signed("web"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                line = secured.recv(4096).partition(b"\r\n")[0]
                asked_securely.append(line)
                absent = line.startswith(b"GET /absent")
                secured.sendall(b"HTTP/1.1 404 x\r\n\r\n" if absent else b"HTTP/1.1 200 x\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


POD = {
    "metadata": {"name": "web", "namespace": "default", "uid": "1"},
    "spec": {"nodeName": "n1"},
    "status": {"podIP": "127.0.0.1"},
}


def container(name, **probe):
    return {"name": name, "readinessProbe": {"periodSeconds": 1, "failureThreshold": 1, **probe}}


def test_one_odd_probe_ends_no_other(prober, port):
    odd = {
        "answer": {"httpGet": {"path": "/odd", "port": port}},
        "number": {"tcpSocket": {"port": "99999"}},
        "named": {"httpGet": {"port": "web"}},
        "host": {"tcpSocket": {"host": "example", "port": 80}},
        "late": {"tcpSocket": {"port": port}, "initialDelaySeconds": 2**31 - 1},
    }
    for name, probe in odd.items():
        prober.watch(POD, container(name, **probe), 1)
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
    prober.watch(POD, container("good", httpGet={"host": "localhost", "port": port}), 1)
    while (verdict := prober.verdicts.get(timeout=_WAIT_S)).container != "good":
        pass
    assert verdict.passed


def test_https_is_asked_by_tls_and_nothing_else_passes(prober, port, secure_port):
    asked = {
        "good": {"port": secure_port},
        "absent": {"port": secure_port, "path": "/absent"},
        "plain": {"port": port},
    }
    for name, wanted in asked.items():
        prober.watch(POD, container(name, httpGet={"scheme": "HTTPS", **wanted}), 1)
    said = {}
    while len(said) < 3:
        verdict = prober.verdicts.get(timeout=_WAIT_S)
        said[verdict.container] = (verdict.passed, verdict.message)
    assert said == {
        "good": (True, ""),
        "absent": (False, "HTTP probe failed with statuscode: 404"),
        "plain": (False, f'Get "https://127.0.0.1:{port}/": http: server gave HTTP response to HTTPS client'),
    }


def test_a_grpc_probe_fails_and_says_that_nobody_asks_it(prober):
    spec = {"name": "main", "livenessProbe": {"grpc": {"port": 80}, "failureThreshold": 1, "periodSeconds": 1}}
    prober.watch(POD, spec, 1)
    verdict = prober.verdicts.get(timeout=_WAIT_S)
    assert (verdict.passed, verdict.message) == (False, "gRPC probes are not supported here")


def test_a_hook_by_https_asks_by_tls_and_without_where_nobody_speaks_it(prober, port, secure_port, asked_securely):
    answers = SimpleQueue()
    for number in (secure_port, port):
        wanted = {"port": number, "scheme": "HTTPS"}
        ask_page("n1", "127.0.0.1", {}, wanted, _WAIT_S, lambda *answer: answers.put(answer))
        assert answers.get(timeout=_WAIT_S) == (True, "")
    assert asked_securely == [b"GET / HTTP/1.1"]
