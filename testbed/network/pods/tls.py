"""TLS as kubelets speak it in probes and hooks: whoever answers is believed
(https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#http-probes)."""

from __future__ import annotations

import socket
import ssl
from functools import cache

from testbed.cluster.objects import JsonObject


def wants_tls(wanted: JsonObject) -> bool:
    """Whether an ``httpGet`` is to be asked by HTTPS."""
    return str(wanted.get("scheme") or "HTTP").upper() == "HTTPS"


def secured(connection: socket.socket) -> ssl.SSLSocket:
    """The same connection with TLS on it; the handshake is still to be made."""
    return _context().wrap_socket(connection, do_handshake_on_connect=False, suppress_ragged_eofs=True)


def is_plain(error: ssl.SSLError) -> bool:
    """Whether a handshake has failed because the other end speaks no TLS: what is no record has no version either."""
    return error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def handshake_failure(error: OSError) -> str:
    """What went wrong in a handshake, in a kubelet's words where they are known."""
    if isinstance(error, ssl.SSLError):
        if is_plain(error):
            return "http: server gave HTTP response to HTTPS client"
        return f"tls: {(error.reason or 'handshake failure').lower().replace('_', ' ')}"
    return error.strerror or str(error) or "EOF"


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
