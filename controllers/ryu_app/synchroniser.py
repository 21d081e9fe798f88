"""Bring every connected bridge to the flows of the newest cluster state, and know what each has confirmed.

Free of sockets, threads and framework: it is told what happens (objects, connections, replies) and tells its switches
what to do. Every change of a bridge is one atomic bundle in two steps: first it is filled, and only if the switch took
every flow it is committed. So a packet meets the old table or the new one, never a part of either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from controllers.pipeline.compile import Compiler, Flows
from controllers.pipeline.diff import FlowDiff, diff_flows
from controllers.pipeline.flow import Flow
from controllers.pipeline.text import flow_text
from testbed.cluster.client import Batch
from testbed.cluster.view import ClusterView, StateError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filled:
    """A bundle that was sent. Error messages with these transaction ids are about it; ``barrier_xid`` ends it."""

    bundle_id: int
    barrier_xid: int
    flow_by_xid: Mapping[int, Flow | None]  # None: a message that is not about one flow


class Switch(Protocol):
    """A connected switch. Nothing here waits for an answer."""

    def fill(self, diff: FlowDiff, replace_all: bool) -> Filled:
        """Open a bundle with the difference; ``replace_all``: preceded by the deletion of all flows. Then a barrier."""

    def commit(self, bundle_id: int) -> Filled:
        """Commit the bundle, and a barrier."""

    def discard(self, bundle_id: int) -> None:
        """Throw the bundle away."""


@dataclass
class _Push:
    """A change on its way to a bridge."""

    target: Flows
    versions: str
    sent: Filled
    # Every message of the push: some errors about a flow come only with the commit.
    flow_by_xid: dict[int, Flow | None]
    committing: bool = False
    error: str = ""


@dataclass
class _Bridge:
    """A connection, with what the switch holds (None: unknown) and what it would not take."""

    switch: Switch
    installed: Flows | None = None
    refused: Flows | None = None
    push: _Push | None = None


class Synchroniser:
    """The controller's state. Not thread-safe: one loop calls it."""

    def __init__(self) -> None:
        self._view = ClusterView()
        self._compiler = Compiler()
        self._seen_versions = ""  # of the objects as last told
        self._versions = ""  # of the objects that the targets were computed from
        self._state_error = ""
        self._targets: dict[int, tuple[str, Flows]] = {}  # by datapath id: node name and its flows
        self._bridges: dict[int, _Bridge] = {}
        self._confirmed: dict[str, str] = {}  # by node name
        self._errors: dict[str, str] = {}  # by node name
        self._lost: set[int] = set()

    def objects_changed(self, batch: Batch) -> None:
        """Take in changes of cluster objects."""
        for event in batch.events:
            if event.type == "DELETED":
                self._view.remove(event.object)
            else:
                self._view.put(event.object)
        self._seen_versions = batch.versions

    def connected(self, datapath_id: int, switch: Switch) -> None:
        """A switch has connected; whatever it holds, it will be given its whole table."""
        self._bridges[datapath_id] = _Bridge(switch)
        self._lost.discard(datapath_id)
        if self._targets and datapath_id not in self._targets:
            LOG.warning("a bridge has connected that is no node's: datapath %016x", datapath_id)

    def disconnected(self, datapath_id: int, switch: Switch) -> None:
        """A connection has ended. It may already have been replaced by a new one."""
        bridge = self._bridges.get(datapath_id)
        if bridge is not None and bridge.switch is switch:
            del self._bridges[datapath_id]
            self._lost.add(datapath_id)
            LOG.warning("the bridge of %s is disconnected", self._name(datapath_id))

    def refused(self, datapath_id: int, switch: Switch, xid: int, reason: str) -> None:
        """The switch has answered a message with an error."""
        push = self._push_of(datapath_id, switch)
        if push is None or xid not in push.flow_by_xid:
            LOG.error("the bridge of %s reports an error about message %#x: %s", self._name(datapath_id), xid, reason)
            return
        flow = push.flow_by_xid[xid]
        text = f"{reason}: {flow_text(flow).strip()}" if flow is not None else reason
        LOG.error("the bridge of %s refuses %s", self._name(datapath_id), text)
        push.error = push.error or text

    def barrier_passed(self, datapath_id: int, switch: Switch, xid: int) -> None:
        """The switch has done everything up to a barrier."""
        push = self._push_of(datapath_id, switch)
        if push is None or xid != push.sent.barrier_xid:
            return
        bridge = self._bridges[datapath_id]
        if push.error:
            if not push.committing:
                switch.discard(push.sent.bundle_id)
            bridge.refused, bridge.push = push.target, None
        elif not push.committing:
            push.committing = True
            push.sent = switch.commit(push.sent.bundle_id)
            push.flow_by_xid.update(push.sent.flow_by_xid)
        else:
            bridge.installed, bridge.refused, bridge.push = push.target, None, None
        node_name = self._name(datapath_id)
        if bridge.push is None:
            self._settle(node_name, push.versions, push.error)

    def reconcile(self) -> None:
        """Start whatever pushes are needed and possible now. Call it after telling what has happened."""
        if self._seen_versions != self._versions:
            self._recompute()
        for datapath_id, bridge in self._bridges.items():
            if bridge.push is not None or datapath_id not in self._targets:
                continue
            node_name, target = self._targets[datapath_id]
            if target is bridge.refused:
                continue
            replace_all = bridge.installed is None
            diff = FlowDiff((), target) if bridge.installed is None else _difference(bridge.installed, target)
            if diff or replace_all:
                sent = bridge.switch.fill(diff, replace_all)
                bridge.push = _Push(target, self._versions, sent, dict(sent.flow_by_xid))
            else:
                bridge.installed = target
                self._settle(node_name, self._versions, "")

    def status(self) -> dict[str, str]:
        """What to report: by node the confirmed versions, and as ``<node>.error`` what is wrong, if anything is."""
        status = dict(self._confirmed)
        status |= {f"{name}.error": text for name, text in self._errors.items()}
        status |= {f"{self._targets[lost][0]}.error": "disconnected" for lost in self._lost if lost in self._targets}
        if self._state_error:
            status |= {f"{name}.error": self._state_error for name, _ in self._targets.values()}
        return status

    def _recompute(self) -> None:
        try:
            state = self._view.state()
        except StateError as error:
            if str(error) != self._state_error:
                LOG.error("the flows stay as they are: %s", error)
            self._state_error = str(error)
            return
        self._versions, self._state_error = self._seen_versions, ""
        flows = self._compiler.compile(state)
        self._targets = {node.datapath_id: (node.name, flows[node.name]) for node in state.nodes}
        for gone in self._confirmed.keys() - flows.keys():
            del self._confirmed[gone]
        for gone in self._errors.keys() - flows.keys():
            del self._errors[gone]

    def _settle(self, node_name: str, versions: str, error: str) -> None:
        if error:
            self._errors[node_name] = error
        else:
            self._errors.pop(node_name, None)
            self._confirmed[node_name] = versions

    def _push_of(self, datapath_id: int, switch: Switch) -> _Push | None:
        bridge = self._bridges.get(datapath_id)
        return bridge.push if bridge is not None and bridge.switch is switch else None

    def _name(self, datapath_id: int) -> str:
        known = self._targets.get(datapath_id)
        return known[0] if known else f"datapath {datapath_id:016x}"


def _difference(installed: Flows, target: Flows) -> FlowDiff:
    return FlowDiff((), ()) if target is installed else diff_flows(installed, target)
