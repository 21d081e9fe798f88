"""How long Services take to reach the nodes' kernels, by proxy: all of them from nothing, and one change among them.

The real process (``python -m testbed.proxy``) with the real API server, in a sealed box; nodes are bare network
namespaces. All times run from the moment before the API learns of the change to the moment when proxy-status says that
every node has its rules. Every Service has one endpoint:

- from nothing: the proxy is chosen while all Services are there;
- one endpoint: one Service's endpoint is replaced by another;
- one Service: one more, with its endpoint.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

from benchmarks.boxed import boxed
from benchmarks.figures import Figure
from benchmarks.pushes import since_ms
from testbed.cluster import identity
from testbed.cluster.confirm import wait_confirmed
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import ProxyName
from testbed.cluster.view import cluster_state
from testbed.network import netns
from tests.box.ovs_harness import cluster_objects, served
from tests.box.proxy_wires import kernel_proxies, proxy_process
from tests.unit.service_objects import Endpoint, endpoint_slice, service

NODES = 4
FEW_SERVICES, MANY_SERVICES = 1000, 10_000
REPETITIONS = 10

_TIMEOUT_S = 600.0
_HOSTS = range(2, 250)


def push(proxy: ProxyName, services: int) -> dict[str, float]:
    """One proxy's times: from nothing in s, changes in ms. To be called in a box of its own."""
    cluster = cluster_objects(NODES, 0)
    state = cluster_state(cluster)
    endpoints = [Endpoint(str(node.pod_cidr[host]), node.name) for node in state.nodes for host in _HOSTS]
    with netns.home():
        for node in state.nodes:
            netns.create_and_stay(node.name)

    def made(number: int, endpoint: int) -> tuple[JsonObject, JsonObject]:
        backend = endpoints[endpoint % len(endpoints)]
        return service(number, "TCP"), endpoint_slice(number, [backend], "TCP", 8000 + endpoint // len(endpoints))

    with served(cluster) as (store, url), proxy_process(url):
        before = [store.create(wire) for number in range(services) for wire in made(number, number)]
        _wait(store, state.node_by_name, before)
        started = time.perf_counter()
        patch = {"data": {"proxy": proxy}}
        changed = store.patch(CONFIG_MAP, identity.CONFIG_NAME, patch, identity.CONFIG_NAMESPACE)
        _wait(store, state.node_by_name, [changed])
        figures = {"nothing": time.perf_counter() - started}
        replaced, added = [], []
        for number in range(REPETITIONS):
            started = time.perf_counter()
            _wait(store, state.node_by_name, [store.replace(made(number, number + 1)[1])])
            replaced.append(since_ms(started))
            started = time.perf_counter()
            new = [store.create(wire) for wire in made(services + number, number)]
            _wait(store, state.node_by_name, new)
            added.append(since_ms(started))
        return {**figures, "endpoint": statistics.median(replaced), "service": statistics.median(added)}


def _wait(store: Store, nodes: Iterable[str], changed: Iterable[JsonObject]) -> None:
    wait_confirmed(store, nodes, changed, _TIMEOUT_S, identity.PROXY_STATUS_NAME)


def figures() -> list[Figure]:
    """Every proxy that this machine's kernel has, each size in a box of its own."""
    result = []
    for proxy in kernel_proxies():
        few, many = (
            boxed(lambda proxy=proxy, count=count: push(proxy, count))  # type: ignore[misc]
            for count in (FEW_SERVICES, MANY_SERVICES)
        )
        for what, unit in (("nothing", "s"), ("endpoint", "ms"), ("service", "ms")):
            words = {"nothing": "from nothing", "endpoint": "one endpoint", "service": "one Service"}[what]
            result.append(
                Figure(
                    f"{proxy}: {words}, {MANY_SERVICES:,} Services, {NODES} nodes",
                    many[what],
                    unit,
                    few[what],
                    f"with {FEW_SERVICES:,}",
                    ratio=many[what] / few[what],
                )
            )
    return result
