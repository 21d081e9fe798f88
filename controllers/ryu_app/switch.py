"""A switch as the synchroniser sees it, over a connection of the framework."""

from __future__ import annotations

from typing import Any

from controllers.pipeline.diff import FlowDiff
from controllers.pipeline.flow import Flow
from controllers.ryu_app import encode
from controllers.ryu_app.framework import ofproto
from controllers.ryu_app.synchroniser import Filled


class OpenFlowSwitch:
    """Sends bundles; each method is one write, however many messages that is."""

    def __init__(self, datapath: Any) -> None:
        self._datapath = datapath

    def fill(self, diff: FlowDiff, replace_all: bool) -> Filled:
        bundle_id = self._next_xid()
        flow_by_xid: dict[int, Flow | None] = {bundle_id: None}
        messages = [encode.bundle_open(bundle_id, bundle_id)]
        if replace_all:
            xid = self._next_xid()
            flow_by_xid[xid] = None
            messages.append(encode.bundle_add(xid, bundle_id, encode.delete_all_flows(xid)))
        for flows, message in ((diff.removed, encode.delete_flow), (diff.added, encode.add_flow)):
            for flow in flows:
                xid = self._next_xid()
                flow_by_xid[xid] = flow
                messages.append(encode.bundle_add(xid, bundle_id, message(xid, flow)))
        return self._send(messages, bundle_id, flow_by_xid)

    def commit(self, bundle_id: int) -> Filled:
        xid = self._next_xid()
        return self._send([encode.bundle_commit(xid, bundle_id)], bundle_id, {xid: None})

    def discard(self, bundle_id: int) -> None:
        self._datapath.send(encode.bundle_discard(self._next_xid(), bundle_id))

    def _send(self, messages: list[bytes], bundle_id: int, flow_by_xid: dict[int, Flow | None]) -> Filled:
        barrier_xid = self._next_xid()
        self._datapath.send(b"".join([*messages, encode.barrier(barrier_xid)]))
        return Filled(bundle_id, barrier_xid, flow_by_xid)

    def _next_xid(self) -> int:
        # The framework counts up the same number for the messages it sends itself.
        self._datapath.xid = (self._datapath.xid + 1) & ofproto.MAX_XID
        return int(self._datapath.xid)
