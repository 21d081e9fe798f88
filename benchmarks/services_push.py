"""How long Services take to reach the bridges: 10,000 of them from nothing, and one endpoint of one of 1,000.

Real ovs-vswitchd processes, one a node, the real API server and the real controller process, in a sealed box, with Ryu
and with os-ken. All times run from the moment before the API learns of the change to the moment when
controller-status says that all bridges have confirmed it by barrier, so the way of the status back is in them:

- from nothing: 4 bridges are connected and have their nodes' flows; then all Services and EndpointSlices are created.
  No endpoint is behind two Services, which is the most that there can be: 100,000 to know an answer by on every bridge.
- one endpoint: of 1,000 Services on 20 nodes one loses an endpoint, or gets it back. For UDP this includes the flushing
  of tracked connections.

Memory is the peak of the processes' resident set (``VmHWM``), after everything of "from nothing".
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.boxed import boxed
from benchmarks.figures import Figure, at_most
from benchmarks.pushes import controlled_bridges, since_ms
from controllers.pipeline import compile_all
from controllers.ryu_app.library import PACKAGES
from testbed.cluster.confirm import wait_confirmed
from testbed.cluster.identity import BRIDGE
from testbed.cluster.kinds import NODE
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState
from testbed.cluster.view import cluster_state
from testbed.network.openvswitch import VSwitch
from tests.box.ovs_harness import Controller, cluster_objects
from tests.unit.service_objects import Endpoint, endpoint_slice, service

MANY_NODES, MANY_SERVICES = 4, 10_000
FEW_NODES, FEW_SERVICES = 20, 1000
ENDPOINTS = 10
REPETITIONS = 30
LIMIT_FROM_NOTHING_S, LIMIT_ONE_ENDPOINT_MS = 15, 20

_TIMEOUT_S = 120.0
_PODS_PER_NODE = 250
_FIRST_TARGET_PORT = 8000
_PROTOCOLS = ("TCP", "UDP")


def from_nothing(library: str) -> dict[str, float]:
    """One framework's figures for many Services. To be called in a box of its own."""
    cluster = cluster_objects(MANY_NODES, 0)
    services = _services(cluster_state(cluster), MANY_SERVICES, ("TCP",))
    started = time.perf_counter()
    programs = compile_all(cluster_state([*cluster, *services]))
    compile_s = time.perf_counter() - started
    size = len(programs["n1"].flows()), len(programs["n1"].groups())
    del programs
    with _connected(cluster, library) as (store, switches, controller):
        started = time.perf_counter()
        created = [store.create(wire) for wire in services]
        wait_confirmed(store, switches, created, _TIMEOUT_S)
        elapsed_s = time.perf_counter() - started
        for switch in switches.values():
            installed = switch.flow_count(), switch.ofctl("dump-groups", BRIDGE).count("group_id=")
            assert installed == size, f"{installed} flows and groups are installed, {size} were compiled"
        return {
            "elapsed": elapsed_s,
            "compile": compile_s,
            "flows": size[0],
            "controller": _peak_mb(controller.process.pid),
            "switch": max(_peak_mb(int((entry.directory / "vswitchd.pid").read_text())) for entry in switches.values()),
        }


def one_endpoint(library: str) -> dict[str, float]:
    """One framework's times for one change among few Services, in ms. To be called in a box of its own."""
    cluster = cluster_objects(FEW_NODES, 0)
    services = _services(cluster_state(cluster), FEW_SERVICES, _PROTOCOLS)
    figures: dict[str, float] = {}
    with _connected(cluster, library) as (store, switches, _):
        wait_confirmed(store, switches, [store.create(wire) for wire in services], _TIMEOUT_S)
        slices = [wire for wire in services if wire["kind"] == "EndpointSlice"]
        for position, protocol in enumerate(_PROTOCOLS):
            times_ms = []
            for number in range(REPETITIONS):
                whole = slices[position + number // 2 * len(_PROTOCOLS)]
                wire = whole if number % 2 else {**whole, "endpoints": whole["endpoints"][1:]}
                started = time.perf_counter()
                changed = store.replace(wire)
                wait_confirmed(store, switches, [changed], _TIMEOUT_S)
                times_ms.append(since_ms(started))
            figures |= {protocol: statistics.median(times_ms), f"{protocol}_worst": max(times_ms)}
    return figures


def figures() -> list[Figure]:
    """Both frameworks' figures, each measured in boxes of its own."""
    result = []
    for library in PACKAGES:
        found = boxed(lambda library=library: from_nothing(library))  # type: ignore[misc]
        size = f"{MANY_SERVICES:,} Services with {ENDPOINTS} endpoints each, {MANY_NODES} nodes"
        result += [
            at_most(
                LIMIT_FROM_NOTHING_S,
                f"{library}: {size}, {found['flows']:,.0f} flows a bridge, from nothing to confirmed",
                found["elapsed"],
                "s",
                found["compile"],
                "compiling alone",
            ),
            Figure(
                f"{library}: memory for that, the controller", found["controller"], "MB", found["switch"], "a vswitchd"
            ),
        ]
        found = boxed(lambda library=library: one_endpoint(library))  # type: ignore[misc]
        for protocol in _PROTOCOLS:
            result.append(
                at_most(
                    LIMIT_ONE_ENDPOINT_MS,
                    f"{library}: one {protocol} endpoint, {FEW_SERVICES:,} Services, {FEW_NODES} nodes"
                    f" (median of {REPETITIONS})",
                    found[protocol],
                    "ms",
                    found[f"{protocol}_worst"],
                    "worst",
                )
            )
    return result


@contextmanager
def _connected(cluster: Sequence[JsonObject], library: str) -> Iterator[tuple[Store, dict[str, VSwitch], Controller]]:
    """Bridges without pods or Services that the controller has confirmed."""
    with controlled_bridges(cluster, cluster_state(cluster), library) as (store, switches, controller):
        wait_confirmed(store, switches, store.list(NODE).items, _TIMEOUT_S)
        yield store, switches, controller


def _services(state: ClusterState, count: int, protocols: Sequence[str]) -> list[JsonObject]:
    """Services with their slices. A pod is behind several, but by another port each time."""
    pods = [
        Endpoint(str(node.pod_cidr[host]), node.name) for host in range(2, 2 + _PODS_PER_NODE) for node in state.nodes
    ]
    per_round = len(pods) // ENDPOINTS
    made: list[JsonObject] = []
    for number in range(count):
        protocol = protocols[number % len(protocols)]
        first = number % per_round * ENDPOINTS
        target_port = _FIRST_TARGET_PORT + number // per_round
        made.append(service(number, protocol))
        made.append(endpoint_slice(number, pods[first : first + ENDPOINTS], protocol, target_port))
    return made


def _peak_mb(pid: int) -> float:
    """The most memory that a process has had resident, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
