"""Clusters for the tests that send real packets."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.values import NetworkConfig
from testbed.cluster.view import cluster_state
from testbed.network.builder import built, choose_datapath
from testbed.network.plan import Plan
from testbed.network.testbed import Testbed
from testbed.progress import PlainProgress
from topologies import TOPOLOGIES
from topologies.fabric import Fabric, Shaping


def pod(name: str, node: str | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod manifest with one container that runs nothing, unless ``containers`` says otherwise."""
    body: dict[str, Any] = {"containers": [{"name": "main", "image": "pause"}], **spec}
    if node:
        body["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def plan_of(
    topology: str,
    pods: Sequence[Mapping[str, Any]],
    *,
    config: NetworkConfig | None = None,
    shaping: Mapping[str, Shaping] | None = None,
    idle_ports: int = 0,
    **parameters: int,
) -> Plan:
    """The plan of a topology with some pods."""
    fabric = TOPOLOGIES[topology].plan_fabric(parameters, shaping)
    return plan_on(fabric, pods, config=config, idle_ports=idle_ports)


def plan_on(
    fabric: Fabric, pods: Sequence[Mapping[str, Any]], *, config: NetworkConfig | None = None, idle_ports: int = 0
) -> Plan:
    """The plan of some pods on a fabric."""
    nodes = [
        EdgeNode(element.name, fabric.address(element.name).ip, location=element.location)
        for element in fabric.of_kind("node")
    ]
    objects = assign(nodes, config or NetworkConfig(), 24, [dict(one) for one in pods])
    return Plan(fabric, objects, cluster_state(objects), idle_ports)


@contextmanager
def cluster(plan: Plan, datapath: str = "auto") -> Iterator[Testbed]:
    """A running cluster; when the test fails, its flows, routes, neighbours and logs are printed."""
    with built(plan, choose_datapath(datapath), PlainProgress(sys.stdout)) as testbed:
        try:
            yield testbed
        except BaseException:
            print(testbed.diagnostics(), flush=True)
            raise
