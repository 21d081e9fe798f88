"""A running cluster as the checks ask it: its objects by the API, its kernels and bridges from inside the box."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from testbed.cluster.client import ApiClient, Selection
from testbed.cluster.identity import API_NAME, STATUS_NAMESPACE, pod_namespace, switch_namespace
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, NODE, POD, SERVICE, Kind
from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject, object_name, pod_key, resource_version
from testbed.cluster.pod_facts import condition, is_active, is_ready
from testbed.cluster.values import ClusterState, NodeNetwork, PodNetwork, ServicePort
from testbed.cluster.view import STATE_KINDS
from testbed.errors import InputError, RunError
from testbed.network import netns
from testbed.network.openvswitch import VSwitch
from testbed.trace import Cluster, Request, trace
from testbed.trace.kernel import Kernel

# The API's own Service, which is there to be looked at: its address is reached from outside of the box only.
API_KEY = f"{DEFAULT_NAMESPACE}/{API_NAME}"
_TIMEOUT_S = 20
_LIVELY = (POD, SERVICE, ENDPOINT_SLICE)


class RunningCluster:
    """The cluster called ``name`` whose API is at ``url``; what was read is kept, so make a new one to look again.

    All raise what :class:`ApiClient` does, and RunError when a kernel does not answer.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.kernel = Kernel()
        self._api = ApiClient(url)
        self._objects: dict[Kind, list[JsonObject]] = {}

    def objects(self, kind: Kind) -> list[JsonObject]:
        """All objects of a kind."""
        if kind not in self._objects:
            self._objects[kind] = self._api.list(Selection(kind)).items
        return self._objects[kind]

    def has_changed(self) -> bool:
        """Whether pods or Services are others now than when they were read: what was seen may not fit together."""
        later = RunningCluster(self.url, self.name)
        return any(_versions(self.objects(kind)) != _versions(later.objects(kind)) for kind in _LIVELY)

    @cached_property
    def known(self) -> Cluster:
        """What a trace has to know. Raises StateError when the objects describe no network."""
        return Cluster.of_objects(wire for kind in STATE_KINDS for wire in self.objects(kind))

    @property
    def state(self) -> ClusterState:
        return self.known.state

    @property
    def answered_ports(self) -> list[ServicePort]:
        """The ports of Services that somebody in the cluster should answer at."""
        return [port for port in self.state.service_ports if port.service_key != API_KEY]

    @cached_property
    def switches(self) -> Mapping[str, VSwitch]:
        """The Open vSwitch of each node."""
        return {
            node.name: VSwitch(node.name, switch_namespace(node.name), node.datapath_id, {})
            for node in self.state.nodes
        }

    @cached_property
    def nodes(self) -> tuple[NodeNetwork, ...]:
        """The nodes that are Ready."""
        lost = {object_name(wire) for wire in self.objects(NODE) if is_lost(wire)}
        return tuple(node for node in self.state.nodes if node.name not in lost)

    @cached_property
    def pods(self) -> Mapping[str, JsonObject]:
        """The pods that have not ended and are not being ended, by ``namespace/name``."""
        return {pod_key(wire): wire for wire in self.objects(POD) if is_active(wire)}

    def ready_pods(self, node: str) -> list[PodNetwork]:
        """The ready pods of a node with an address of their own."""
        return [pod for pod in self.state.pods_by_node[node] if is_ready(self.pods.get(pod.key, {}))]

    def status(self, name: str) -> Mapping[str, str]:
        """A ConfigMap in which a component reports (:mod:`testbed.cluster.confirm`); empty if there is none."""
        for wire in self.objects(CONFIG_MAP):
            if object_name(wire) == name and wire["metadata"]["namespace"] == STATUS_NAMESPACE:
                return wire.get("data") or {}
        return {}

    def why(self, source: str, target: str) -> str:
        """Why a packet does not arrive or is not answered, in the words of a trace; "" if it should be."""
        try:
            traced = trace(self.known, Request(source, target))
        except (RunError, InputError, OSError) as error:
            return f"no trace: {error}"
        for direction, way in (("", traced.request), ("reply ", traced.reply)):
            if way is not None and way.delivered is None:
                return "; ".join(f"{direction}{end.fate} at {end.place}: {end.reason}" for end in way.ends)
        return traced.request.delivered.reason if traced.request.delivered else ""


def _versions(objects: Iterable[JsonObject]) -> dict[str, int]:
    return {wire["metadata"]["uid"]: resource_version(wire) for wire in objects}


def is_lost(node: JsonObject) -> bool:
    """Whether the cluster has heard too long nothing of a node."""
    return bool(condition(node, "Ready").get("status", "True") != "True")


def namespace_of(pod: PodNetwork) -> str:
    """The network namespace of a pod."""
    return pod_namespace(pod.namespace, pod.name)


def output(namespace: str, argv: Sequence[str]) -> str:
    """What a program prints in a network namespace, whatever its exit status. Raises RunError when it cannot run."""
    try:
        with netns.entered(namespace):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"{namespace}: {error}") from None
    return done.stdout


def json_output(namespace: str, argv: Sequence[str]) -> Any:
    """The same of a program that prints JSON."""
    text = output(namespace, argv)
    return json.loads(text) if text.strip() else []


def runs_module(module: str) -> bool:
    """Whether some process of the box runs ``python -m MODULE``."""
    wanted = b"\0-m\0" + module.encode() + b"\0"
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (directory / "cmdline").read_bytes():
                return True
        except OSError:
            continue  # it has ended meanwhile
    return False
