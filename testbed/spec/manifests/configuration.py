"""v1 ConfigMap and Secret: what pods get as variables and files."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.config_rules import config_problems
from testbed.cluster.identity import CONFIG_NAME, CONFIG_NAMESPACE, PROXY_STATUS_NAME, STATUS_NAME
from testbed.errors import Problem
from testbed.spec.manifests.fields import object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import subdomain_problems

CONFIG_MAP_FIELDS = object_fields(**dict.fromkeys(("data", "binaryData", "immutable")))
SECRET_FIELDS = object_fields(**dict.fromkeys(("data", "stringData", "type", "immutable")))

_CLUSTERS_OWN = (CONFIG_NAME, STATUS_NAME, PROXY_STATUS_NAME)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A ConfigMap or Secret."""
    yield from subdomain_problems(manifest)
    yield from map(manifest.refusal, config_problems(manifest.object))
    if manifest.kind == "ConfigMap" and manifest.namespace == CONFIG_NAMESPACE and manifest.name in _CLUSTERS_OWN:
        message = f"is the cluster's own in the namespace {CONFIG_NAMESPACE}"
        yield manifest.problem(("metadata", "name"), message, manifest.name)
