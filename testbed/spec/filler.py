"""Services that fill a cluster: what balances connections has to know them, and nobody asks them anything.

They have no selector. Their endpoints are ports of the experiment's pods, and no two of them share one, so that
whatever grows with the number of endpoints grows as it does in a cluster full of pods. Pure: equal input gives equal
objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from testbed.cluster.objects import JsonObject, object_name, object_namespace, uses_host_network
from testbed.cluster.services import SERVICE_NAME_LABEL
from testbed.spec.models import Generate

NAMESPACE = "filler"
_SERVICE_PORT = 80
# Ports of pods that belong to no measurement: not the probes' servers' (17000 to 17999), not those that clients are
# given (20000 to 29999, and from 32768 on by Linux). A packet from a pod's port that is an endpoint's is looked at more
# closely by the bridge, and that must not happen to what is measured.
_RANGES = (range(1024, 17_000), range(18_000, 20_000), range(61_000, 65_536))


class TooManyEndpoints(Exception):
    """The pods do not have so many ports; ``most`` endpoints a Service would do."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"at most {most} endpoints a Service")


def filler_services(generate: Generate) -> list[JsonObject]:
    """The Services, still without addresses."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _name(number), "namespace": NAMESPACE},
            "spec": {"ports": [{"name": "http", "port": _SERVICE_PORT, "protocol": "TCP"}]},
        }
        for number in range(1, generate.services + 1)
    ]


def filler_slices(generate: Generate, pods: Sequence[JsonObject]) -> Iterator[JsonObject]:
    """The EndpointSlices of the Services. ``pods`` have addresses; see :func:`filler_pods` for which to give.

    One slice lists one port of up to all pods. Raises TooManyEndpoints.
    """
    if generate.endpoints == 0:
        return
    most = len(pods) * (sum(1 for _ in _free_ports(pods)) // generate.services)
    if generate.endpoints > most:
        raise TooManyEndpoints(most)
    ports = _free_ports(pods)
    for number in range(1, generate.services + 1):
        left = generate.endpoints
        for part in range(_slices_of_one(generate, len(pods))):
            size = min(left, len(pods))
            left -= size
            # Begins with another pod each time, so that all pods are used alike.
            chosen = [pods[(number + index) % len(pods)] for index in range(size)]
            yield _slice(_name(number), part, next(ports), chosen)


def filler_pods(pods: Sequence[JsonObject]) -> list[JsonObject]:
    """The pods that can be endpoints: with an address of their own, and those that a workload may take away only where
    there are no others."""
    own = [pod for pod in pods if not uses_host_network(pod) and object_namespace(pod) != "kube-system"]
    lasting = [pod for pod in own if not pod["metadata"].get("ownerReferences")]
    return lasting or own


def _slices_of_one(generate: Generate, pod_count: int) -> int:
    return -(-generate.endpoints // pod_count)


def _free_ports(pods: Sequence[JsonObject]) -> Iterator[int]:
    taken = {
        entry["containerPort"]
        for pod in pods
        for container in pod["spec"]["containers"]
        for entry in container.get("ports") or ()
    }
    return (number for number in chain(*_RANGES) if number not in taken)


def _name(number: int) -> str:
    return f"filler-{number:05d}"


def _slice(service: str, part: int, target_port: int, pods: Sequence[JsonObject]) -> JsonObject:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{part + 1}",
            "namespace": NAMESPACE,
            "labels": {SERVICE_NAME_LABEL: service},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": {"kind": "Pod", "namespace": object_namespace(pod), "name": object_name(pod)},
            }
            for pod in pods
        ],
        "ports": [{"name": "http", "port": target_port, "protocol": "TCP"}],
    }
