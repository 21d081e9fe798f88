"""discovery.k8s.io/v1 EndpointSlice: endpoints of a Service that has no selector."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import ipv4_problems, one_of, subdomain_problems
from testbed.spec.manifests.ports import number_problems, port_names_problems, protocol_problems
from testbed.spec.source import FieldPath

# Kubernetes' limits for one slice.
_MOST_ENDPOINTS, _MOST_PORTS = 1000, 100

_ENDPOINT_FIELDS: Fields = {
    **dict.fromkeys(("addresses", "hostname", "nodeName", "targetRef", "zone")),
    "conditions": dict.fromkeys(("ready", "serving", "terminating")),
}
FIELDS = object_fields(addressType=None, endpoints=_ENDPOINT_FIELDS, ports=dict.fromkeys(("name", "protocol", "port")))


def problems(manifest: Manifest) -> Iterator[Problem]:
    """An EndpointSlice."""
    yield from subdomain_problems(manifest)
    wire = manifest.object
    yield from one_of(manifest, ("addressType",), wire["addressType"], ("IPv4",))
    endpoints, ports = wire.get("endpoints") or [], wire.get("ports") or []
    for field_name, entries, most in (("endpoints", endpoints, _MOST_ENDPOINTS), ("ports", ports, _MOST_PORTS)):
        if len(entries) > most:
            yield manifest.problem((field_name,), "has too many entries", len(entries), f"at most {most}")
    for index, endpoint in enumerate(endpoints):
        path: FieldPath = ("endpoints", index, "addresses")
        # All addresses of an endpoint are the same program's; kube-proxy takes the first, so more would mislead.
        if len(endpoint["addresses"]) != 1:
            yield manifest.problem(path, "must be one address", endpoint["addresses"])
        for number, address in enumerate(endpoint["addresses"]):
            yield from ipv4_problems(manifest, (*path, number), address)
    yield from port_names_problems(manifest, ("ports",), ports)
    for index, entry in enumerate(ports):
        here: FieldPath = ("ports", index)
        if entry.get("port") is None:
            yield manifest.problem((*here, "port"), "is required")
        yield from number_problems(manifest, (*here, "port"), entry.get("port"))
        yield from protocol_problems(manifest, here, entry)
