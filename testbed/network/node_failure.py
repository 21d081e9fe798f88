"""Nodes that fail: no packet gets in or out any more, and nobody tells the cluster, which has to find out by itself.

A node fails by an experiment's will (stop, start), or because all its links to the fabric are down.
The node's programs go on unseen, as those of a node whose network has failed. Its kubelet is silent: the cluster gives
the node up when its Lease is over (:mod:`testbed.cluster.node_loop`), and what is wanted of its pods meanwhile is done
when it comes back. The last Lease of a node that is stopped is a tenth as long as usual, because an experiment does not
wait for 40 s.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

from testbed.cluster.kinds import NODE
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.store import Store
from testbed.errors import RunError
from testbed.network import netns
from testbed.network.heartbeats import Heartbeats
from testbed.network.kubelet import Kubelet

_TABLE = "inet testbed_failure"
# Before every other chain, and final. What the bridge puts into tunnels leaves by the node's own output, too.
_CUT_OFF = f"""table {_TABLE} {{
  chain arriving {{ type filter hook prerouting priority -1000; policy drop; }}
  chain leaving {{ type filter hook output priority -1000; policy drop; }}
}}
"""
_LAST_LEASE_S = 4
_NFT_S, _READY_S = 30, 30.0


class NodeFailures:
    """Stops nodes and lets them come back. May be used by several threads.

    ``restore_routes`` brings back a node's routes by links that are up again, of which the interfaces are given.
    """

    def __init__(
        self,
        store: Store,
        kubelet: Kubelet,
        heartbeats: Heartbeats,
        restore_routes: Callable[[str, frozenset[str]], None],
    ) -> None:
        self._store, self._kubelet, self._heartbeats = store, kubelet, heartbeats
        self._restore_routes = restore_routes
        self._stopped: set[str] = set()
        self._cut_off: set[str] = set()  # those without a link
        self._lock = threading.Lock()

    @property
    def stopped(self) -> frozenset[str]:
        """The nodes that are stopped now."""
        return frozenset(self._stopped)

    @property
    def silent(self) -> frozenset[str]:
        """The nodes whose kubelet is not heard now."""
        return frozenset(self._stopped | self._cut_off)

    def links_changed(self, name: str, up: frozenset[str]) -> None:
        """Only these interfaces of a node still lead into the fabric. Raises NetlinkError when routes are refused."""
        with self._lock:
            if not up:
                self._cut_off.add(name)
                self._kubelet.silence(name)
                self._heartbeats.silence(name)
                return
            try:
                self._restore_routes(name, up)
            finally:
                self._cut_off.discard(name)
                if name not in self._stopped:
                    self._kubelet.resume(name)
                    self._heartbeats.resume(name)

    def stop(self, name: str) -> None:
        """Cut a node off. Raises RunError when it is stopped already, or the kernel refuses."""
        with self._lock:
            if name in self._stopped:
                raise RunError(f"node {name} is stopped already")
            _nft(name, _CUT_OFF)
            self._stopped.add(name)
            self._kubelet.silence(name)
            self._heartbeats.silence(name, _LAST_LEASE_S)

    def start(self, name: str) -> None:
        """Let a stopped node come back; returns when the cluster has found out. Raises RunError when it does not."""
        with self._lock:
            if name not in self._stopped:
                raise RunError(f"node {name} is not stopped")
            if name in self._cut_off:
                raise RunError(f"node {name} cannot come back: its links to the fabric are down")
            _nft(name, f"delete table {_TABLE}")
            self._stopped.discard(name)
            self._kubelet.resume(name)
            deadline = time.monotonic() + _READY_S
            with self._store.watch(NODE) as watch:
                self._heartbeats.resume(name)
                while not is_ready(self._store.get(NODE, name)):
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        raise RunError(f"node {name} is back, and not ready after {_READY_S:g} s")
                    watch.next(left_s)


def _nft(node: str, rules: str) -> None:
    with netns.entered(node):
        done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=_NFT_S)
    if done.returncode:
        raise RunError(f"nft: {node}: {done.stderr.strip()}")
