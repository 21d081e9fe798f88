"""Asks the probes of all pods, from their nodes, in one thread: sockets that wait for nothing but an answer.

A probe that runs a program in the container asks whoever runs the containers to do so.
"""

from __future__ import annotations

import errno
import heapq
import ipaddress
import itertools
import logging
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from testbed.cluster.objects import JsonObject, pod_key
from testbed.network import netns
from testbed.network.pods.probe_state import PROBE_FIELDS, ProbeKind, ProbeState
from testbed.network.pods.tls import handshake_failure, secured, wants_tls

LOG = logging.getLogger(__name__)

_LONGEST_WAIT_S = 3600.0  # what is due in a million years is no number for the system
_ANSWER_BYTES = 10 * 1024  # a kubelet reads no more of a page


@dataclass(frozen=True)
class Verdict:
    """What a container's probe says. ``changed``: it is the one that something follows from; else just a failure."""

    key: str
    uid: str
    container: str
    run: int
    kind: ProbeKind
    passed: bool
    message: str
    changed: bool


Told = Callable[[Verdict], None]
# Run a program in a container (the pod's key and uid, the container's name), within so many seconds, and tell whether
# it ended with 0, and what it said.
RunIn = Callable[[str, str, str, list[str], float, Callable[[bool, str], None]], None]


@dataclass(eq=False)
class _Probe:
    key: str
    uid: str
    container: str
    run: int
    state: ProbeState
    node: str
    address: tuple[str, int] | None
    request: bytes
    url: str
    tls: bool
    begun: float
    problem: str = ""  # why it cannot be asked at all
    gone: bool = False


@dataclass(eq=False)
class _Question:
    """A socket that waits: to be connected, then for TLS where it is wanted, then for the page."""

    probe: _Probe
    connection: socket.socket
    connected: bool = False
    asked: bool = False
    page: bytearray = field(default_factory=bytearray)
    over: bool = False


@dataclass(order=True)
class _Turn:
    due: float
    number: int
    act: Callable[[], None] = field(compare=False)


class Prober:
    """The probes of a cluster. ``told`` and ``run_in`` are called from its thread."""

    def __init__(self, told: Told, run_in: RunIn) -> None:
        self._told, self._run_in = told, run_in
        self._lock = threading.Lock()
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._probes: dict[str, dict[str, list[_Probe]]] = {}  # by the pod's uid and the container
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)

    def start(self) -> None:
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def watch(self, pod: JsonObject, container: JsonObject, run: int) -> None:
        """Begin to ask the probes of a container that has just been started for the ``run``-th time."""
        uid = str(pod["metadata"].get("uid", ""))
        self.forget(uid, container["name"])
        probes = list(_probes(uid, pod, container, run))
        if not probes:
            return
        with self._lock:
            self._probes.setdefault(uid, {})[container["name"]] = probes
        # While a startup probe has not passed, no other is asked.
        starting = [probe for probe in probes if probe.state.kind == "startup"]
        for probe in starting or probes:
            self._later(probe.state.delay_s, probe)

    def forget(self, uid: str, container: str | None = None) -> None:
        """Stop asking a pod, or one of its containers."""
        with self._lock:
            of_pod = self._probes.get(uid, {})
            for name in [container] if container is not None else list(of_pod):
                for probe in of_pod.pop(name, ()):
                    probe.gone = True
            if not of_pod:
                self._probes.pop(uid, None)

    def _later(self, delay_s: float, probe: _Probe) -> None:
        self._at(time.monotonic() + delay_s, lambda: self._ask(probe))

    def _at(self, due: float, act: Callable[[], None]) -> None:
        with self._lock:
            turn = _Turn(due, next(self._numbers), act)
            heapq.heappush(self._turns, turn)
            first = self._turns[0] is turn
        if first and threading.current_thread() is not self._thread:
            self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it is going to wake up anyway
            os.write(self._wake_write, b"\0")

    def _run(self) -> None:
        while not self._ended:
            for act in self._due():
                self._attempt(act)
            with self._lock:
                wait_s = self._turns[0].due - time.monotonic() if self._turns else _LONGEST_WAIT_S
            for key, _ in self._selector.select(min(max(0.0, wait_s), _LONGEST_WAIT_S)):
                if key.data is None:
                    with suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                else:
                    self._attempt(lambda question=key.data: self._go_on(question))  # type: ignore[misc]

    @staticmethod
    def _attempt(act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            # One probe's trouble must not end all others.
            LOG.exception("a probe failed")

    def _due(self) -> list[Callable[[], None]]:
        now = time.monotonic()
        due = []
        with self._lock:
            while self._turns and self._turns[0].due <= now:
                due.append(heapq.heappop(self._turns).act)
        return due

    # -- asking -------------------------------------------------------------------------------------------------

    def _ask(self, probe: _Probe) -> None:
        if probe.gone:
            return
        if probe.problem:
            self._take(probe, False, probe.problem)
            return
        if probe.address is None:
            command = probe.state.spec["exec"]["command"]
            self._run_in(
                probe.key,
                probe.uid,
                probe.container,
                command,
                probe.state.timeout_s,
                lambda passed, text: self._at(0.0, lambda: self._take(probe, passed, text)),
            )
            return
        try:
            with netns.entered(probe.node):
                connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._take(probe, False, str(error))
            return
        connection.setblocking(False)
        question = _Question(probe, connection)
        status = connection.connect_ex(probe.address)
        if status not in (0, errno.EINPROGRESS):
            self._answer(question, False, self._refusal(probe, status))
            return
        self._selector.register(connection, selectors.EVENT_WRITE, question)
        self._at(time.monotonic() + probe.state.timeout_s, lambda: self._time_out(question))

    def _go_on(self, question: _Question) -> None:
        probe, connection = question.probe, question.connection
        if question.over:
            return
        try:
            if not question.connected:
                if status := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._answer(question, False, self._refusal(probe, status))
                    return
                question.connected = True
                if not probe.request:
                    self._answer(question, True, "")
                    return
                if probe.tls:
                    self._secure(question)
            if not question.asked:
                self._put(question)
            else:
                self._read(question)
        except ssl.SSLWantReadError:
            self._selector.modify(question.connection, selectors.EVENT_READ, question)
        except ssl.SSLWantWriteError:
            self._selector.modify(question.connection, selectors.EVENT_WRITE, question)
        except OSError as error:
            said = handshake_failure(error) if probe.tls else error.strerror or error
            self._answer(question, False, f'Get "{probe.url}": {said}')

    def _secure(self, question: _Question) -> None:
        self._selector.unregister(question.connection)
        question.connection = secured(question.connection)
        self._selector.register(question.connection, selectors.EVENT_WRITE, question)

    def _put(self, question: _Question) -> None:
        connection = question.connection
        if isinstance(connection, ssl.SSLSocket):
            connection.do_handshake()
        connection.sendall(question.probe.request)
        question.asked = True
        self._selector.modify(connection, selectors.EVENT_READ, question)

    def _read(self, question: _Question) -> None:
        probe, connection = question.probe, question.connection
        while True:
            received = connection.recv(_ANSWER_BYTES)
            question.page += received
            line, complete, _ = bytes(question.page).partition(b"\r\n")
            if complete or not received or len(question.page) >= _ANSWER_BYTES:
                break
            if not (isinstance(connection, ssl.SSLSocket) and connection.pending()):
                return
        words = line.split()
        is_http = len(words) > 1 and words[0].startswith(b"HTTP/") and len(words[1]) == 3 and words[1].isdigit()
        status = int(words[1]) if is_http else 0
        if status == 0:
            self._answer(question, False, f'Get "{probe.url}": malformed HTTP response')
        else:
            self._answer(question, 200 <= status < 400, f"HTTP probe failed with statuscode: {status}")

    @staticmethod
    def _refusal(probe: _Probe, status: int) -> str:
        assert probe.address is not None
        text = f"dial tcp {probe.address[0]}:{probe.address[1]}: connect: {os.strerror(status).lower()}"
        return f'Get "{probe.url}": {text}' if probe.request else text

    def _time_out(self, question: _Question) -> None:
        if question.over:
            return
        probe = question.probe
        assert probe.address is not None
        if probe.request:
            waited = "while awaiting headers" if question.connected else "while waiting for connection"
            message = f'Get "{probe.url}": context deadline exceeded (Client.Timeout exceeded {waited})'
        else:
            message = f"dial tcp {probe.address[0]}:{probe.address[1]}: i/o timeout"
        self._answer(question, False, message)

    def _answer(self, question: _Question, passed: bool, message: str) -> None:
        question.over = True
        with suppress(KeyError):
            self._selector.unregister(question.connection)
        question.connection.close()
        self._take(question.probe, passed, message)

    def _take(self, probe: _Probe, passed: bool, message: str) -> None:
        if probe.gone:
            return
        state, now = probe.state, time.monotonic()
        changed = state.take(passed, now - probe.begun)
        if changed or (not passed and state.tells(now)):
            said = "" if passed else message
            self._told(Verdict(probe.key, probe.uid, probe.container, probe.run, state.kind, passed, said, changed))
        if state.kind == "startup" and state.passed:
            with self._lock:
                together = list(self._probes.get(probe.uid, {}).get(probe.container, ()))
            for other in together if probe in together else ():  # else it has been started anew meanwhile
                if other is not probe:
                    self._later(max(0.0, other.begun + other.state.delay_s - now), other)
            return
        self._later(state.next_s, probe)


def has_probe(container: JsonObject) -> bool:
    """Whether a container has any probe."""
    return any(field_name in container for field_name in PROBE_FIELDS.values())


def port_number(container: JsonObject, named_or_number: int | str) -> int:
    """A container's port by number or by its name. Raises KeyError when it has none of that name."""
    if isinstance(named_or_number, int):
        return named_or_number
    for entry in container.get("ports") or ():
        if entry.get("name") == named_or_number:
            return int(entry["containerPort"])
    if named_or_number.isdecimal():
        return int(named_or_number)
    raise KeyError(named_or_number)


def http_request(pod_ip: str, number: int, wanted: JsonObject) -> tuple[tuple[str, int], bytes, str]:
    """Whom to ask, with what, and the URL: an ``httpGet`` of a probe or a hook."""
    host = wanted.get("host") or pod_ip
    path = wanted.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    headers = {"Host": f"{host}:{number}", "User-Agent": "kube-probe/1.32", "Accept": "*/*"}
    headers |= {header["name"]: header["value"] for header in wanted.get("httpHeaders") or ()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close"]
    scheme = "https" if wants_tls(wanted) else "http"
    return (host, number), ("\r\n".join(lines) + "\r\n\r\n").encode(), f"{scheme}://{host}:{number}{path}"


def _probes(uid: str, pod: JsonObject, container: JsonObject, run: int) -> Iterator[_Probe]:
    pod_ip, node, begun = pod["status"]["podIP"], pod["spec"]["nodeName"], time.monotonic()
    for kind, name in PROBE_FIELDS.items():
        spec = container.get(name)
        if not spec:
            continue
        address, request, url, problem = None, b"", "", ""
        wanted = spec.get("httpGet") or spec.get("tcpSocket")
        if wanted:
            try:
                number = port_number(container, wanted["port"])
            except KeyError:
                number, problem = 0, f"couldn't find port: {wanted['port']}"
            if "httpGet" in spec:
                address, request, url = http_request(pod_ip, number, wanted)
            else:
                address = wanted.get("host") or pod_ip, number
            address = "127.0.0.1" if address[0] == "localhost" else address[0], number
            problem = problem or _unaskable(*address)
        elif "grpc" in spec:
            problem = "gRPC probes are not supported here"
        elif "exec" not in spec:
            continue
        state, tls = ProbeState(kind, spec), wants_tls(spec.get("httpGet") or {})
        yield _Probe(pod_key(pod), uid, container["name"], run, state, node, address, request, url, tls, begun, problem)


def _unaskable(host: str, number: int) -> str:
    """Why nobody can be asked there, if so. A name would have to be looked up, and nodes have no name server."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return f"dial tcp: lookup {host}: no such host"
    return "" if 0 < number < 1 << 16 else f"dial tcp: address {number}: invalid port"
