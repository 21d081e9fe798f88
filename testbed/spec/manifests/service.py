"""v1 Service (https://kubernetes.io/docs/concepts/services-networking/service/).

What its fields may say is the cluster's own to judge (:mod:`testbed.cluster.service_rules`). Which addresses and node
ports are in range and free is asked for all Services at once (see :mod:`testbed.spec.check_services`).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from ipaddress import IPv4Network

from testbed.cluster.objects import JsonObject
from testbed.cluster.service_rules import service_problems, set_defaults
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


# Every address is in range: which are is the experiment's to say.
_ANYWHERE = IPv4Network("0.0.0.0/0")


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Service, by itself."""
    yield from metadata_problems(manifest, is_dns_1035_label, DNS_1035_LABEL_FORM)
    yield from label_problems(manifest, ("spec", "selector"), manifest.spec.get("selector") or {})
    wire = {"metadata": {}, "spec": {}, **deepcopy(manifest.object)}
    set_defaults(wire, _ANYWHERE)
    for problem in service_problems(wire, _ANYWHERE, _ANYWHERE):
        if problem.field != "metadata.name":
            yield manifest.refusal(problem)


def service_type(spec: JsonObject) -> str:
    """The Service's type, with Kubernetes' default."""
    return str(spec.get("type") or "ClusterIP")
