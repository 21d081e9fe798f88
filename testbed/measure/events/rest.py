"""When a change is over: every pod that is wanted is there and ready, and whatever carries packets has confirmed."""

from __future__ import annotations

import time
from collections.abc import Iterator

from testbed.cluster.kinds import DEPLOYMENT, POD
from testbed.cluster.objects import pod_key
from testbed.cluster.pod_facts import is_ready
from testbed.errors import RunError
from testbed.measure.events.pods import living_pods
from testbed.measure.interface import Network

REST_LIMIT_S = 60.0
_LOOKED_AT = (POD, DEPLOYMENT)


def come_to_rest(network: Network, limit_s: float = REST_LIMIT_S) -> None:
    """Wait until everything that follows from the objects has been done. Pods of stopped nodes are not waited for.

    Raises :class:`RunError` naming what is not ready after ``limit_s``.
    """
    store, deadline = network.store, time.monotonic() + limit_s
    with store.watch(_LOOKED_AT) as watch:
        while True:
            versions, missing = store.newest_versions(_LOOKED_AT), list(_missing(network))
            if not missing:
                network.wait_settled()
                # What changed meanwhile may have to be settled, too.
                if store.newest_versions(_LOOKED_AT) == versions:
                    return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise RunError(f"the cluster is not at rest after {limit_s:g} s: {', '.join(missing) or 'it changes'}")
            watch.next(left_s)


def _missing(network: Network) -> Iterator[str]:
    """What is still to come: pods that are not ready, Deployments that roll."""
    stopped = network.stopped_nodes
    for pod in living_pods(network.store):
        if not is_ready(pod) and pod["spec"].get("nodeName") not in stopped:
            yield f"pod {pod_key(pod)} is not ready"
    for deployment in network.store.list(DEPLOYMENT).items:
        metadata, status = deployment["metadata"], deployment.get("status") or {}
        wanted = deployment["spec"].get("replicas", 1)
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        seen = status.get("observedGeneration", 0) >= metadata.get("generation", 1)
        if not seen or any(count != wanted for count in counts):
            yield f"Deployment {metadata.get('namespace', 'default')}/{metadata['name']} has not all its pods"
