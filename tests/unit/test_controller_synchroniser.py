"""The controller's decisions, with switches that only remember what they were told."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controllers.pipeline import Flow, FlowDiff, apply_diff, compile_all, flow_text
from controllers.ryu_app.synchroniser import Filled, Synchroniser
from testbed.cluster.assign import assign
from testbed.cluster.client import Batch
from testbed.cluster.identity import CONFIG_NAME
from testbed.cluster.store import Event
from testbed.cluster.values import ClusterState, Mode, NetworkConfig
from testbed.cluster.view import cluster_state
from tests.unit.cluster_objects import edge_nodes, pod

XIDS = count(1)
FOREIGN = ["a flow somebody else put there"]


class FakeSwitch:
    """A switch that takes bundles, refuses the flows it is told to refuse, and answers when it is asked to."""

    def __init__(self, synchroniser: Synchroniser, datapath_id: int) -> None:
        self._synchroniser, self._datapath_id = synchroniser, datapath_id
        self.flows: set[Any] = set(FOREIGN)
        self.pushes: list[tuple[FlowDiff, bool]] = []
        self.commits = 0
        self.refuses: Flow | None = None
        self.refuses_commit = False
        self._open: dict[int, set[Any]] = {}
        self._filled: dict[int, Filled] = {}
        self._unanswered: list[tuple[Filled, list[int]]] = []

    def fill(self, diff: FlowDiff, replace_all: bool) -> Filled:
        self.pushes.append((diff, replace_all))
        bundle_id = next(XIDS)
        flow_by_xid: dict[int, Flow | None] = {bundle_id: None}
        flow_by_xid |= {next(XIDS): flow for flow in (*diff.removed, *diff.added)}
        before = set() if replace_all else {flow for flow in self.flows if isinstance(flow, Flow)}
        self._open[bundle_id] = set(apply_diff(before, diff))
        errors = [xid for xid, flow in flow_by_xid.items() if flow is not None and flow == self.refuses]
        self._filled[bundle_id] = self._sent(bundle_id, flow_by_xid, errors)
        return self._filled[bundle_id]

    def commit(self, bundle_id: int) -> Filled:
        xid = next(XIDS)
        flows = self._open.pop(bundle_id)
        if not self.refuses_commit:
            self.flows = flows
            self.commits += 1
        # As Open vSwitch does: first the flow that failed, then the commit.
        culprit = max(self._filled[bundle_id].flow_by_xid)
        return self._sent(bundle_id, {xid: None}, [culprit, xid] if self.refuses_commit else [])

    def discard(self, bundle_id: int) -> None:
        del self._open[bundle_id]

    def _sent(self, bundle_id: int, flow_by_xid: Mapping[int, Flow | None], errors: list[int]) -> Filled:
        filled = Filled(bundle_id, next(XIDS), flow_by_xid)
        self._unanswered.append((filled, errors))
        return filled

    @property
    def is_idle(self) -> bool:
        return not self._unanswered and not self._open

    def answer(self) -> None:
        """Answer what was sent first: errors, then the barrier."""
        filled, errors = self._unanswered.pop(0)
        for xid in errors:
            self._synchroniser.refused(self._datapath_id, self, xid, "OFPET_BAD_ACTION")
        self._synchroniser.barrier_passed(self._datapath_id, self, filled.barrier_xid)


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

    def settle(self) -> None:
        """Let every switch answer until none has anything to do."""
        self.synchroniser.reconcile()
        while any(not switch.is_idle for switch in self.switches.values()):
            for switch in self.switches.values():
                if not switch.is_idle:
                    switch.answer()
            self.synchroniser.reconcile()

    @property
    def state(self) -> ClusterState:
        return cluster_state(self.objects.values())

    def expected(self, node_name: str) -> set[Flow]:
        return set(compile_all(self.state)[node_name])


def objects(mode: Mode = "overlay", pods: int = 3) -> tuple[dict[str, Any], ...]:
    return assign(edge_nodes(2), NetworkConfig(mode=mode), 24, [pod(f"p{number}") for number in range(pods)])


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
        assert switch.flows == rig.expected(name)
        assert [replace_all for _, replace_all in switch.pushes] == [True]
    assert rig.synchroniser.status() == {"n1": "Pod=1", "n2": "Pod=1"}


def test_nothing_is_confirmed_before_the_commit_is() -> None:
    rig = Rig()
    version = rig.put(*objects())
    switch = rig.connect(1)
    rig.synchroniser.reconcile()
    switch.answer()  # the bundle is filled
    assert rig.synchroniser.status() == {}
    switch.answer()  # the bundle is committed
    assert rig.synchroniser.status() == {"n1": version}


def test_one_pod_more_changes_its_own_bridge_only(rig: Rig) -> None:
    (new,) = [wire for wire in objects(pods=4) if wire["metadata"]["name"] == "p3"]
    version = rig.put(new)
    rig.settle()
    mine, other = rig.switches[2], rig.switches[1]
    assert new["spec"]["nodeName"] == "n2"
    diff, replace_all = mine.pushes[-1]
    assert (len(diff.added), len(diff.removed), replace_all) == (5, 0, False)
    assert mine.flows == rig.expected("n2")
    assert len(other.pushes) == 1
    assert rig.synchroniser.status() == {"n1": version, "n2": version}


def test_a_switch_of_modes_is_one_bundle_a_bridge(rig: Rig) -> None:
    rig.put(*objects("routed"))
    rig.settle()
    for datapath_id, name in ((1, "n1"), (2, "n2")):
        assert rig.switches[datapath_id].flows == rig.expected(name)
        assert rig.switches[datapath_id].commits == 2


def test_changes_that_come_during_a_push_go_together_into_the_next(rig: Rig) -> None:
    rig.remove("Pod", "p0")
    rig.synchroniser.reconcile()
    rig.put(*objects("routed"))
    rig.put(*objects(pods=5))
    version = rig.remove("Pod", "p2")
    rig.synchroniser.reconcile()
    assert len(rig.switches[1].pushes) == 2
    rig.settle()
    assert len(rig.switches[1].pushes) == 3
    assert rig.switches[1].flows == rig.expected("n1")
    assert rig.synchroniser.status() == {"n1": version, "n2": version}


def test_a_bundle_with_a_refused_flow_is_never_committed_and_the_flow_is_named(rig: Rig) -> None:
    (new,) = [wire for wire in objects(pods=4) if wire["metadata"]["name"] == "p3"]
    rig.put(new)
    switch = rig.switches[2]
    before = switch.flows
    switch.refuses = next(flow for flow in rig.expected("n2") - before if flow.table.name == "SpoofGuard")
    rig.settle()
    assert switch.flows == before
    assert switch.commits == 1
    status = rig.synchroniser.status()
    assert status["n2"] == "Pod=1"
    assert status["n2.error"] == f"OFPET_BAD_ACTION: {flow_text(switch.refuses).strip()}"
    assert status["n1"] == "Pod=2"
    pushes = len(switch.pushes)
    rig.settle()
    assert len(switch.pushes) == pushes, "the same table is not tried again"

    version = rig.remove("Pod", "p3")
    rig.settle()
    assert rig.synchroniser.status() == {"n1": version, "n2": version}


def test_a_refused_commit_is_reported_and_the_next_change_is_tried(rig: Rig) -> None:
    switch = rig.switches[1]
    switch.refuses_commit = True
    rig.put(*objects("routed"))
    rig.settle()
    assert rig.synchroniser.status()["n1.error"].startswith("OFPET_BAD_ACTION: cookie=")
    assert rig.synchroniser.status()["n1"] == "Pod=1"
    switch.refuses_commit = False
    version = rig.put(*objects("routed", pods=1), *objects("routed", pods=5))
    rig.settle()
    assert rig.synchroniser.status()["n1"] == version
    assert switch.flows == rig.expected("n1")


def test_a_lost_bridge_is_reported_until_it_is_back_in_its_exact_state(rig: Rig) -> None:
    rig.synchroniser.disconnected(1, rig.switches[1])
    assert rig.synchroniser.status()["n1.error"] == "disconnected"
    back = rig.connect(1)
    rig.settle()
    assert back.pushes[0][1], "everything it may hold is replaced"
    assert back.flows == rig.expected("n1")
    assert "n1.error" not in rig.synchroniser.status()


def test_the_late_end_of_an_old_connection_does_not_end_the_new_one(rig: Rig) -> None:
    old = rig.switches[1]
    new = rig.connect(1)
    rig.synchroniser.disconnected(1, old)
    rig.settle()
    assert new.flows == rig.expected("n1")
    assert "n1.error" not in rig.synchroniser.status()


def test_answers_on_an_old_connection_say_nothing_about_the_new_one(rig: Rig) -> None:
    old = rig.switches[1]
    version = rig.put(*objects("routed"))
    rig.synchroniser.reconcile()
    new = rig.connect(1)
    rig.synchroniser.reconcile()
    old.answer()
    old_commits = old.commits
    rig.settle()
    assert old.commits == old_commits
    assert new.flows == rig.expected("n1")
    assert rig.synchroniser.status()["n1"] == version


def test_a_bridge_may_connect_before_its_node_is_known() -> None:
    rig = Rig()
    switch = rig.connect(1)
    rig.settle()
    assert switch.pushes == []
    version = rig.put(*objects())
    rig.settle()
    assert switch.flows == rig.expected("n1")
    assert rig.synchroniser.status() == {"n1": version}


def test_settings_that_cannot_be_read_leave_the_flows_and_are_reported(rig: Rig) -> None:
    before = rig.switches[1].flows
    config = rig.objects["ConfigMap", CONFIG_NAME]
    rig.put({**config, "data": {**config["data"], "mode": "teleport"}})
    rig.settle()
    status = rig.synchroniser.status()
    assert "teleport" in status["n1.error"]
    assert status["n1"] == "Pod=1"
    assert rig.switches[1].flows == before
    version = rig.put(config)
    rig.settle()
    assert rig.synchroniser.status() == {"n1": version, "n2": version}


def test_a_node_that_goes_leaves_no_status_behind(rig: Rig) -> None:
    rig.remove("Node", "n2")
    rig.settle()
    assert rig.synchroniser.status().keys() == {"n1"}


class AnyOrder(RuleBasedStateMachine):
    """Objects change, bridges come and go and answer, in any order: the end is always the exact state."""

    @initialize()
    def start(self) -> None:
        self.rig = Rig()
        self.tables: dict[int, list[set[Any]]] = {1: [set(FOREIGN)], 2: [set(FOREIGN)]}
        self.change("overlay", 2)

    @rule(mode=st.sampled_from(["overlay", "routed"]), pods=st.integers(0, 5))
    def change(self, mode: Mode, pods: int) -> None:
        wanted = objects(mode, pods)
        names = {(wire["kind"], wire["metadata"]["name"]) for wire in wanted}
        for kind, name in [key for key in self.rig.objects if key not in names]:
            self.rig.remove(kind, name)
            self._note_tables()
        self.rig.put(*wanted)
        self._note_tables()

    @rule(datapath_id=st.sampled_from([1, 2]))
    def connect(self, datapath_id: int) -> None:
        held = self.rig.switches[datapath_id].flows if datapath_id in self.rig.switches else set(FOREIGN)
        self.rig.connect(datapath_id).flows = held

    @rule(datapath_id=st.sampled_from([1, 2]))
    def answer(self, datapath_id: int) -> None:
        switch = self.rig.switches.get(datapath_id)
        if switch is not None and not switch.is_idle:
            switch.answer()

    @rule()
    def reconcile(self) -> None:
        self.rig.synchroniser.reconcile()

    @rule()
    def settle(self) -> None:
        self.rig.settle()
        confirmed = self.rig.synchroniser.status()
        for datapath_id, switch in self.rig.switches.items():
            assert switch.flows == self.rig.expected(f"n{datapath_id}")
            assert confirmed[f"n{datapath_id}"] == f"Pod={self.rig.version}"

    @invariant()
    def every_table_is_whole(self) -> None:
        """What a bridge holds is what it held at first, or the whole table of some state there was."""
        for datapath_id, switch in self.rig.switches.items():
            assert switch.flows in self.tables[datapath_id]

    def _note_tables(self) -> None:
        if ("ConfigMap", CONFIG_NAME) in self.rig.objects:
            for datapath_id, tables in self.tables.items():
                tables.append(self.rig.expected(f"n{datapath_id}"))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
