"""Where the requests to a backend go: the ready endpoints of its EndpointSlices, as a controller's nginx reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address

from testbed.cluster.ingress.values import Backend, Key
from testbed.cluster.objects import JsonObject


def endpoints_text(backends: Iterable[Backend], slices_of: Callable[[Key], Iterable[JsonObject]]) -> str:
    """A line for each backend: its key and the ``address:port`` of every ready endpoint, sorted."""
    lines = []
    for backend in sorted(backends):
        addresses = ready_addresses(backend, slices_of((backend.namespace, backend.service)))
        lines.append(" ".join([backend.key, *sorted(addresses)]))
    return "".join(f"{line}\n" for line in lines)


def ready_addresses(backend: Backend, slices: Iterable[JsonObject]) -> set[str]:
    """``address:port`` of the ready endpoints. An endpoint that says nothing of its readiness is ready."""
    found: set[str] = set()
    for wire in slices:
        # The store keeps objects that no schema has checked.
        with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
            found |= _of_slice(backend, wire)
    return found


def _of_slice(backend: Backend, wire: JsonObject) -> set[str]:
    ports = [
        int(entry["port"])
        for entry in wire.get("ports") or ()
        if (entry.get("name") or "") == backend.port_name and entry.get("protocol", "TCP") == "TCP"
    ]
    return {
        f"{IPv4Address(endpoint['addresses'][0])}:{port}"
        for endpoint in wire.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for port in ports
    }
