"""The network plugin: every bridge has its controller, and holds the flows that follow from the objects, no other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from controllers.pipeline import DumpError, Flow, Program, compile_all, flow_text, parse_dump, parse_group_dump
from controllers.pipeline.text import Names, bridge_names, group_text
from testbed.checkup.findings import Finding, exec_command
from testbed.checkup.running import RunningCluster, output
from testbed.cluster.identity import BRIDGE, STATUS_NAME
from testbed.errors import RunError
from testbed.network.controller import OPENFLOW_PORT
from testbed.network.openvswitch import VSwitch

# The objects and a dump are not read at one instant: what differs is looked at again for so long.
_AGREE_S, _AGAIN_S = 2.0, 0.1


@dataclass(frozen=True)
class Difference:
    """A bridge beside its program: flows and groups as text that it lacks, that nobody asked for, that do otherwise."""

    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.foreign or self.changed)


@dataclass(frozen=True)
class BridgeFacts:
    """What is seen of one bridge. ``silent``: why Open vSwitch does not answer; ``reported``: what the controller says
    is wrong with it."""

    node: str
    silent: str = ""
    connected: bool = True
    reported: str = ""
    difference: Difference = Difference()
    flows: int = 0


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each bridge that does not answer, has no controller, or holds other flows."""
    deadline = time.monotonic() + _AGREE_S
    while True:
        facts = look(cluster)
        # Without its controller a bridge will not agree later, either.
        waiting = any(one.difference and one.connected for one in facts)
        if not waiting or time.monotonic() > deadline:
            return judge(facts, cluster.name)
        time.sleep(_AGAIN_S)
        cluster = RunningCluster(cluster.url, cluster.name)


def look(cluster: RunningCluster) -> list[BridgeFacts]:
    """All bridges as they are now."""
    programs, reports = compile_all(cluster.state), cluster.status(STATUS_NAME)
    return [
        _look_at(switch, programs[name], bridge_names(cluster.state, name), reports)
        for name, switch in cluster.switches.items()
    ]


def _look_at(switch: VSwitch, wanted: Program, names: Names, reports: Mapping[str, str]) -> BridgeFacts:
    reported = reports.get(f"{switch.node_name}.error", "")
    connections = output(switch.namespace, ["ss", "-H", "-t", "-n", "state", "established"])
    connected = has_controller(connections)
    try:
        flows = switch.ofctl("--no-stats", "--no-names", "dump-flows", BRIDGE)
        groups = switch.ofctl("dump-groups", BRIDGE)
    except (RunError, OSError) as error:
        return BridgeFacts(switch.node_name, str(error), connected, reported)
    return BridgeFacts(
        switch.node_name, "", connected, reported, compare(wanted, flows, groups, names), len(flows.splitlines())
    )


def has_controller(connections: str) -> bool:
    """Whether ``ss`` shows a connection to a controller's OpenFlow port."""
    return any(line.split()[-1].endswith(f":{OPENFLOW_PORT}") for line in connections.splitlines() if line.strip())


def compare(wanted: Program, flows: str, groups: str, names: Names) -> Difference:
    """A bridge's dumps beside its program."""
    here: dict[object, Flow] = {}
    foreign = []
    for line in flows.splitlines():
        try:
            here.update((flow.key, flow) for flow in parse_dump(line))
        except DumpError:
            foreign.append(line.strip())
    expected = {flow.key: flow for flow in wanted.flows()}
    foreign += [_text(flow, names) for key, flow in here.items() if key not in expected]
    missing = [_text(flow, names) for key, flow in expected.items() if key not in here]
    changed = [_text(here[key], names) for key, flow in expected.items() if key in here and here[key] != flow]
    expected_groups = {group.group_id: group for group in wanted.groups()}
    try:
        here_groups = {group.group_id: group for group in parse_group_dump(groups)}
    except DumpError as error:
        return Difference(tuple(missing), (*foreign, str(error)), tuple(changed))
    missing += [group_text(group).strip() for key, group in expected_groups.items() if key not in here_groups]
    foreign += [group_text(group).strip() for key, group in here_groups.items() if key not in expected_groups]
    changed += [
        group_text(group).strip() for key, group in here_groups.items() if expected_groups.get(key, group) != group
    ]
    return Difference(tuple(missing), tuple(foreign), tuple(changed))


def _text(flow: Flow, names: Names) -> str:
    return flow_text(flow, names).strip()


def judge(facts: list[BridgeFacts], cluster: str) -> list[Finding]:
    """What is wrong with the bridges of a cluster."""
    found = [finding for one in facts for finding in _judge(one, cluster)]
    held = sum(one.flows for one in facts)
    return found or [Finding("plugin", "ok", f"bridges with controller, as programmed: {len(facts)}; flows: {held}")]


def _judge(one: BridgeFacts, cluster: str) -> list[Finding]:
    where = f"the bridge of {one.node}"
    if one.silent:
        remedy = f"its supervisor starts it again; if it does not: kubectl describe node {one.node}"
        return [Finding("plugin", "fault", f"{where} does not answer", one.silent, remedy)]
    found = []
    if not one.connected:
        evidence = f"no connection to port {OPENFLOW_PORT} in s-{one.node}"
        remedy = f"it keeps its flows and learns nothing new; kubectl -n kube-system describe configmap {STATUS_NAME}"
        found.append(Finding("plugin", "fault", f"{where} has no controller", evidence, remedy))
    if one.reported:
        remedy = "mend what the controller names; it tries again with the next change"
        found.append(Finding("plugin", "fault", f"the controller cannot program {where}", one.reported, remedy))
    if one.difference:
        parts = [(one.difference.missing, "missing"), (one.difference.foreign, "that nobody asked for")]
        parts.append((one.difference.changed, "that do otherwise"))
        counts = ", ".join(f"{len(texts)} flows or groups {word}" for texts, word in parts if texts)
        evidence = "; ".join(f"{word}: {texts[0]}" for texts, word in parts if texts)
        remedy = exec_command(cluster, f"node/{one.node}", "pkill", "-f", "controllers.ryu_app")
        remedy += " (the controller is started again and puts every bridge right)"
        found.append(Finding("plugin", "fault", f"{where} is not as it was programmed: {counts}", evidence, remedy))
    return found
