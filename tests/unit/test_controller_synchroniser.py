"""The controller's decisions, with switches that only remember what they were told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controllers.pipeline.compile import compile_program
from controllers.pipeline.flow import Flow, Group, ToGroup
from controllers.pipeline.program import Program, ProgramDiff, apply_program_diff
from controllers.pipeline.text import flow_text
from controllers.ryu_app.stale_connections import EVERY_UDP_TRANSLATION, Translation
from controllers.ryu_app.synchroniser import Item, Sent, Synchroniser
from testbed.cluster.assign import assign
from testbed.cluster.client import Batch
from testbed.cluster.identity import CONFIG_NAME
from testbed.cluster.store import Event
from testbed.cluster.values import ClusterState, Mode, NetworkConfig
from testbed.cluster.view import cluster_state
from tests.unit.cluster_objects import edge_nodes, pod
from tests.unit.service_objects import Endpoint, cluster_ip, with_endpoints

XIDS = count(1)
FOREIGN = ["a flow somebody else put there"]

Held = frozenset[Any]  # what a switch holds: flows and groups


def everything(program: Program) -> Held:
    return frozenset((*program.flows(), *program.groups()))


class FakeSwitch:
    """A switch that takes bundles, refuses what it is told to refuse, and answers when it is asked to."""

    def __init__(self, synchroniser: Synchroniser, datapath_id: int) -> None:
        self._synchroniser, self._datapath_id = synchroniser, datapath_id
        self.held: Held = frozenset(FOREIGN)
        self.pushes: list[tuple[ProgramDiff, bool]] = []
        self.commits = 0
        self.flushed: list[Translation] = []
        self.refuses: Callable[[Any], bool] = lambda item: False
        self.refuses_commit_of: Callable[[Any], bool] = lambda item: False
        self.refuses_all = False
        self.refuses_flush = False
        self.largest_group = 100
        self._open: dict[int, Held] = {}
        self._filled: dict[int, Sent] = {}
        self._unanswered: list[tuple[Sent, list[int]]] = []

    def fill(self, diff: ProgramDiff, replace_all: bool) -> Sent:
        self.pushes.append((diff, replace_all))
        ours = [] if replace_all else [item for item in self.held if item not in FOREIGN]
        flows, groups = apply_program_diff(
            {item.key: item for item in ours if isinstance(item, Flow)},
            {item.group_id: item for item in ours if isinstance(item, Group)},
            diff,
        )
        items: list[Flow | Group] = []
        for part in (diff.common, diff.own):
            items += (*part.added_groups, *part.modified_groups, *part.removed_flows, *part.added_flows)
        too_large = [item for item in items if isinstance(item, Group) and len(item.buckets) > self.largest_group]
        items = [item for item in items if item not in too_large]
        messages: list[Item] = [*([None] if replace_all else []), *items]
        xids = [next(XIDS) for _ in range(max(1, len(messages)))]
        errors = [xid for xid, item in zip(xids, messages, strict=False) if item is not None and self.refuses(item)]
        sent = self._sent(xids[0], errors, messages, too_large)
        if messages:
            self._open[xids[0]] = frozenset((*flows.values(), *groups.values()))
            self._filled[xids[0]] = sent
        return sent

    def commit(self, bundle_id: int, stale: Sequence[Translation]) -> Sent:
        xid, flush_xid = next(XIDS), next(XIDS)
        held, filled = self._open.pop(bundle_id), self._filled.pop(bundle_id)
        # As Open vSwitch does: at the first message that fails it ends, names that message, then the commit.
        failing = [number for number, item in enumerate(filled.items) if item and self.refuses_commit_of(item)]
        if self.refuses_all or failing:
            return self._sent(xid, [*(filled.first_xid + number for number in failing[:1]), xid])
        self._assert_whole(held)
        self.held = held
        self.commits += 1
        if stale and not self.refuses_flush:
            self.flush(stale)
        return self._sent(xid, [flush_xid] if stale and self.refuses_flush else [])

    def discard(self, bundle_id: int) -> None:
        del self._open[bundle_id], self._filled[bundle_id]

    def flush(self, stale: Sequence[Translation]) -> None:
        self.flushed += stale

    @staticmethod
    def _assert_whole(held: Held) -> None:
        """No flow leads to a group that is not there: a switch refuses that."""
        groups = {item.group_id for item in held if isinstance(item, Group)}
        actions = [action for item in held if isinstance(item, Flow) for action in item.actions]
        assert {action.group_id for action in actions if isinstance(action, ToGroup)} <= groups

    def _sent(
        self, first_xid: int, errors: list[int], items: Sequence[Item] = (), too_large: Sequence[Item] = ()
    ) -> Sent:
        sent = Sent(first_xid, next(XIDS), items, too_large)
        self._unanswered.append((sent, errors))
        return sent

    @property
    def is_idle(self) -> bool:
        return not self._unanswered and not self._open

    def answer(self) -> None:
        """Answer what was sent first: errors, then the barrier."""
        sent, errors = self._unanswered.pop(0)
        for xid in errors:
            self._synchroniser.refused(self._datapath_id, self, xid, "OFPET_BAD_ACTION")
        self._synchroniser.barrier_passed(self._datapath_id, self, sent.barrier_xid)


class Rig:
    """A synchroniser, the objects it was told of, and its switches."""

    def __init__(self) -> None:
        self.synchroniser = Synchroniser()
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.switches: dict[int, FakeSwitch] = {}
        self.version = 0

    def put(self, *wires: dict[str, Any]) -> str:
        """Tell of objects; returns the version under which that becomes confirmed."""
        for wire in wires:
            self.objects[wire["kind"], wire["metadata"]["name"]] = wire
        return self._tell([Event("MODIFIED", wire) for wire in wires])

    def remove(self, kind: str, name: str) -> str:
        return self._tell([Event("DELETED", self.objects.pop((kind, name)))])

    def _tell(self, events: list[Event]) -> str:
        self.version += 1
        self.synchroniser.objects_changed(Batch(tuple(events), f"Pod={self.version}"))
        return f"Pod={self.version}"

    def connect(self, datapath_id: int) -> FakeSwitch:
        switch = self.switches[datapath_id] = FakeSwitch(self.synchroniser, datapath_id)
        self.synchroniser.connected(datapath_id, switch)
        return switch

    def reconcile(self) -> None:
        for _ in self.synchroniser.reconcile():
            pass

    def settle(self) -> None:
        """Let every switch answer until none has anything to do."""
        self.reconcile()
        while any(not switch.is_idle for switch in self.switches.values()):
            for switch in self.switches.values():
                if not switch.is_idle:
                    switch.answer()
            self.reconcile()

    @property
    def state(self) -> ClusterState:
        return cluster_state(self.objects.values())

    def expected(self, node_name: str) -> Held:
        return everything(compile_program(self.state, node_name))


def said(rig: Rig) -> dict[str, str]:
    """What is reported of the nodes, without what is for the next controller."""
    return {name: text for name, text in rig.synchroniser.status().items() if not name.endswith(".udp")}


def objects(mode: Mode = "overlay", pods: int = 3) -> tuple[dict[str, Any], ...]:
    return assign(edge_nodes(2), NetworkConfig(mode=mode), 24, [pod(f"p{number}") for number in range(pods)])


def service(number: int, protocol: str = "TCP", endpoints: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Service over a pod on n1 and one on n2, or only the first."""
    pods = [Endpoint("10.244.0.2", "n1"), Endpoint("10.244.1.2", "n2")]
    return with_endpoints(number, pods[:endpoints], protocol)


@pytest.fixture
def rig() -> Rig:
    """Two nodes with three pods, both bridges connected and settled."""
    made = Rig()
    made.put(*objects())
    made.connect(1)
    made.connect(2)
    made.settle()
    return made


def test_a_bridge_that_connects_gets_its_whole_table_whatever_it_held(rig: Rig) -> None:
    for datapath_id, name in ((1, "n1"), (2, "n2")):
        switch = rig.switches[datapath_id]
        assert switch.held == rig.expected(name)
        assert [replace_all for _, replace_all in switch.pushes] == [True]
    assert said(rig) == {"n1": "Pod=1", "n2": "Pod=1"}


def test_nothing_is_confirmed_before_the_commit_is() -> None:
    rig = Rig()
    version = rig.put(*objects())
    switch = rig.connect(1)
    rig.reconcile()
    switch.answer()  # the bundle is filled
    assert said(rig) == {}
    switch.answer()  # the bundle is committed
    assert said(rig) == {"n1": version}


def test_one_pod_more_changes_its_own_bridge_only(rig: Rig) -> None:
    (new,) = [wire for wire in objects(pods=4) if wire["metadata"]["name"] == "p3"]
    mine, other = rig.switches[2], rig.switches[1]
    before = mine.held
    version = rig.put(new)
    rig.settle()
    assert new["spec"]["nodeName"] == "n2"
    diff, replace_all = mine.pushes[-1]
    assert not replace_all and not diff.common
    assert set(diff.own.added_flows) == mine.held - before
    assert not diff.own.removed_flows
    assert mine.held == rig.expected("n2")
    assert len(other.pushes) == 1
    assert said(rig) == {"n1": version, "n2": version}


def test_a_switch_of_modes_is_one_bundle_a_bridge(rig: Rig) -> None:
    rig.put(*objects("routed"))
    rig.settle()
    for datapath_id, name in ((1, "n1"), (2, "n2")):
        assert rig.switches[datapath_id].held == rig.expected(name)
        assert rig.switches[datapath_id].commits == 2


def test_changes_that_come_during_a_push_go_together_into_the_next(rig: Rig) -> None:
    rig.remove("Pod", "p0")
    rig.reconcile()
    rig.put(*objects("routed"))
    rig.put(*objects(pods=5))
    version = rig.remove("Pod", "p2")
    rig.reconcile()
    assert len(rig.switches[1].pushes) == 2
    rig.settle()
    assert len(rig.switches[1].pushes) == 3
    assert rig.switches[1].held == rig.expected("n1")
    assert said(rig) == {"n1": version, "n2": version}


def test_what_is_refused_is_left_out_with_its_subject_and_named(rig: Rig) -> None:
    """A refused flow takes everything of its pod with it; everything else that changes with it is programmed."""
    switch = rig.switches[2]
    before = switch.held
    switch.refuses = lambda item: "10.244.1.3" in flow_text(item) and item.table.name == "SpoofGuard"
    version = rig.put(*objects(pods=5))
    rig.settle()
    refused = [flow for flow in rig.expected("n2") if switch.refuses(flow)]
    assert refused and not set(refused) & switch.held
    assert switch.held == before, "p4 is on n1"
    status = said(rig)
    assert status == {"n1": version, "n2": version, "n2.error": status["n2.error"]}
    assert status["n2.error"].startswith("pod default/p3: OFPET_BAD_ACTION: cookie=")
    assert "10.244.1.3" in status["n2.error"]
    pushes = len(switch.pushes)
    rig.settle()
    assert len(switch.pushes) == pushes, "the same thing is not tried again"

    version = rig.remove("Pod", "p3")
    rig.settle()
    assert said(rig) == {"n1": version, "n2": version}


def test_what_turns_out_at_the_commit_is_left_out_too(rig: Rig) -> None:
    switch = rig.switches[1]
    switch.refuses_commit_of = lambda item: isinstance(item, Group) and item.group_id in (4, 6)
    version = rig.put(*(wire for number in (1, 2, 3) for wire in service(number)))
    rig.settle()
    assert {item.group_id for item in switch.held if isinstance(item, Group)} == {8}
    assert switch.commits == 2
    status = said(rig)
    assert status == {"n1": version, "n2": version, "n1.error": status["n1.error"]}
    for number in (1, 2):
        assert (
            f"Service default/service-{number}, port 80: OFPET_BAD_ACTION: group {2 * number + 2} with"
            in status["n1.error"]
        )
    assert rig.switches[2].held == rig.expected("n2")


def test_a_service_whose_group_no_message_holds_does_not_stop_the_others(rig: Rig) -> None:
    switch = rig.switches[1]
    switch.largest_group = 4
    wide = [Endpoint(f"10.244.0.{host}", "n1") for host in range(2, 10)]
    version = rig.put(*service(1), *with_endpoints(2, wide), *service(3))
    rig.settle()
    assert {item.group_id for item in switch.held if isinstance(item, Group)} == {4, 8}
    status = said(rig)
    assert status["n1"] == version
    assert status["n1.error"].startswith("Service default/service-2, port 80: no OpenFlow message holds it")
    assert "n2.error" not in status
    version = rig.put(*with_endpoints(2, wide[:4]))
    rig.settle()
    assert said(rig) == {"n1": version, "n2": version}
    assert switch.held == rig.expected("n1")


def test_a_bridge_that_connects_again_is_asked_again_for_what_it_had_refused(rig: Rig) -> None:
    switch = rig.switches[1]
    switch.refuses = lambda item: isinstance(item, Group)
    version = rig.put(*service(1))
    rig.settle()
    assert "n1.error" in rig.synchroniser.status()
    again = rig.connect(1)
    rig.settle()
    assert again.held == rig.expected("n1")
    assert said(rig) == {"n1": version, "n2": version}


def test_a_refused_commit_that_names_nothing_is_reported_and_the_next_change_is_tried(rig: Rig) -> None:
    switch = rig.switches[1]
    switch.refuses_all = True
    rig.put(*objects("routed"))
    rig.settle()
    assert rig.synchroniser.status()["n1.error"] == "OFPET_BAD_ACTION"
    assert rig.synchroniser.status()["n1"] == "Pod=1"
    pushes = len(switch.pushes)
    rig.settle()
    assert len(switch.pushes) == pushes, "the same program is not tried again"
    switch.refuses_all = False
    version = rig.put(*objects("routed", pods=1), *objects("routed", pods=5))
    rig.settle()
    assert said(rig) == {"n1": version, "n2": version}
    assert switch.held == rig.expected("n1")


def test_one_endpoint_less_is_one_changed_group_encoded_once_for_all_bridges(rig: Rig) -> None:
    rig.put(*(wire for number in (1, 2) for wire in service(number)))
    rig.settle()
    version = rig.put(*service(1, endpoints=1))
    rig.settle()
    diffs = [switch.pushes[-1][0] for switch in rig.switches.values()]
    assert diffs[0].common is diffs[1].common
    assert [group.group_id for group in diffs[0].common.modified_groups] == [4]
    assert not diffs[0].common.added_groups and not diffs[0].common.removed_groups
    for datapath_id, name in ((1, "n1"), (2, "n2")):
        assert rig.switches[datapath_id].held == rig.expected(name)
    assert said(rig) == {"n1": version, "n2": version}


def test_stale_udp_connections_go_after_the_commit_and_before_the_confirmation(rig: Rig) -> None:
    confirmed = rig.put(*service(1, "UDP"))
    rig.settle()
    switch = rig.switches[1]
    version = rig.put(*service(1, "UDP", endpoints=1))
    rig.reconcile()
    assert switch.flushed == []
    switch.answer()
    assert switch.held == rig.expected("n1"), "no new entry for the old endpoint can come"
    assert switch.flushed == [Translation("UDP", cluster_ip(1), 80, IPv4Address("10.244.1.2"), 8080)]
    assert rig.synchroniser.status()["n1"] == confirmed
    switch.answer()
    assert rig.synchroniser.status()["n1"] == version


def test_stale_connections_are_looked_for_again_unless_their_endpoint_is_back(rig: Rig) -> None:
    rig.put(*service(1, "UDP"), *service(2, "UDP"))
    rig.settle()
    assert rig.synchroniser.take_rechecks() == []
    rig.put(*service(1, "UDP", endpoints=1), *service(2, "UDP", endpoints=1))
    rig.settle()
    rechecks = rig.synchroniser.take_rechecks()
    assert {recheck.datapath_id for recheck in rechecks} == {1, 2}
    assert rig.synchroniser.take_rechecks() == []
    rig.put(*service(2, "UDP"))
    rig.settle()
    assert rig.synchroniser.take_rechecks() == []
    for switch in rig.switches.values():
        switch.flushed.clear()
    rig.connect(2)
    for recheck in rechecks:
        rig.synchroniser.recheck(recheck)
    assert rig.switches[1].flushed == [Translation("UDP", cluster_ip(1), 80, IPv4Address("10.244.1.2"), 8080)]
    assert rig.switches[2].flushed == [], "another connection, which has begun with everything anew"
    rig.settle()


def test_connections_are_flushed_although_the_bridge_was_away_meanwhile(rig: Rig) -> None:
    rig.put(*service(1, "UDP"))
    rig.settle()
    rig.synchroniser.disconnected(1, rig.switches[1])
    rig.put(*service(1, "UDP", endpoints=1))
    rig.reconcile()
    again = rig.connect(1)
    rig.reconcile()
    again.answer()
    assert len(again.flushed) == 1
    # And once more, if the connection broke before the flush was answered.
    rig.synchroniser.disconnected(1, again)
    third = rig.connect(1)
    rig.settle()
    assert third.flushed == again.flushed


def test_what_changed_between_two_controllers_is_not_known_so_all_udp_connections_may_be_stale(rig: Rig) -> None:
    rig.put(*service(1, "UDP"), *service(2, "TCP"))
    rig.settle()
    inherited = rig.synchroniser.status()
    for status, wires, flushed in (
        (inherited, (*service(1, "UDP"), *service(2, "TCP", endpoints=1)), []),
        (inherited, service(1, "UDP", endpoints=1), [EVERY_UDP_TRANSLATION]),
        (inherited, (), [EVERY_UDP_TRANSLATION]),
        ({}, service(1, "UDP"), [EVERY_UDP_TRANSLATION]),
        (None, service(1, "UDP"), []),
    ):
        second = Rig()
        second.synchroniser.inherit(status)
        second.put(*objects(), *wires)
        switch = second.connect(1)
        second.settle()
        assert switch.flushed == flushed
        assert second.synchroniser.take_rechecks() == [], "connections would be given to endpoints anew a second time"


def test_a_switch_that_cannot_flush_says_so_and_the_change_is_confirmed(rig: Rig) -> None:
    rig.put(*service(1, "UDP"))
    rig.settle()
    rig.switches[1].refuses_flush = True
    version = rig.put(*service(1, "UDP", endpoints=1))
    rig.settle()
    assert said(rig) == {
        "n1": version,
        "n2": version,
        "n1.error": "cannot remove tracked connections: OFPET_BAD_ACTION",
    }


def test_what_cannot_be_compiled_is_said_of_every_node(rig: Rig) -> None:
    many = [Endpoint(f"10.244.{number >> 8}.{number & 255}") for number in range(1000)]
    version = rig.put(*with_endpoints(1, many), *service(2))
    rig.settle()
    status = said(rig)
    assert status["n1"] == version
    assert "Service default/service-1" in status["n1.error"]
    assert status["n1.error"] == status["n2.error"]
    assert {item.group_id for item in rig.switches[1].held if isinstance(item, Group)} == {6}


def test_a_lost_bridge_is_reported_until_it_is_back_in_its_exact_state(rig: Rig) -> None:
    rig.synchroniser.disconnected(1, rig.switches[1])
    assert rig.synchroniser.status()["n1.error"] == "disconnected"
    back = rig.connect(1)
    rig.settle()
    assert back.pushes[0][1], "everything it may hold is replaced"
    assert back.held == rig.expected("n1")
    assert "n1.error" not in rig.synchroniser.status()


def test_the_late_end_of_an_old_connection_does_not_end_the_new_one(rig: Rig) -> None:
    old = rig.switches[1]
    new = rig.connect(1)
    rig.synchroniser.disconnected(1, old)
    rig.settle()
    assert new.held == rig.expected("n1")
    assert "n1.error" not in rig.synchroniser.status()


def test_answers_on_an_old_connection_say_nothing_about_the_new_one(rig: Rig) -> None:
    old = rig.switches[1]
    version = rig.put(*objects("routed"))
    rig.reconcile()
    new = rig.connect(1)
    rig.reconcile()
    old.answer()
    old_commits = old.commits
    rig.settle()
    assert old.commits == old_commits
    assert new.held == rig.expected("n1")
    assert rig.synchroniser.status()["n1"] == version


def test_a_bridge_may_connect_before_its_node_is_known() -> None:
    rig = Rig()
    switch = rig.connect(1)
    rig.settle()
    assert switch.pushes == []
    version = rig.put(*objects())
    rig.settle()
    assert switch.held == rig.expected("n1")
    assert said(rig) == {"n1": version}


def test_settings_that_cannot_be_read_leave_the_flows_and_are_reported(rig: Rig) -> None:
    before = rig.switches[1].held
    config = rig.objects["ConfigMap", CONFIG_NAME]
    rig.put({**config, "data": {**config["data"], "mode": "teleport"}})
    rig.settle()
    status = said(rig)
    assert "teleport" in status["n1.error"]
    assert status["n1"] == "Pod=1"
    assert rig.switches[1].held == before
    version = rig.put(config)
    rig.settle()
    assert said(rig) == {"n1": version, "n2": version}


def test_a_change_that_is_taken_in_bit_by_bit_goes_out_whole(rig: Rig) -> None:
    wires = [*objects("routed", pods=5), *service(1), *service(2)]
    for wire in wires:
        rig.objects[wire["kind"], wire["metadata"]["name"]] = wire
        rig.synchroniser.prepare([Event("MODIFIED", wire)])
        rig.settle()
    assert all(len(switch.pushes) == 1 for switch in rig.switches.values())
    version = rig.put()
    rig.settle()
    for datapath_id, name in ((1, "n1"), (2, "n2")):
        assert len(rig.switches[datapath_id].pushes) == 2
        assert rig.switches[datapath_id].held == rig.expected(name)
    assert said(rig) == {"n1": version, "n2": version}


def test_a_node_that_goes_leaves_no_status_behind(rig: Rig) -> None:
    rig.remove("Node", "n2")
    rig.settle()
    assert said(rig).keys() == {"n1"}


class AnyOrder(RuleBasedStateMachine):
    """Objects change, bridges come and go and answer, in any order: the end is always the exact state."""

    @initialize()
    def start(self) -> None:
        self.rig = Rig()
        self.tables: dict[int, list[Held]] = {1: [frozenset(FOREIGN)], 2: [frozenset(FOREIGN)]}
        self.change("overlay", 2)

    @rule(mode=st.sampled_from(["overlay", "routed"]), pods=st.integers(0, 5))
    def change(self, mode: Mode, pods: int) -> None:
        wanted = objects(mode, pods)
        names = {(wire["kind"], wire["metadata"]["name"]) for wire in wanted}
        for kind, name in [key for key in self.rig.objects if key not in names and key[0] == "Pod"]:
            self.rig.remove(kind, name)
            self._note_tables()
        self.rig.put(*wanted)
        self._note_tables()

    @rule(number=st.integers(1, 3), protocol=st.sampled_from(["TCP", "UDP"]), endpoints=st.integers(0, 2))
    def change_service(self, number: int, protocol: str, endpoints: int) -> None:
        self.rig.put(*service(number, protocol, endpoints))
        self._note_tables()

    @rule(number=st.integers(1, 3))
    def remove_service(self, number: int) -> None:
        for key in (("Service", f"service-{number}"), ("EndpointSlice", f"service-{number}-x")):
            if key in self.rig.objects:
                self.rig.remove(*key)
                self._note_tables()

    @rule(datapath_id=st.sampled_from([1, 2]))
    def connect(self, datapath_id: int) -> None:
        held = self.rig.switches[datapath_id].held if datapath_id in self.rig.switches else frozenset(FOREIGN)
        self.rig.connect(datapath_id).held = held

    @rule(datapath_id=st.sampled_from([1, 2]))
    def answer(self, datapath_id: int) -> None:
        switch = self.rig.switches.get(datapath_id)
        if switch is not None and not switch.is_idle:
            switch.answer()

    @rule()
    def reconcile(self) -> None:
        self.rig.reconcile()

    @rule()
    def settle(self) -> None:
        self.rig.settle()
        confirmed = self.rig.synchroniser.status()
        for datapath_id, switch in self.rig.switches.items():
            assert switch.held == self.rig.expected(f"n{datapath_id}")
            assert confirmed[f"n{datapath_id}"] == f"Pod={self.rig.version}"

    @invariant()
    def every_table_is_whole(self) -> None:
        """What a bridge holds is what it held at first, or the whole table of some state there was."""
        for datapath_id, switch in self.rig.switches.items():
            assert switch.held in self.tables[datapath_id]

    def _note_tables(self) -> None:
        if ("ConfigMap", CONFIG_NAME) in self.rig.objects:
            for datapath_id, tables in self.tables.items():
                tables.append(self.rig.expected(f"n{datapath_id}"))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
