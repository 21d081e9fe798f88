"""The sign of life of a node's kubelet: a Lease, as Kubernetes' kubelets renew one
(https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats).

Nothing that flows are computed from changes by it, so a heartbeat costs one small write and no more.
"""

from __future__ import annotations

import time
from contextlib import suppress

from testbed.cluster.kinds import LEASE
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import AlreadyExists, NotFound
from testbed.cluster.store import Store
from testbed.cluster.timestamps import micro_timestamp

LEASE_NAMESPACE = "kube-node-lease"
LEASE_DURATION_S = 4


def node_heartbeat(store: Store, node_name: str, at_s: float | None = None) -> None:
    """Say that a node's kubelet is alive, now or at a moment in seconds since the epoch. To be called about once a
    second for each node; one that has never said so is not watched over."""
    renewed = micro_timestamp(time.time() if at_s is None else at_s)
    try:
        store.patch(LEASE, node_name, {"spec": {"renewTime": renewed}}, LEASE_NAMESPACE)
    except NotFound:
        with suppress(AlreadyExists):  # another thread was quicker
            store.create(_lease(node_name, renewed))


def _lease(node_name: str, renewed: str) -> JsonObject:
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.name,
        "metadata": {"name": node_name, "namespace": LEASE_NAMESPACE},
        "spec": {"holderIdentity": node_name, "leaseDurationSeconds": LEASE_DURATION_S, "renewTime": renewed},
    }
