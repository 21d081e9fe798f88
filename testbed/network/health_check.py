"""What an outside load balancer asks every node: whether it has an endpoint of a Service with a Local traffic policy.

Such a Service has a ``healthCheckNodePort``; every node answers there by HTTP as kube-proxy does, with 200 if it has
ready endpoints of the Service and 503 if not (an endpoint that is ending does not count, so that a load balancer turns
away while the connections that it still sends are served, see Kubernetes KEP-1669).
https://kubernetes.io/docs/tasks/access-application-cluster/create-external-load-balancer/#preserving-the-client-source-ip
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.cluster.values import ClusterState, IPAddress
from testbed.errors import RunError
from testbed.network import netns

_BACKLOG = 64
_MAX_REQUEST = 8192
# A client that does not finish its request is cut off.
_REQUEST_S = 10.0
_REASONS = {200: "OK", 503: "Service Unavailable"}


class CheckPoint(NamedTuple):
    """Where one check is answered."""

    node_name: str
    health_check_node_port: int


class Health(NamedTuple):
    """What is answered there: how many of a Service's endpoints on the node are ready."""

    namespace: str
    name: str
    local_endpoints: int


def health_checks(state: ClusterState) -> dict[CheckPoint, Health]:
    """All checks that a cluster's nodes have to answer. Pure."""
    ready: dict[CheckPoint, tuple[str, str, set[IPAddress]]] = {}
    for entry in state.service_ports:
        if entry.health_check_node_port is None:
            continue
        # A Service's ports share the check; an endpoint counts once, whatever the number of ports.
        for node in state.nodes:
            point = CheckPoint(node.name, entry.health_check_node_port)
            ready.setdefault(point, (entry.namespace, entry.name, set()))
        for endpoint in entry.endpoints:
            point = CheckPoint(endpoint.node_name, entry.health_check_node_port)
            if endpoint.ready and point in ready:
                ready[point][2].add(endpoint.endpoint_ip)
    return {point: Health(namespace, name, len(found)) for point, (namespace, name, found) in ready.items()}


def response(health: Health, proxy_is_healthy: bool) -> bytes:
    """The answer to any request, with kube-proxy's headers and body."""
    usable = health.local_endpoints > 0 and proxy_is_healthy
    status = 200 if usable else 503
    body = (
        "{\n"
        '\t"service": {\n'
        f'\t\t"namespace": "{health.namespace}",\n'
        f'\t\t"name": "{health.name}"\n'
        "\t},\n"
        f'\t"localEndpoints": {health.local_endpoints},\n'
        f'\t"serviceProxyHealthy": {str(proxy_is_healthy).lower()}\n'
        "}"
    )
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        "Content-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"X-Load-Balancing-Endpoint-Weight: {health.local_endpoints}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return (head + body).encode()


@dataclass
class _Conversation:
    """A client's connection until its request is complete."""

    point: CheckPoint
    connection: socket.socket
    deadline: float
    request: bytearray = field(default_factory=bytearray)


class HealthChecks:
    """Answers on all nodes, from one thread. ``proxy_is_healthy`` tells whether Services are being programmed."""

    def __init__(self, proxy_is_healthy: Callable[[], bool]) -> None:
        self._proxy_is_healthy = proxy_is_healthy
        self._lock = threading.Lock()  # guards everything below; not held while waiting for clients
        self._health: dict[CheckPoint, Health] = {}
        self._listeners: dict[CheckPoint, socket.socket] = {}
        self._conversations: dict[int, _Conversation] = {}
        self._selector = selectors.DefaultSelector()
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="health-checks", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Answer no longer."""
        with self._lock:
            self._stopped = True
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join()
        for listener in self._listeners.values():
            listener.close()
        for conversation in self._conversations.values():
            conversation.connection.close()
        self._selector.close()
        os.close(self._wake)

    def update(self, state: ClusterState) -> None:
        """Answer by this state from now on. Raises RunError naming the Services whose port a node cannot give them."""
        wanted = health_checks(state)
        with self._lock:
            self._health = wanted
            for point in self._listeners.keys() - wanted.keys():
                listener = self._listeners.pop(point)
                self._selector.unregister(listener)
                listener.close()
            troubles = self._listen(wanted.keys() - self._listeners.keys(), wanted)
        if troubles:
            raise RunError("; ".join(troubles))

    def _listen(self, points: Iterable[CheckPoint], wanted: Mapping[CheckPoint, Health]) -> list[str]:
        troubles = []
        by_node = defaultdict(list)
        for point in sorted(points):
            by_node[point.node_name].append(point)
        for node_name, of_node in by_node.items():
            with netns.entered(node_name):
                for point in of_node:
                    try:
                        listener = socket.create_server(("", point.health_check_node_port), backlog=_BACKLOG)
                    except OSError as error:
                        health = wanted[point]
                        troubles.append(
                            f"Service {health.namespace}/{health.name}: healthCheckNodePort "
                            f"{point.health_check_node_port} on node {node_name}: {error.strerror}"
                        )
                        continue
                    listener.setblocking(False)
                    self._listeners[point] = listener
                    self._selector.register(listener, selectors.EVENT_READ, point)
        return troubles

    def _run(self) -> None:
        while True:
            ready = self._selector.select(_REQUEST_S if self._conversations else None)
            with self._lock:
                if self._stopped:
                    return
                for key, _ in ready:
                    # What was closed meanwhile is not there any more.
                    if self._selector.get_map().get(key.fd) is key:
                        self._serve(key)
                self._cut_off(time.monotonic())

    def _serve(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, CheckPoint):
            with suppress(OSError):  # the client has gone again
                connection, _ = self._listeners[key.data].accept()
                connection.setblocking(False)
                conversation = _Conversation(key.data, connection, time.monotonic() + _REQUEST_S)
                self._conversations[connection.fileno()] = conversation
                self._selector.register(connection, selectors.EVENT_READ, conversation)
        elif isinstance(key.data, _Conversation):
            self._read(key.data)

    def _read(self, conversation: _Conversation) -> None:
        """Take in what has come; answer when the request's head is complete, and end the conversation."""
        try:
            data = conversation.connection.recv(_MAX_REQUEST)
            conversation.request += data
            complete = b"\r\n\r\n" in conversation.request
            if data and not complete and len(conversation.request) < _MAX_REQUEST:
                return
            health = self._health.get(conversation.point)
            if complete and health is not None:
                answer = response(health, self._proxy_is_healthy())
                head_only = conversation.request.startswith(b"HEAD ")
                # A new connection's buffer holds far more than this.
                conversation.connection.send(answer.partition(b"{")[0] if head_only else answer)
        except BlockingIOError:
            return
        except OSError:
            pass  # the client has gone
        self._end(conversation)

    def _end(self, conversation: _Conversation) -> None:
        del self._conversations[conversation.connection.fileno()]
        self._selector.unregister(conversation.connection)
        conversation.connection.close()

    def _cut_off(self, now: float) -> None:
        for conversation in [entry for entry in self._conversations.values() if entry.deadline <= now]:
            self._end(conversation)
