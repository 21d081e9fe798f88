"""The sign of life of a node's kubelet: a Lease, as Kubernetes' kubelets renew one
(https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats).

Nothing that flows are computed from changes by it, so a heartbeat costs one small write and no more.
"""

from __future__ import annotations

import time
from contextlib import suppress

from testbed.cluster.kinds import LEASE, NODE
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.status import AlreadyExists, NotFound
from testbed.cluster.store import Store
from testbed.cluster.timestamps import micro_timestamp

LEASE_NAMESPACE = "kube-node-lease"
LEASE_DURATION_S = 40


def node_heartbeat(store: Store, node_name: str, duration_s: int = LEASE_DURATION_S) -> None:
    """Say that a node's kubelet is alive now, and is to be missed when it has said nothing more for ``duration_s``.

    A node that is not in the store has no Lease; a kubelet that has never renewed one is not watched over. Raises
    NotFound when the Leases' Namespace is not there, Forbidden when it is about to go.
    """
    renewed = {"renewTime": micro_timestamp(time.time()), "leaseDurationSeconds": duration_s}
    try:
        store.patch(LEASE, node_name, {"spec": renewed}, LEASE_NAMESPACE)
    except NotFound:
        try:
            node = store.get(NODE, node_name)
        except NotFound:
            return
        with suppress(AlreadyExists):  # another thread was quicker
            store.create(_lease(node, renewed))


def _lease(node: JsonObject, renewed: JsonObject) -> JsonObject:
    name = object_name(node)
    owner = {"apiVersion": NODE.api_version, "kind": NODE.name, "name": name, "uid": node["metadata"]["uid"]}
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.name,
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
        "spec": {"holderIdentity": name, **renewed},
    }
