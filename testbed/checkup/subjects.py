"""All checks, in the order in which one layer stands on another."""

from __future__ import annotations

from collections.abc import Callable

from testbed.checkup import (
    bridges,
    dns,
    endpoints,
    latency,
    mtu,
    nodes,
    policy,
    proxy,
    reach,
    routes,
    service_answers,
    tunnel,
)
from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.errors import RunError

_CHECKS: dict[str, Callable[[RunningCluster], list[Finding]]] = {
    "nodes": nodes.check,
    "plugin": bridges.check,
    "tunnel": tunnel.check,
    "routes": routes.check,
    "pods": reach.check,
    "mtu": mtu.check,
    "endpoints": endpoints.check,
    "proxy": proxy.check,
    "services": service_answers.check,
    "dns": dns.check,
    "policy": policy.check,
    "latency": latency.check,
}


def examine(url: str, name: str) -> list[Finding]:
    """Everything there is to say of the cluster ``name`` whose API is at ``url``; to be called inside its box.

    A check that cannot look says so as a fault. Raises StateError when the objects describe no network, and what
    :class:`testbed.cluster.client.ApiClient` raises.
    """
    cluster = RunningCluster(url, name)
    found: list[Finding] = []
    for subject, check in _CHECKS.items():
        try:
            found += check(cluster)
        except (RunError, OSError) as error:
            found.append(Finding(subject, "fault", "cannot be looked at", str(error)))
    return found
