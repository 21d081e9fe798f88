"""Names of chains, sets and maps: derived from what they are for, as kube-proxy derives them (``pkg/proxy``).

So a rule here and a rule on a real cluster's node bear the same name for the same Service. Names may have 28 characters
(iptables) or 255 (nftables), hence the hashes.
"""

from __future__ import annotations

import base64
import hashlib

from testbed.cluster.values import ServiceEndpoint, ServicePort

_IPTABLES_HASH = 16
_NFTABLES_HASH = 8
_NFTABLES_READABLE = 100  # characters of a name that are there to be read; the hash makes it unique


def service_port_name(port: ServicePort) -> str:
    """``namespace/name:port``, or without the colon where the port has no name."""
    return f"{port.service_key}:{port.port_name}" if port.port_name else port.service_key


def endpoint_text(endpoint: ServiceEndpoint) -> str:
    return f"{endpoint.endpoint_ip}:{endpoint.target_port}"


def _digest(port: ServicePort, *more: str) -> str:
    text = "".join((service_port_name(port), port.protocol.lower(), *more))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()


def iptables_chain(prefix: str, port: ServicePort) -> str:
    """For example ``KUBE-SVC-`` and a hash of the Service's port."""
    return f"KUBE-{prefix}-{_digest(port)[:_IPTABLES_HASH]}"


def iptables_endpoint_chain(port: ServicePort, endpoint: ServiceEndpoint) -> str:
    """``KUBE-SEP-`` and a hash of the Service's port and the endpoint."""
    return f"KUBE-SEP-{_digest(port, endpoint_text(endpoint))[:_IPTABLES_HASH]}"


def nftables_name(prefix: str, port: ServicePort) -> str:
    """For example ``service-ULMVA6XW-ns1/web/tcp/http``: the start of the hash, and words for the reader."""
    return f"{prefix}-{_digest(port)[:_NFTABLES_HASH]}-{_words(port)}"


def nftables_endpoint_name(prefix: str, port: ServicePort, endpoint: ServiceEndpoint) -> str:
    """For example ``endpoint-5OJB2KTY-ns1/web/tcp/http__10.244.1.2/80``."""
    digest = _digest(port, endpoint_text(endpoint))[:_NFTABLES_HASH]
    return f"{prefix}-{digest}-{_words(port)}__{endpoint.endpoint_ip}/{endpoint.target_port}"


def _words(port: ServicePort) -> str:
    return f"{port.service_key}/{port.protocol.lower()}/{port.port_name}"[:_NFTABLES_READABLE]
