"""What the Kubernetes API server refuses beyond the types of fields, in its own words.

The rules are those of the fields' documentation (https://kubernetes.io/docs/reference/kubernetes-api/), the words those
of ``k8s.io/kubernetes/pkg/apis/core/validation`` and its siblings (Apache License 2.0), so that what one finds on the
web about a message holds here, too. What the testbed refuses for reasons of its own is said by
:mod:`testbed.cluster.admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from testbed.apiserver.checks.configuration import configuration_problems
from testbed.apiserver.checks.endpoints import endpoint_slice_problems, endpoints_problems
from testbed.apiserver.checks.metadata import metadata_problems
from testbed.apiserver.checks.pods import pod_change_problems, pod_problems
from testbed.apiserver.checks.services import service_change_problems, service_problems
from testbed.apiserver.checks.words import Problem
from testbed.apiserver.checks.workloads import workload_change_problems, workload_problems
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, ENDPOINTS, POD, SECRET, SERVICE, Kind
from testbed.cluster.objects import JsonObject

_OWN: dict[Kind, Callable[[JsonObject], Iterator[Problem]]] = {
    SERVICE: service_problems,
    CONFIG_MAP: configuration_problems,
    SECRET: configuration_problems,
    ENDPOINTS: endpoints_problems,
    ENDPOINT_SLICE: endpoint_slice_problems,
}


def object_problems(kind: Kind, wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with an object. The types of its fields are right; fields that are required may be missing."""
    yield from metadata_problems(kind, wire)
    if kind in _OWN:
        yield from _OWN[kind](wire)
    yield from workload_problems(kind, wire)
    yield from pod_problems(kind, wire)


def change_problems(kind: Kind, new: JsonObject, old: JsonObject) -> Iterator[Problem]:
    """What of an object cannot be changed once it is there."""
    if kind is POD:
        yield from pod_change_problems(new, old)
    elif kind is SERVICE:
        yield from service_change_problems(new, old)
    yield from workload_change_problems(kind, new, old)


__all__ = ["Problem", "change_problems", "object_problems"]
