"""``program``: how long it takes until a change of one endpoint is in force everywhere."""

from __future__ import annotations

import copy
import time

from testbed.cluster.kinds import ENDPOINT_SLICE
from testbed.cluster.objects import JsonObject
from testbed.cluster.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from testbed.measure.interface import Network
from testbed.measure.probes.base import Context, Result
from testbed.measure.process import ProbeFailure


def run(context: Context) -> Result:
    """``program_ms``: from the write of an EndpointSlice to the API until every bridge, or every node's kernel proxy,
    has confirmed. One endpoint of one Service goes and comes back in turn, until the duration is over.

    The slice is one that no loop keeps, so that what is written is what is programmed: of a Service without selector,
    such as those that a build generates.
    """
    network = context.network
    whole = _free_slice(network)
    less = copy.deepcopy(whole)
    less["endpoints"] = less["endpoints"][:-1]
    times_ms: list[float] = []
    begin = time.monotonic()
    try:
        while not times_ms or time.monotonic() - begin < context.probe.duration_s:
            times_ms += [_program_ms(network, less), _program_ms(network, whole)]
    except BaseException:
        network.apply([whole])
        raise
    return Result((("program_ms", times_ms),))


def _program_ms(network: Network, wanted: JsonObject) -> float:
    begin = time.perf_counter_ns()
    network.wait_confirmed(network.apply([wanted]))
    return (time.perf_counter_ns() - begin) / 1e6


def _free_slice(network: Network) -> JsonObject:
    """A slice with an endpoint that no loop keeps, without what the API server fills in."""
    for found in network.store.list(ENDPOINT_SLICE).items:
        labels = found["metadata"].get("labels", {})
        if SERVICE_NAME_LABEL in labels and MANAGED_BY_LABEL not in labels and found.get("endpoints"):
            wanted = copy.deepcopy(found)
            for field in ("resourceVersion", "uid", "creationTimestamp", "generation"):
                wanted["metadata"].pop(field, None)
            return wanted
    raise ProbeFailure("no Service without selector has an endpoint to change; let the build generate some")
