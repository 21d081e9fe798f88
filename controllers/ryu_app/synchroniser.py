"""Bring every connected bridge to the program of the newest cluster state, and know what each has confirmed.

Free of sockets, threads and framework: it is told what happens (objects, connections, replies) and tells its switches
what to do. Every change of a bridge is one atomic bundle in two steps: first it is filled, and only if the switch took
every flow and group it is committed. So a packet meets the old program or the new one, never a part of either. What the
switch does not take is left out, with everything else of its subject, and the rest is sent again without it. After the
commit the tracked connections go whose endpoint is no longer used, and only then the change is confirmed. A little
later they are looked for once more, because a switch goes on using cached decisions for a moment after the barrier.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from controllers.pipeline.compile import Compiler
from controllers.pipeline.flow import Flow, Group
from controllers.pipeline.program import NOTHING, Program, ProgramDiff, diff_programs
from controllers.ryu_app.left_out import LeftOut, item_text
from controllers.ryu_app.stale_connections import EVERY_UDP_TRANSLATION, StaleConnections, Translation, UdpDigest
from testbed.cluster.client import Batch
from testbed.cluster.store import Event
from testbed.cluster.values import ClusterState
from testbed.cluster.view import ClusterView, StateError

LOG = logging.getLogger(__name__)

_UDP_DIGEST = "udp"  # the name of a status entry

Item = Flow | Group | None  # what a message is about; None: not one flow or group


@dataclass(frozen=True)
class Sent:
    """Messages with transaction ids in a row from ``first_xid`` on; the last, with ``barrier_xid``, is a barrier.

    ``items`` are what the first messages are about. ``too_large`` could not be sent, because no message holds them.
    """

    first_xid: int
    barrier_xid: int
    items: Sequence[Item] = ()
    too_large: Sequence[Item] = ()

    def has(self, xid: int) -> bool:
        return self.first_xid <= xid <= self.barrier_xid

    def item(self, xid: int) -> Item:
        position = xid - self.first_xid
        return self.items[position] if 0 <= position < len(self.items) else None


class Switch(Protocol):
    """A connected switch. Nothing here waits for an answer."""

    def fill(self, diff: ProgramDiff, replace_all: bool) -> Sent:
        """Open a bundle with the difference; ``replace_all``: preceded by the deletion of everything. Then a barrier.

        The bundle's id is the first message's transaction id.
        """

    def commit(self, bundle_id: int, stale: Sequence[Translation]) -> Sent:
        """Commit the bundle, then remove the tracked connections that were translated so, and a barrier.

        The first message is the commit.
        """

    def discard(self, bundle_id: int) -> None:
        """Throw the bundle away."""

    def flush(self, stale: Sequence[Translation]) -> None:
        """Remove the tracked connections that were translated so."""


class Recheck(NamedTuple):
    """That a bridge's stale connections are to be removed once more, when its cached decisions are gone."""

    datapath_id: int
    switch: Switch
    old: ClusterState


class _Target(NamedTuple):
    """What a bridge is to hold."""

    node_name: str
    program: Program
    state: ClusterState
    udp_digest: str


@dataclass
class _Push:
    """A change on its way to a bridge. ``program`` is the target's without what the switch has refused before."""

    target: _Target
    program: Program
    versions: str
    filled: Sent
    sent: Sent  # what went last
    committing: bool = False
    refused: list[tuple[Flow | Group, str]] = field(default_factory=list)
    failure: str = ""  # an error that is about no one flow or group
    flush_failure: str = ""

    @property
    def bundle_id(self) -> int:
        return self.filled.first_xid

    def has(self, xid: int) -> bool:
        # Some errors about a flow come only with the commit.
        return self.filled.has(xid) or self.sent.has(xid)


@dataclass
class _Bridge:
    """A connection, with what the switch holds (None: unknown) and what it would not take."""

    switch: Switch
    installed: Program | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    refused: Program | None = None
    flush_failure: str = ""
    push: _Push | None = None

    @property
    def error(self) -> str:
        return "; ".join(filter(None, (str(self.left_out), self.flush_failure)))


class Synchroniser:
    """The controller's state. Not thread-safe: one loop calls it."""

    def __init__(self) -> None:
        self._view = ClusterView()
        self._compiler = Compiler()
        self._seen_versions = ""  # of the objects as last told
        self._versions = ""  # of the objects that the targets were computed from
        self._state_error = ""
        self._targets: dict[int, _Target] = {}  # by datapath id
        self._bridges: dict[int, _Bridge] = {}
        # By datapath id the state whose Services the bridge's tracked connections may belong to. It outlives a
        # connection to the switch, as those connections do.
        self._carried: dict[int, ClusterState] = {}
        # By node name what bridges had confirmed to an earlier controller; None if there was none.
        self._inherited: Mapping[str, str] | None = None
        self._stale: tuple[ClusterState, ClusterState, StaleConnections] | None = None  # the last comparison
        self._rechecks: list[Recheck] = []
        self._udp_digest = UdpDigest()
        self._confirmed: dict[str, str] = {}  # by node name
        self._confirmed_udp: dict[str, str] = {}  # by node name
        self._errors: dict[str, str] = {}  # by node name
        self._lost: set[int] = set()

    def inherit(self, status: Mapping[str, str] | None) -> None:
        """Learn what an earlier controller had reported (None: there was none), before anything of the objects."""
        self._inherited = status

    def objects_changed(self, batch: Batch) -> None:
        """Take in changes of cluster objects."""
        self._take_in(batch.events)
        self._seen_versions = batch.versions

    def prepare(self, events: Iterable[Event]) -> None:
        """Take in a part of many changes and compute what follows from it, but do nothing with that yet.

        So that computing a large change need not be done in one go. :meth:`objects_changed` with the last part follows.
        """
        self._take_in(events)
        with suppress(StateError):
            self._compiler.compile(self._view.state())

    def _take_in(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.type == "DELETED":
                self._view.remove(event.object)
            else:
                self._view.put(event.object)

    def connected(self, datapath_id: int, switch: Switch) -> None:
        """A switch has connected; whatever it holds, it will be given its whole program."""
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
        if push is None or not push.has(xid):
            LOG.error("the bridge of %s reports an error about message %#x: %s", self._name(datapath_id), xid, reason)
            return
        item = push.filled.item(xid)
        if item is not None:
            push.refused.append((item, reason))
        elif push.committing and xid > push.sent.first_xid:
            push.flush_failure = reason
        else:
            push.failure = push.failure or reason

    def barrier_passed(self, datapath_id: int, switch: Switch, xid: int) -> None:
        """The switch has done everything up to a barrier."""
        push = self._push_of(datapath_id, switch)
        if push is None or xid != push.sent.barrier_xid:
            return
        bridge = self._bridges[datapath_id]
        if push.refused or push.failure:
            if not push.committing and push.filled.items:
                switch.discard(push.bundle_id)
            self._leave_out(bridge, push)
        elif push.committing:
            self._end(datapath_id, bridge, push)
        else:
            old = self._carried.get(datapath_id)
            stale = self._stale_on(push.target, old) if old is not None else self._stale_since_inherited(push)
            push.committing, push.sent = True, switch.commit(push.bundle_id, stale)
            if stale and old is not None:
                self._rechecks.append(Recheck(datapath_id, switch, old))

    def reconcile(self) -> Iterator[None]:
        """Start whatever pushes are needed and possible now, one at each step. After telling what has happened."""
        # While all bridges are busy more may come, to be computed and pushed together.
        is_idle = any(bridge.push is None for bridge in self._bridges.values())
        if self._seen_versions != self._versions and (is_idle or not self._bridges):
            self._recompute()
        for datapath_id, bridge in self._bridges.items():
            target = self._targets.get(datapath_id)
            if bridge.push is not None or target is None or target.program is bridge.refused:
                continue
            program = bridge.left_out.without(target.program)
            replace_all = bridge.installed is None
            diff = diff_programs(bridge.installed or NOTHING, program)
            if diff or replace_all:
                sent = bridge.switch.fill(diff, replace_all)
                bridge.push = _Push(target, program, self._versions, sent, sent)
                bridge.push.refused += [(item, "no OpenFlow message holds it") for item in sent.too_large if item]
                yield
            else:
                bridge.installed, bridge.refused = program, None
                self._settle(target, self._versions, bridge.error)

    def take_rechecks(self) -> list[Recheck]:
        """Those that have become necessary since this was asked last; do each by :meth:`recheck`."""
        taken, self._rechecks = self._rechecks, []
        return taken

    def recheck(self, wanted: Recheck) -> None:
        """Remove again what was stale then and is stale still."""
        bridge, target = self._bridges.get(wanted.datapath_id), self._targets.get(wanted.datapath_id)
        carried = self._carried.get(wanted.datapath_id)
        if bridge is None or bridge.switch is not wanted.switch or target is None or carried is None:
            return
        stale = self._stale_on(target._replace(state=carried), wanted.old)
        if stale:
            bridge.switch.flush(stale)

    def status(self) -> dict[str, str]:
        """What to report: by node the confirmed versions, and as ``<node>.error`` what is wrong, if anything is.

        Confirmed is everything but what the error names. ``<node>.udp`` is for the controller that comes after this.
        """
        status = dict(self._confirmed)
        status |= {f"{name}.{_UDP_DIGEST}": text for name, text in self._confirmed_udp.items()}
        for datapath_id, target in self._targets.items():
            wrong = [
                self._state_error,
                "disconnected" if datapath_id in self._lost else "",
                *self._compiler.problems,
                self._errors.get(target.node_name, ""),
            ]
            if any(wrong):
                status[f"{target.node_name}.error"] = "; ".join(filter(None, wrong))
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
        programs = self._compiler.compile(state)
        digest = self._udp_digest.of(state)
        self._targets = {
            node.datapath_id: _Target(node.name, programs[node.name], state, digest) for node in state.nodes
        }
        for by_name in (self._confirmed, self._confirmed_udp, self._errors):
            for gone in by_name.keys() - programs.keys():
                del by_name[gone]
        for datapath_id in self._carried.keys() - self._targets.keys():
            del self._carried[datapath_id]

    def _leave_out(self, bridge: _Bridge, push: _Push) -> None:
        """A push has failed: the next one goes without what the switch has refused, if that is known."""
        bridge.push = None
        for item, reason in push.refused:
            LOG.error("the bridge of %s refuses %s: %s", push.target.node_name, item_text(item), reason)
        if bridge.left_out.add(push.program, push.target.state, push.refused):
            return
        text = push.failure or "; ".join(f"{item_text(item)}: {reason}" for item, reason in push.refused)
        LOG.error("the bridge of %s refuses the change: %s", push.target.node_name, text)
        bridge.refused = push.target.program
        self._errors[push.target.node_name] = text

    def _end(self, datapath_id: int, bridge: _Bridge, push: _Push) -> None:
        """A push is done, with or without something that could not be done."""
        bridge.push, bridge.refused, bridge.installed = None, None, push.program
        failure = push.flush_failure
        bridge.flush_failure = f"cannot remove tracked connections: {failure}" if failure else ""
        self._carried[datapath_id] = push.target.state
        self._settle(push.target, push.versions, bridge.error)

    def _stale_on(self, target: _Target, old: ClusterState) -> tuple[Translation, ...]:
        """The tracked connections of a node that a change from an old state to the target's makes stale."""
        if self._stale is None or self._stale[0] is not old or self._stale[1] is not target.state:
            self._stale = (old, target.state, StaleConnections(old, target.state))
        return self._stale[2].on(target.node_name)

    def _stale_since_inherited(self, push: _Push) -> tuple[Translation, ...]:
        """What may be stale on a bridge that an earlier controller programmed, for which state is not known.

        Unless UDP Services are as they were then, all of their connections may be. Those that are not are given to an
        endpoint anew. TCP's are left alone: an open one would be broken.
        """
        if self._inherited is None:
            return ()
        before = self._inherited.get(f"{push.target.node_name}.{_UDP_DIGEST}", "")
        return () if before == push.target.udp_digest else (EVERY_UDP_TRANSLATION,)

    def _settle(self, target: _Target, versions: str, error: str) -> None:
        self._confirmed[target.node_name] = versions
        self._confirmed_udp[target.node_name] = target.udp_digest
        if error:
            self._errors[target.node_name] = error
        else:
            self._errors.pop(target.node_name, None)

    def _push_of(self, datapath_id: int, switch: Switch) -> _Push | None:
        bridge = self._bridges.get(datapath_id)
        return bridge.push if bridge is not None and bridge.switch is switch else None

    def _name(self, datapath_id: int) -> str:
        known = self._targets.get(datapath_id)
        return known.node_name if known else f"datapath {datapath_id:016x}"
