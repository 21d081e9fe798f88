"""v1 Service (https://kubernetes.io/docs/concepts/services-networking/service/).

What its fields may say together, and which addresses and node ports are free, is asked of the cluster's own allocator,
for all Services at once (see :mod:`testbed.spec.check_services`).
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.objects import JsonObject
from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import (
    DNS_1035_LABEL_FORM,
    is_dns_1035_label,
    label_problems,
    metadata_problems,
)

_SPEC_FIELDS: Fields = {
    **dict.fromkeys(("type", "selector", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "externalName")),
    **dict.fromkeys(("sessionAffinity", "sessionAffinityConfig", "publishNotReadyAddresses")),
    **dict.fromkeys(("internalTrafficPolicy", "externalTrafficPolicy", "healthCheckNodePort")),
    **dict.fromkeys(("loadBalancerIP", "allocateLoadBalancerNodePorts")),
    "ports": dict.fromkeys(("name", "protocol", "port", "targetPort", "nodePort")),
}
FIELDS = object_fields(spec=_SPEC_FIELDS)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Service's name, namespace, labels and selector."""
    yield from metadata_problems(manifest, is_dns_1035_label, DNS_1035_LABEL_FORM)
    yield from label_problems(manifest, ("spec", "selector"), manifest.spec.get("selector") or {})


def service_type(spec: JsonObject) -> str:
    """The Service's type, with Kubernetes' default."""
    return str(spec.get("type") or "ClusterIP")
