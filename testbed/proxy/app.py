"""The proxies of all nodes: objects in, targets out to one thread a node, confirmations back into the cluster's API."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path

from testbed.cluster.client import ApiClient, Batch, ListWatch, Selection
from testbed.cluster.gone_endpoints import gone_tcp_endpoints
from testbed.cluster.identity import CONFIG_NAME, CONFIG_NAMESPACE
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, NODE, SERVICE
from testbed.cluster.values import ClusterState
from testbed.cluster.view import ClusterView, StateError
from testbed.proxy import transactions
from testbed.proxy.iptables import IptablesRules
from testbed.proxy.ipvs import IpvsRules, Scheduler
from testbed.proxy.nftables import NftablesRules
from testbed.proxy.node import NodeProxy
from testbed.proxy.reporter import Reporter
from testbed.proxy.rules import Renderer, Rules, Target

LOG = logging.getLogger(__name__)

_SELECTIONS = (
    # Not the whole namespace: our own status would come back as a change.
    Selection(CONFIG_MAP, CONFIG_NAMESPACE, field_selector=f"metadata.name={CONFIG_NAME}"),
    Selection(NODE),
    Selection(SERVICE),
    Selection(ENDPOINT_SLICE),
)

_LARGE_BATCH = 1000  # events


class ProxyApp:
    """``run`` follows the cluster until something that must not fail has failed.

    ``folder`` is where the nodes' notes are kept (see :class:`testbed.proxy.node.NodeProxy`).
    """

    def __init__(self, api: ApiClient, folder: Path, scheduler: Scheduler) -> None:
        limit = transactions.limit()
        self._rules: dict[str, Rules] = {
            "iptables": IptablesRules(limit),
            "nftables": NftablesRules(limit),
            "ipvs": IpvsRules(scheduler),
        }
        self._folder = folder
        self._view = ClusterView()
        self._state: ClusterState | None = None  # as the view was last
        self._renderer: tuple[str, Renderer] | None = None
        self._nodes: dict[str, NodeProxy] = {}
        self._lock = threading.Lock()
        self._status: dict[str, str] = {}
        self._reporter = Reporter(api)
        self._objects = ListWatch(api, _SELECTIONS, self._changed)

    def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._reporter.run, name="reporter", daemon=True).start()
        self._objects.run()

    def _changed(self, batch: Batch) -> None:
        for event in batch.events:
            if event.type == "DELETED":
                self._view.remove(event.object)
            else:
                self._view.put(event.object)
        try:
            state = self._view.state()
        except StateError as error:
            LOG.error("the rules stay as they are: %s", error)
            for name in self._nodes:
                self._confirm(name, "", str(error))
            return
        targets = self._targets(state)
        gone_endpoints = gone_tcp_endpoints(self._state, state) if self._state is not None else ()
        self._state = state
        for gone in self._nodes.keys() - state.node_by_name.keys():
            self._nodes.pop(gone).stop()
            self._forget(gone)
        for node in state.nodes:
            if node.name not in self._nodes:
                self._nodes[node.name] = NodeProxy(node.name, self._rules, self._confirm, self._folder)
            self._nodes[node.name].want(targets.get(node.name), batch.versions, gone_endpoints)
        if len(batch.events) >= _LARGE_BATCH:
            # What is there now stays; a collection that looked at all of it would come just when a change does.
            gc.collect()
            gc.freeze()

    def _targets(self, state: ClusterState) -> dict[str, Target]:
        proxy = state.config.proxy
        if proxy not in self._rules:
            self._renderer = None
            return {}
        if self._renderer is None or self._renderer[0] != proxy:
            self._renderer = proxy, Renderer(proxy, self._rules[proxy])
        return self._renderer[1].targets(state)

    def _confirm(self, node_name: str, versions: str, error: str) -> None:
        """A node has been brought to the state of these versions, or was not: then its earlier confirmation stays."""
        with self._lock:
            if error:
                self._status[f"{node_name}.error"] = error
            else:
                self._status.pop(f"{node_name}.error", None)
                self._status[node_name] = versions
            self._reporter.report(dict(self._status))

    def _forget(self, node_name: str) -> None:
        with self._lock:
            self._status.pop(node_name, None)
            self._status.pop(f"{node_name}.error", None)
            self._reporter.report(dict(self._status))
