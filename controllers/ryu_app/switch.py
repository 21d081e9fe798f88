"""A switch as the synchroniser sees it, over a connection of the framework."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from controllers.pipeline.flow import Flow, Learn
from controllers.pipeline.program import PartsDiff, ProgramDiff
from controllers.pipeline.tables import DNAT_ZONE
from controllers.ryu_app import encode
from controllers.ryu_app.encode_flush import PASSES, flush_connections
from controllers.ryu_app.framework import ofproto
from controllers.ryu_app.stale_connections import Translation
from controllers.ryu_app.synchroniser import Item, Sent

# A switch that leaves this many requests unanswered, ECHO_INTERVAL_S apart, is dead; one more for so many bytes of a
# bundle, which it works through before it answers.
UNANSWERED_ECHOES = 2
ECHO_INTERVAL_S = 2.0
_BYTES_PER_ECHO = 2_000_000

# A modification as it goes on the wire, and what it is about.
Messages = list[tuple[encode.Modification, Item]]


class Encoder:
    """Encodes a difference once for all switches that it goes to, until it is told to ``forget``."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[PartsDiff, tuple[Messages, ...]]] = {}

    def steps(self, diff: PartsDiff) -> tuple[Messages, ...]:
        """The messages of a difference in four steps, in whose order a switch can take them.

        Groups that are new or changed go first, and those that are gone last, because a flow can only lead to a group
        that is there, and because deleting a group deletes the flows that lead to it.
        """
        known = self._known.get(id(diff))
        if known is None:
            known = self._known[id(diff)] = (diff, _steps(diff))
        return known[1]

    def forget(self) -> None:
        """Let go of everything encoded: what is asked for again will be another difference."""
        self._known.clear()


def _steps(diff: PartsDiff) -> tuple[Messages, ...]:
    groups: Messages = [(encode.add_group(group), group) for group in diff.added_groups]
    groups += [(encode.modify_group(group), group) for group in diff.modified_groups]
    removed: Messages = [(encode.delete_flow(flow), flow) for flow in diff.removed_flows]
    added: Messages = [(encode.add_flow(flow), flow) for flow in diff.added_flows]
    gone: Messages = [(encode.delete_group(group), group) for group in diff.removed_groups]
    return groups, removed, added, gone


def _flushing(first_xid: int, stale: Sequence[Translation]) -> list[bytes]:
    entries = [entry for _ in range(PASSES) for entry in stale]
    return [flush_connections(xid, DNAT_ZONE, entry) for xid, entry in enumerate(entries, start=first_xid)]


def _learns(flow: Flow) -> bool:
    return Learn.__name__ in flow.table.actions


class OpenFlowSwitch:
    """Sends bundles; each method is one write, however many messages that is."""

    def __init__(self, datapath: Any, encoder: Encoder) -> None:
        self._datapath, self._encoder = datapath, encoder

    def fill(self, diff: ProgramDiff, replace_all: bool) -> Sent:
        modifications: Messages = []
        if replace_all:
            learning = [flow for flow in (*diff.common.added_flows, *diff.own.added_flows) if _learns(flow)]
            modifications += [(message, None) for message in encode.delete_everything(learning)]
        for steps in zip(self._encoder.steps(diff.common), self._encoder.steps(diff.own), strict=True):
            modifications += chain(*steps)
        if replace_all:
            modifications.append((encode.release_learned(), None))
        too_large = [item for message, item in modifications if encode.is_too_large(message)]
        if too_large:
            modifications = [entry for entry in modifications if not encode.is_too_large(entry[0])]
        # The first message opens the bundle: Open vSwitch needs no message, and no answer, for that alone.
        first_xid = self._reserve_xids(len(modifications) + 1)
        messages = [
            encode.bundle_add(xid, first_xid, message)
            for xid, (message, _) in enumerate(modifications, start=first_xid)
        ]
        return self._send(first_xid, messages, [item for _, item in modifications], too_large)

    def commit(self, bundle_id: int, stale: Sequence[Translation]) -> Sent:
        first_xid = self._reserve_xids(PASSES * len(stale) + 2)
        messages = [encode.bundle_commit(first_xid, bundle_id), *_flushing(first_xid + 1, stale)]
        return self._send(first_xid, messages)

    def discard(self, bundle_id: int) -> None:
        self._datapath.send(encode.bundle_discard(self._reserve_xids(1), bundle_id))

    def flush(self, stale: Sequence[Translation]) -> None:
        first_xid = self._reserve_xids(PASSES * len(stale))
        self._datapath.send(b"".join(_flushing(first_xid, stale)))

    def _send(
        self, first_xid: int, messages: list[bytes], items: Sequence[Item] = (), too_large: Sequence[Item] = ()
    ) -> Sent:
        """Write messages with xids in a row, followed by a barrier."""
        barrier_xid = first_xid + len(messages)
        data = b"".join([*messages, encode.barrier(barrier_xid)])
        self._be_patient(len(data))
        self._datapath.send(data)
        return Sent(first_xid, barrier_xid, items, too_large)

    def _be_patient(self, size_bytes: int) -> None:
        """Let the switch leave more requests for an echo unanswered: it answers after all that was sent before."""
        allowed = UNANSWERED_ECHOES + size_bytes // _BYTES_PER_ECHO
        self._datapath.max_unreplied_echo_requests = max(allowed, len(self._datapath.unreplied_echo_requests))

    def _reserve_xids(self, count: int) -> int:
        """The first of so many numbers. The framework counts up the same one for the messages it sends itself."""
        if self._datapath.xid + count > ofproto.MAX_XID:
            self._datapath.xid = 0
        first = int(self._datapath.xid) + 1
        self._datapath.xid += count
        return first
