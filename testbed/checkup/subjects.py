"""All checks, in the order in which one layer stands on another."""

from __future__ import annotations

import time
from collections.abc import Callable

from testbed.checkup import (
    bridges,
    dns,
    endpoints,
    ingresses,
    latency,
    links,
    mtu,
    nodes,
    policy,
    proxy,
    reach,
    routes,
    sctp,
    service_answers,
    tunnel,
    workloads,
)
from testbed.checkup.findings import Finding, faults
from testbed.checkup.running import RunningCluster
from testbed.errors import RunError

_CHECKS: dict[str, Callable[[RunningCluster], list[Finding]]] = {
    "nodes": nodes.check,
    "links": links.check,
    "plugin": bridges.check,
    "tunnel": tunnel.check,
    "routes": routes.check,
    "pods": reach.check,
    "mtu": mtu.check,
    "workloads": workloads.check,
    "endpoints": endpoints.check,
    "proxy": proxy.check,
    "services": service_answers.check,
    "sctp": sctp.check,
    "ingresses": ingresses.check,
    "dns": dns.check,
    "policy": policy.check,
    "latency": latency.check,
}


# So long a cluster in which pods come and go is looked at again, until it stands still for a look.
_REST_S = 15.0


def examine(url: str, name: str) -> list[Finding]:
    """Everything there is to say of the cluster ``name`` whose API is at ``url``; to be called inside its box.

    A check that cannot look says so as a fault. Faults in a cluster that does not come to rest are told with a warning.
    Raises StateError when the objects describe no network, and what :class:`testbed.cluster.client.ApiClient` raises.
    """
    deadline = time.monotonic() + _REST_S
    while True:
        cluster = RunningCluster(url, name)
        found = _look(cluster)
        if not faults(found) or not cluster.has_changed():
            return found
        if time.monotonic() > deadline:
            what = "pods or Services changed during each look: a fault may be a change that is under way"
            return [
                Finding("cluster", "info", what, "", "look again when it is at rest: kubectl get pods -A -w"),
                *found,
            ]


def _look(cluster: RunningCluster) -> list[Finding]:
    found: list[Finding] = []
    for subject, check in _CHECKS.items():
        try:
            found += check(cluster)
        except (RunError, OSError) as error:
            found.append(Finding(subject, "fault", "cannot be looked at", str(error)))
    return found
