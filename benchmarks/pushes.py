"""What the benchmarks share that time how soon a change of objects is in force."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState
from testbed.network.openvswitch import VSwitch
from tests.box.ovs_harness import Controller, served, start_bridges, start_controller, start_networks


def since_ms(started: float) -> float:
    """Milliseconds since a reading of ``time.perf_counter``."""
    return (time.perf_counter() - started) * 1e3


@contextmanager
def controlled_bridges(
    objects: Iterable[JsonObject], state: ClusterState, library: str
) -> Iterator[tuple[Store, dict[str, VSwitch], Controller]]:
    """An API with these objects, a controller with one of the frameworks, and a bridge for each node of the state.

    To be used in a box of its own. The bridges have no pods, and are not waited for.
    """
    with served(objects) as (store, url):
        start_networks()
        controller = start_controller(url, library)
        yield store, start_bridges(state, ports=False), controller
        controller.kill()
