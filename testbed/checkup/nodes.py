"""Nodes that the cluster has lost: nothing else can be said of them."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster, is_lost
from testbed.cluster.kinds import NODE
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import condition


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each node that is not Ready."""
    return judge(cluster.objects(NODE))


def judge(nodes: Iterable[JsonObject]) -> list[Finding]:
    """The same from the Node objects."""
    known = list(nodes)
    found = [_lost(wire) for wire in known if is_lost(wire)]
    return found or [Finding("nodes", "ok", f"Ready: {len(known)}")]


def _lost(wire: JsonObject) -> Finding:
    said = condition(wire, "Ready")
    name = object_name(wire)
    evidence = f"Ready is {said.get('status')}: {said.get('message') or said.get('reason') or 'no reason given'}"
    remedy = f"kubectl describe node {name}; the checks below leave it out"
    return Finding("nodes", "fault", f"node {name} is not Ready", evidence, remedy)
