"""The signs of life of all nodes' kubelets: each renews its Lease, and posts its node's conditions now and then.

Times are a kubelet's own: a Lease is for 40 s and renewed after a quarter of that, conditions are posted after 5 min.
https://kubernetes.io/docs/reference/node/node-status/#heartbeats
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from testbed.cluster.kinds import NODE
from testbed.cluster.namespaces import create_namespaces
from testbed.cluster.node_conditions import reported_conditions
from testbed.cluster.node_heartbeat import LEASE_DURATION_S, node_heartbeat
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.status import ApiError, NotFound
from testbed.cluster.store import Store

LOG = logging.getLogger(__name__)

_RENEW_EVERY_S = LEASE_DURATION_S / 4
_REPORT_EVERY_S = 300.0


class Heartbeats:
    """One thread for all nodes, which sleeps in between. ``kubelet_runs`` says whether there is anybody to speak for.

    ``renew_every_s`` and ``report_every_s``: how often Leases are renewed, and conditions posted.
    """

    def __init__(
        self,
        store: Store,
        nodes: Iterable[str],
        kubelet_runs: Callable[[], bool],
        renew_every_s: float = _RENEW_EVERY_S,
        report_every_s: float = _REPORT_EVERY_S,
    ) -> None:
        self._store, self._nodes, self._kubelet_runs = store, tuple(nodes), kubelet_runs
        self._renew_every_s, self._report_every_s = renew_every_s, report_every_s
        self._reported: dict[str, float] = {}
        self._registered: dict[str, JsonObject] = {}  # what each kubelet knows of its node
        self._silent: set[str] = set()
        self._lock = threading.Lock()  # held while a heartbeat is written: none comes late
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Say at once that all nodes are alive, and again and again from here on."""
        now = time.monotonic()
        self._reported = dict.fromkeys(self._nodes, now)  # by who has made the Node
        self._registered = {name: _registration(self._store.get(NODE, name)) for name in self._nodes}
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more. Idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def silence(self, node_name: str, last_lease_s: int | None = None) -> None:
        """Renew a node's Lease no more; once more, for so long, if that is given."""
        with self._lock:
            self._silent.add(node_name)
            if last_lease_s is not None:
                node_heartbeat(self._store, node_name, last_lease_s)

    def resume(self, node_name: str) -> None:
        """The node's kubelet is heard again."""
        with self._lock:
            self._silent.discard(node_name)
            node_heartbeat(self._store, node_name)

    def _run(self) -> None:
        while not self._stopping.wait(self._renew_every_s):
            self._beat()

    def _beat(self) -> None:
        if not self._kubelet_runs():
            return
        for name in self._nodes:
            try:
                with self._lock:
                    if name not in self._silent:
                        self._beat_of(name)
            except Exception as error:  # such as that the Leases' Namespace is about to go
                LOG.warning("the heartbeat of node %s: %s", name, error, exc_info=not isinstance(error, ApiError))

    def _beat_of(self, name: str) -> None:
        with suppress(NotFound):  # a person has deleted the Node
            node = self._store.get(NODE, name)
            if "addresses" not in (node.get("status") or {}):  # a person has made it, and its kubelet knows more of it
                self._store.patch(NODE, name, self._registered[name])
            elif time.monotonic() - self._reported[name] >= self._report_every_s:
                self._report(node)
        try:
            node_heartbeat(self._store, name)
        except NotFound:  # a person has deleted the Leases' Namespace
            create_namespaces(self._store)
            node_heartbeat(self._store, name)

    def _report(self, node: JsonObject) -> None:
        self._reported[object_name(node)] = time.monotonic()
        conditions = reported_conditions(node["status"].get("conditions") or (), time.time())
        self._store.patch(NODE, object_name(node), {"status": {"conditions": conditions}})


def _registration(node: JsonObject) -> JsonObject:
    """What a kubelet says of its node to those who know no more than its name."""
    metadata = {part: node["metadata"][part] for part in ("annotations", "labels") if part in node["metadata"]}
    addresses = {part: node["spec"][part] for part in ("podCIDR", "podCIDRs") if part in node.get("spec", {})}
    status = {part: value for part, value in node.get("status", {}).items() if part != "conditions"}
    return {"metadata": metadata, "spec": addresses, "status": status}
