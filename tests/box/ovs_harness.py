"""A small cluster of real bridges in a sealed box, with the real API server and the real controller process.

It has the wires the flows rely on and nothing more: no fabric, no Mininet. The nodes' uplinks are one kernel bridge.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from controllers.pipeline import TABLES, compile_program, learned_flows, parse_dump, parse_group_dump
from testbed.apiserver.server import ApiServer
from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.confirm import wait_confirmed, wait_versions
from testbed.cluster.identity import (
    BRIDGE,
    CONFIG_NAME,
    CONFIG_NAMESPACE,
    GATEWAY_INTERFACE,
    GATEWAY_OF_PORT,
    GATEWAY_PEER,
    MANAGEMENT_INTERFACE,
    STATUS_NAME,
    STATUS_NAMESPACE,
    TUNNEL_INTERFACE,
    TUNNEL_OF_PORT,
    VIRTUAL_NEXT_HOP,
    VIRTUAL_ROUTER_MAC,
    pod_namespace,
    switch_namespace,
)
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, KINDS, NODE, POD, SERVICE
from testbed.cluster.objects import JsonObject, resource_version
from testbed.cluster.store import Store
from testbed.cluster.values import VXLAN_UDP_PORT, ClusterState, Mode, NetworkConfig, NodeNetwork, PodNetwork
from testbed.cluster.view import cluster_state
from testbed.network.box import run_sealed
from testbed.network.builder import choose_datapath
from testbed.network.openvswitch import VSwitch, revise_cached_decisions, start_all

OPENFLOW_TCP_PORT = 6653
_CONTROLLER_IP = "172.31.0.1"
_FIRST_NODE_IP = IPv4Address("192.168.1.11")
CONFIRM_TIMEOUT_S = 20.0


def sealed(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test inside a sealed box; it fails if the worker in the box fails."""

    @functools.wraps(test)
    def in_box(*arguments: Any, **named: Any) -> None:
        def worker() -> int:
            test(*arguments, **named)
            return 0

        assert run_sealed(worker) == 0, "the test failed inside the box; its traceback is in the captured output"

    return in_box


def cluster_objects(nodes: int, pods: int, mode: Mode = "overlay") -> tuple[JsonObject, ...]:
    """The complete objects of a cluster with its pods spread evenly over nodes n1, n2, ..."""
    edge = [EdgeNode(f"n{number + 1}", _FIRST_NODE_IP + number, {}, "") for number in range(nodes)]
    manifests = [pod_manifest(f"pod-{number}", f"n{number % nodes + 1}") for number in range(pods)]
    return assign(edge, NetworkConfig(mode=mode), 24, manifests)


def pod_manifest(name: str, node_name: str) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node_name, "containers": [{"name": "main", "image": "pause"}]},
    }


def start_networks() -> None:
    """The bridges that join the nodes: one for management, one as their underlay."""
    _ip(
        [
            "link add mgmt type bridge",
            f"addr add {_CONTROLLER_IP}/16 dev mgmt",
            "link set mgmt up",
            "link add underlay type bridge",
            "link set underlay up",
        ]
    )


@dataclass
class Controller:
    """A running controller process."""

    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_controller(api_url: str, library: str) -> Controller:
    """Start the controller with one of the frameworks; returns when switches can connect."""
    argv = [sys.executable, "-m", "controllers.ryu_app", "--api", api_url]
    argv += ["--listen", f"{_CONTROLLER_IP}:{OPENFLOW_TCP_PORT}"]
    environment = {**os.environ, "TESTBED_OPENFLOW": library}
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n", "the controller did not start"
    return Controller(process)


@contextmanager
def served(objects: Iterable[JsonObject]) -> Iterator[tuple[Store, str]]:
    """A store with these objects, and the URL at which the API serves it."""
    store = Store()
    for wire in objects:
        store.create(wire)
    listener = socket.create_server(("127.0.0.1", 0))
    with ApiServer(store, listener) as server:
        yield store, server.url


def start_bridges(state: ClusterState, ports: bool = True) -> dict[str, VSwitch]:
    """Wire the nodes and start a bridge for each; ``ports=False``: bridges without pods or anything else."""
    switches = []
    for number, node in enumerate(state.nodes):
        namespace = switch_namespace(node.name)
        _ip(
            [
                f"netns add {namespace}",
                f"link add m{number} type veth peer name {MANAGEMENT_INTERFACE} netns {namespace}",
                f"link set m{number} master mgmt up",
            ]
        )
        address = f"172.31.1.{number + 1}/16"
        _ip([f"addr add {address} dev {MANAGEMENT_INTERFACE}", f"link set {MANAGEMENT_INTERFACE} up"], namespace)
        pods = state.pods_by_node[node.name]
        of_ports: dict[str, int] = {}
        if ports:
            _wire_node(state, node, number)
            for pod in pods:
                _wire_pod(node, pod)
            of_ports = {TUNNEL_INTERFACE: TUNNEL_OF_PORT, GATEWAY_PEER: GATEWAY_OF_PORT}
            of_ports |= {pod.interface: pod.of_port for pod in pods}
        switches.append(VSwitch(node.name, namespace, node.datapath_id, of_ports))
    start_all(switches, choose_datapath("auto"), f"tcp:{_CONTROLLER_IP}:{OPENFLOW_TCP_PORT}")
    return {switch.node_name: switch for switch in switches}


def _wire_node(state: ClusterState, node: NodeNetwork, number: int) -> None:
    switch = switch_namespace(node.name)
    gateway = f"{node.gateway_ip}/{node.pod_cidr.prefixlen}"
    _ip(
        [
            f"netns add {node.name}",
            f"link add u{number} type veth peer name eth0 netns {node.name}",
            f"link set u{number} master underlay up",
        ]
    )
    others = [other for other in state.nodes if other.name != node.name]
    _ip(
        [
            "link set lo up",
            f"addr add {node.node_ip}/24 dev eth0",
            "link set eth0 up",
            f"link add {GATEWAY_INTERFACE} address {node.gateway_mac} type veth"
            f" peer name {GATEWAY_PEER} netns {switch}",
            f"addr add {gateway} dev {GATEWAY_INTERFACE}",
            f"link set {GATEWAY_INTERFACE} up",
            f"neigh add {VIRTUAL_NEXT_HOP} lladdr {VIRTUAL_ROUTER_MAC} dev {GATEWAY_INTERFACE} nud permanent",
            f"link add {TUNNEL_INTERFACE} address {node.vtep_mac} type vxlan id {state.config.vni} nolearning"
            f" local {node.node_ip} dstport {VXLAN_UDP_PORT}",
            f"link set {TUNNEL_INTERFACE} netns {switch}",
        ],
        node.name,
    )
    _ip([f"link set {GATEWAY_PEER} up", f"link set {TUNNEL_INTERFACE} up"], switch)
    for other in others:
        entry = ["fdb", "append", other.vtep_mac, "dev", TUNNEL_INTERFACE, "dst", str(other.node_ip), "permanent"]
        _run(["bridge", "-n", switch, *entry])
    for interface in ("eth0", GATEWAY_INTERFACE):
        _no_offload(node.name, interface)
    sysctls = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
    sysctls += [f"net.ipv4.conf.{GATEWAY_INTERFACE}.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0"]
    _run(["ip", "netns", "exec", node.name, "sysctl", "-q", "-w", *sysctls])
    set_routes(state, node, state.config.mode)


def set_routes(state: ClusterState, node: NodeNetwork, mode: Mode) -> None:
    """The routes of a mode. Both may be there at once: then the kernel takes the longer prefix, which is routed's."""
    for other in state.nodes:
        if other.name != node.name:
            _set_route(node, str(other.pod_cidr), f"via {other.node_ip} dev eth0", present=mode == "routed")
    by_bridge = f"via {VIRTUAL_NEXT_HOP} dev {GATEWAY_INTERFACE} onlink"
    _set_route(node, str(state.config.cluster_cidr), by_bridge, present=mode == "overlay")


def _set_route(node: NodeNetwork, destination: str, way: str, present: bool) -> None:
    argv = ["ip", "-n", node.name, "route"]
    listed = subprocess.run([*argv, "show", "exact", destination], capture_output=True, text=True, timeout=30)
    if present != bool(listed.stdout):
        _run([*argv, "add" if present else "del", destination, *way.split()])


def _wire_pod(node: NodeNetwork, pod: PodNetwork) -> None:
    namespace = pod_namespace(pod.namespace, pod.name)
    _ip([f"netns add {namespace}"])
    switch = switch_namespace(node.name)
    _ip(
        [
            f"link add eth0 address {pod.pod_mac} type veth peer name {pod.interface} netns {switch}",
            f"addr add {pod.pod_ip}/{node.pod_cidr.prefixlen} dev eth0",
            "link set eth0 mtu 1450 up",
            f"route add default via {node.gateway_ip}",
        ],
        namespace,
    )
    _ip([f"link set {pod.interface} up"], switch)
    _no_offload(namespace, "eth0")


def in_pod(pod: PodNetwork, *argv: str) -> list[str]:
    """The command line that runs a program in a pod's network namespace."""
    return ["ip", "netns", "exec", pod_namespace(pod.namespace, pod.name), *argv]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = CONFIRM_TIMEOUT_S) -> None:
    """Wait for a condition; fails with ``what`` if it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def dump_flows(switch: VSwitch, *options: str) -> str:
    """The bridge's flows as ovs-ofctl prints them."""
    return switch.ofctl("dump-flows", "--no-stats", *options, BRIDGE)


def dump_groups(switch: VSwitch) -> str:
    """The bridge's groups as ovs-ofctl prints them."""
    return switch.ofctl("dump-groups", BRIDGE)


def dump_learned(switch: VSwitch) -> tuple[str, ...]:
    """What connections have taught the bridge."""
    return learned_flows(dump_flows(switch, "--no-names"))


@dataclass
class Cluster:
    """A running cluster: the API's store, the bridges by node name, the controller."""

    store: Store
    api_url: str
    switches: dict[str, VSwitch]
    controller: Controller

    @property
    def objects(self) -> list[JsonObject]:
        return [wire for kind in KINDS for wire in self.store.list(kind).items]

    @property
    def state(self) -> ClusterState:
        return cluster_state(self.objects)

    @property
    def status(self) -> dict[str, str]:
        """What the controller has reported."""
        return dict(self.store.get(CONFIG_MAP, STATUS_NAME, STATUS_NAMESPACE)["data"])

    def set_mode(self, mode: Mode) -> JsonObject:
        """Change the mode in the cluster's settings; flows only, no routes."""
        return self.store.patch(CONFIG_MAP, CONFIG_NAME, {"data": {"mode": mode}}, CONFIG_NAMESPACE)

    def confirm(self, *changed: JsonObject) -> None:
        """Wait until all bridges have confirmed the objects; without any, all changes so far, deletions too."""
        if changed:
            wait_confirmed(self.store, self.switches, changed, CONFIRM_TIMEOUT_S)
            return
        wanted = self.store.newest_versions((NODE, POD, SERVICE, ENDPOINT_SLICE))
        # Of the ConfigMaps only this one is followed; the newest is likely the controller's own status.
        wanted[CONFIG_MAP.name] = resource_version(self.store.get(CONFIG_MAP, CONFIG_NAME, CONFIG_NAMESPACE))
        wait_versions(self.store, self.switches, wanted, CONFIRM_TIMEOUT_S)

    def revise_cached(self) -> None:
        """Wait until the bridges have revised what they had cached: only then every packet meets the new flows."""
        revise_cached_decisions(self.switches.values())

    def assert_exact(self) -> None:
        """Every bridge holds exactly the compiled flows, but for what connections have taught it, and groups."""
        state = self.state
        for name, switch in self.switches.items():
            program = compile_program(state, name)
            assert parse_dump(dump_flows(switch, "--no-names")) == program.flows()
            assert parse_group_dump(dump_groups(switch)) == program.groups()


@contextmanager
def running_cluster(objects: Iterable[JsonObject], library: str) -> Iterator[Cluster]:
    """The whole of it, confirmed."""
    with served(objects) as (store, url):
        start_networks()
        controller = start_controller(url, library)
        switches = start_bridges(cluster_state(wire for kind in KINDS for wire in store.list(kind).items))
        cluster = Cluster(store, url, switches, controller)
        cluster.confirm()
        yield cluster
        cluster.controller.kill()


def name_tables(switch: VSwitch) -> None:
    """Tell the bridge the tables' names, so that ``ovs-ofctl --names`` prints them."""
    for table in TABLES.values():
        switch.vsctl(
            "--id=@table",
            "create",
            "Flow_Table",
            f"name={table.name}",
            "--",
            "set",
            "Bridge",
            BRIDGE,
            f"flow_tables:{table.number}=@table",
        )


def _no_offload(namespace: str, interface: str) -> None:
    # The userspace datapath does not fill in checksums that were left to the hardware.
    _run(["ip", "netns", "exec", namespace, "ethtool", "-K", interface, "tx", "off"])


def _ip(commands: Sequence[str], namespace: str | None = None) -> None:
    argv = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(commands), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{commands}: {done.stderr}"


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
