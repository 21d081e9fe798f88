"""Lifecycle hooks that ask for a page (https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/)."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable

from testbed.cluster.objects import JsonObject
from testbed.network import netns
from testbed.network.pods.probes import http_request, port_number
from testbed.network.pods.tls import is_plain, secured, wants_tls

_MOST_BYTES = 10 * 1024  # a kubelet reads no more of an answer


def ask_page(
    node: str, pod_ip: str, container: JsonObject, wanted: JsonObject, limit_s: float, done: Callable[[bool, str], None]
) -> None:
    """Ask once, from the node, in a thread of its own; ``done`` is called there with whether anything was answered."""
    deadline = time.monotonic() + limit_s

    def ask() -> None:
        try:
            address, request, _ = http_request(pod_ip, port_number(container, wanted.get("port", 80)), wanted)
            if not (wants_tls(wanted) and exchange(address, request, True)):
                exchange(address, request, False)
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:  # also what is no host, and no port
            done(False, str(error))
            return
        done(True, "")

    def exchange(address: tuple[str, int], request: bytes, tls: bool) -> bool:
        """Whether the other end speaks TLS, if it is to; one that does not is asked without, as a kubelet does."""
        with netns.entered(node):
            plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with plain:
            plain.settimeout(max(0.001, deadline - time.monotonic()))
            plain.connect(address)
            with secured(plain) if tls else plain as connection:
                if isinstance(connection, ssl.SSLSocket):
                    try:
                        connection.do_handshake()
                    except ssl.SSLError as error:
                        if is_plain(error):
                            return False
                        raise
                connection.sendall(request)
                received = 0
                while received < _MOST_BYTES and (data := connection.recv(_MOST_BYTES)):
                    received += len(data)
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
        return True

    threading.Thread(target=ask, name="hook", daemon=True).start()
