"""v1 Endpoints: the older form of an EndpointSlice, named after its Service, which has no selector."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import ipv4_problems, subdomain_problems
from testbed.spec.manifests.ports import number_problems, port_names_problems, protocol_problems
from testbed.spec.source import FieldPath

_ADDRESS_FIELDS: Fields = dict.fromkeys(("ip", "hostname", "nodeName", "targetRef"))
FIELDS = object_fields(
    subsets={
        "addresses": _ADDRESS_FIELDS,
        "notReadyAddresses": _ADDRESS_FIELDS,
        "ports": dict.fromkeys(("name", "protocol", "port")),
    }
)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """An Endpoints object."""
    yield from subdomain_problems(manifest)
    for index, subset in enumerate(manifest.object.get("subsets") or ()):
        path: FieldPath = ("subsets", index)
        for field_name in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(field_name) or ()):
                yield from ipv4_problems(manifest, (*path, field_name, number, "ip"), address["ip"])
        ports = subset.get("ports") or []
        yield from port_names_problems(manifest, (*path, "ports"), ports)
        for number, entry in enumerate(ports):
            yield from number_problems(manifest, (*path, "ports", number, "port"), entry["port"])
            yield from protocol_problems(manifest, (*path, "ports", number), entry)
