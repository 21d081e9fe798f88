"""v1 Namespace: declares a namespace. Objects may also be in one that nobody declares."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.errors import Problem
from testbed.spec.endpoints import DNS_LABEL_FORM
from testbed.spec.manifests.fields import object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import is_dns_label, metadata_problems

FIELDS = object_fields(spec={})


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Namespace."""
    yield from metadata_problems(manifest, is_dns_label, DNS_LABEL_FORM)
    if "namespace" in (manifest.object.get("metadata") or {}):
        yield manifest.problem(("metadata", "namespace"), "has no place in a Namespace, which is in none")
