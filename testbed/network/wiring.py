"""Makes a plan's namespaces, wires, addresses and routes, in netlink batches; and changes them between modes."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from testbed.cluster import identity
from testbed.cluster.values import VXLAN_UDP_PORT, IPAddress, Mode, NodeNetwork, PodNetwork
from testbed.errors import RunError
from testbed.network import linux, netlink, netns
from testbed.network.node_services import prepare_node
from testbed.network.openvswitch import Datapath
from testbed.network.plan import Plan, PlannedRoute, Routes
from topologies.fabric import LinkEnd
from topologies.shaping import qdisc_commands

_LEAVING_GROUP = 1  # of links that are removed together
_LOOPBACK = 1  # the loopback's index in every new namespace
_MANAGEMENT_BRIDGE = "mgmt0"
_MANAGEMENT_PREFIX = 16
_MANAGEMENT_FIRST = ip_address("172.31.0.1")
_DEFAULT_ROUTE = IPv4Network("0.0.0.0/0")

CONTROLLER_ADDRESS = str(_MANAGEMENT_FIRST)


def idle_port(number: int) -> str:
    """The bridge side of an idle port."""
    return f"idle{number}"


def switch_ports(plan: Plan, node: NodeNetwork) -> dict[str, int]:
    """A node's bridge ports and their OpenFlow numbers (0: any)."""
    ports = {
        identity.TUNNEL_INTERFACE: identity.TUNNEL_OF_PORT,
        identity.GATEWAY_PEER: identity.GATEWAY_OF_PORT,
    }
    ports.update((pod.interface, pod.of_port) for pod in plan.state.pods_by_node[node.name])
    ports.update((idle_port(number), 0) for number in range(plan.idle_ports))
    return ports


def _management_port(node: NodeNetwork) -> str:
    """The box's end of the wire to a node's switch namespace."""
    return f"m{node.datapath_id}"


class Wiring:
    """The network devices of one plan. ``userspace`` datapaths need checksums made before a frame reaches them."""

    def __init__(self, plan: Plan, datapath: Datapath) -> None:
        self.plan = plan
        self._userspace = datapath == "netdev"
        # Pods come and go while other threads change modes.
        self._lock = threading.Lock()
        self._pods = dict(plan.state.pod_by_key)
        self._pod_mtu_bytes = plan.pod_mtu_bytes(plan.state.config.mode)

    # -- building -----------------------------------------------------------------------------------------------

    def make_management(self) -> None:
        """Out-of-band control: a bridge in the box's own namespace, with the controller's address. Needed by all else.

        Raises RunError when the kernel refuses.
        """
        try:
            with netlink.Netlink() as kernel:
                kernel.request([netlink.bridge(_MANAGEMENT_BRIDGE)])
                index = kernel.index(_MANAGEMENT_BRIDGE)
                kernel.request([netlink.address(index, _MANAGEMENT_FIRST, _MANAGEMENT_PREFIX)])
        except netlink.NetlinkError as error:
            raise RunError(f"the kernel refused to build the network: {error}") from error

    def build(self, advance: Callable[[str], None]) -> None:
        """Make everything else; ``advance`` is told what is next. Raises RunError when the kernel refuses."""
        # A bind mount needs no descriptor, but the daemons of many nodes do.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            self._make_elements()
            for node in self.plan.state.nodes:
                advance(f"node {node.name}")
                self._make_node(node)
            self._apply_routes(self.plan.state.config.mode)
            self._shape_links()
        except netlink.NetlinkError as error:
            raise RunError(f"the kernel refused to build the network: {error}") from error

    def _make_elements(self) -> None:
        """Namespaces of nodes, outside hosts, routers and bridges, and the wires between them."""
        fabric = self.plan.fabric
        mtu_bytes = self.plan.state.config.underlay_mtu_bytes
        with netns.home():
            for element in fabric.elements:
                netns.create_and_stay(element.name)
                _sysctl("net/ipv6/conf/default/disable_ipv6", "1")
                if element.kind != "bridge":
                    self._prepare_ip_element(forwards=element.kind in ("router", "node"))
                with netlink.Netlink() as kernel:
                    kernel.request([netlink.link_up(_LOOPBACK)])
                    if element.kind == "bridge":
                        kernel.request([netlink.bridge(element.name)])
        with ExitStack() as opened:
            files = {element.name: _open_namespace(opened, element.name) for element in fabric.elements}
            with netns.home():
                for element in fabric.elements:
                    wires = [link for link in fabric.links if link.a.element == element.name]
                    if wires:
                        linux.setns(files[element.name], linux.CLONE_NEWNET)
                        with netlink.Netlink() as kernel:
                            kernel.request(
                                [
                                    netlink.veth(
                                        link.a.interface,
                                        link.b.interface,
                                        peer_namespace_fd=files[link.b.element],
                                        mtu_bytes=mtu_bytes,
                                        peer_mtu_bytes=mtu_bytes,
                                    )
                                    for link in wires
                                ]
                            )
                for element in fabric.elements:
                    linux.setns(files[element.name], linux.CLONE_NEWNET)
                    self._finish_element(element.kind == "bridge", element.name, fabric.ends_by_element[element.name])

    @staticmethod
    def _prepare_ip_element(forwards: bool) -> None:
        _sysctl("net/ipv4/ip_forward", "1" if forwards else "0")
        # Hash on ports too: otherwise the two modes could take different ECMP paths by their outer addresses alone.
        _sysctl("net/ipv4/fib_multipath_hash_policy", "1")
        for scope in ("all", "default"):
            _sysctl(f"net/ipv4/conf/{scope}/rp_filter", "0")

    @staticmethod
    def _finish_element(is_bridge: bool, name: str, ends: tuple[LinkEnd, ...]) -> None:
        with netlink.Netlink() as kernel:
            kernel.request([netlink.named_link_up(end.interface) for end in ends])
            if is_bridge:
                master = kernel.index(name)
                kernel.request([netlink.link_master(kernel.index(end.interface), master) for end in ends])
            else:
                kernel.request(
                    [
                        netlink.address(kernel.index(end.interface), end.address.ip, end.address.network.prefixlen)
                        for end in ends
                        if end.address is not None
                    ]
                )

    def _make_node(self, node: NodeNetwork) -> None:
        """A node's switch namespace with its ports, and its pods."""
        switch = identity.switch_namespace(node.name)
        management = _management_port(node)
        with ExitStack() as opened, netns.home() as box:
            netns.create_and_stay(switch)
            switch_file = _open_namespace(opened, switch)
            _sysctl("net/ipv6/conf/default/disable_ipv6", "1")
            _sysctl("net/ipv4/ip_forward", "0")
            address = _MANAGEMENT_FIRST + node.datapath_id
            with netlink.Netlink() as kernel:
                kernel.request(
                    [
                        netlink.link_up(_LOOPBACK),
                        netlink.veth(identity.MANAGEMENT_INTERFACE, management, peer_namespace_fd=box),
                        netlink.named_link_up(identity.MANAGEMENT_INTERFACE),
                    ]
                )
                index = kernel.index(identity.MANAGEMENT_INTERFACE)
                kernel.request([netlink.address(index, address, _MANAGEMENT_PREFIX)])
                for number in range(self.plan.idle_ports):
                    ends = (idle_port(number), f"idle{number}-end")
                    kernel.request([netlink.veth(*ends), *(netlink.named_link_up(end) for end in ends)])
            linux.setns(box, linux.CLONE_NEWNET)
            with netlink.Netlink() as kernel:
                kernel.request(
                    [
                        netlink.named_link_up(management),
                        netlink.link_master(kernel.index(management), kernel.index(_MANAGEMENT_BRIDGE)),
                    ]
                )
            netns.enter(node.name)
            self._connect_node(node, switch_file)
            prepare_node(node)
            pods = self.plan.state.pods_by_node[node.name]
            for pod in pods:
                self._make_pod(node, pod, switch_file)
            linux.setns(switch_file, linux.CLONE_NEWNET)
            self._finish_switch(node, pods)

    def _connect_node(self, node: NodeNetwork, switch_file: int) -> None:
        """The node's own wire to its bridge, and its VXLAN device, which keeps its socket here (DESIGN: section 5)."""
        config = self.plan.state.config
        with netlink.Netlink() as kernel:
            kernel.request(
                [
                    netlink.veth(
                        identity.GATEWAY_INTERFACE,
                        identity.GATEWAY_PEER,
                        peer_namespace_fd=switch_file,
                        mac=node.gateway_mac,
                        mtu_bytes=self._pod_mtu_bytes,
                        peer_mtu_bytes=config.underlay_mtu_bytes,
                    ),
                    netlink.vxlan(
                        identity.TUNNEL_INTERFACE,
                        vni=config.vni,
                        local=node.node_ip,
                        udp_port=VXLAN_UDP_PORT,
                        mac=node.vtep_mac,
                        mtu_bytes=config.overlay_mtu_bytes,
                        namespace_fd=switch_file,
                    ),
                    netlink.named_link_up(identity.GATEWAY_INTERFACE),
                ]
            )
            index = kernel.index(identity.GATEWAY_INTERFACE)
            kernel.request(
                [
                    netlink.address(index, node.gateway_ip, node.pod_cidr.prefixlen),
                    netlink.neighbour(index, ip_address(identity.VIRTUAL_NEXT_HOP), identity.VIRTUAL_ROUTER_MAC),
                ]
            )
            self._own_checksums(identity.GATEWAY_INTERFACE)

    def _make_pod(self, node: NodeNetwork, pod: PodNetwork, switch_file: int) -> None:
        name = identity.pod_namespace(pod.namespace, pod.name)
        inside = identity.POD_INTERFACE_IN_POD
        netns.create_and_stay(name)
        with netlink.Netlink() as kernel:
            kernel.request(
                [
                    netlink.link_up(_LOOPBACK),
                    netlink.veth(
                        inside,
                        pod.interface,
                        peer_namespace_fd=switch_file,
                        mac=pod.pod_mac,
                        mtu_bytes=self._pod_mtu_bytes,
                        peer_mtu_bytes=self.plan.state.config.underlay_mtu_bytes,
                    ),
                    netlink.no_ipv6_address(inside),
                    netlink.named_link_up(inside),
                ]
            )
            index = kernel.index(inside)
            kernel.request(
                [
                    netlink.address(index, pod.pod_ip, node.pod_cidr.prefixlen),
                    netlink.route(_DEFAULT_ROUTE, [(node.gateway_ip, index)]),
                ]
            )
            self._own_checksums(inside)

    def _finish_switch(self, node: NodeNetwork, pods: Iterable[PodNetwork]) -> None:
        with netlink.Netlink() as kernel:
            tunnel = kernel.index(identity.TUNNEL_INTERFACE)
            kernel.request(
                [
                    netlink.named_link_up(identity.GATEWAY_PEER),
                    *(netlink.named_link_up(pod.interface) for pod in pods),
                    netlink.link_up(tunnel),
                    *(
                        netlink.forwarding_entry(tunnel, other.vtep_mac, other.node_ip)
                        for other in self.plan.state.nodes
                        if other.name != node.name
                    ),
                ]
            )

    def _own_checksums(self, interface: str) -> None:
        if self._userspace:
            # An interface ioctl acts in the namespace its socket was made in, so each namespace needs its own.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
                netlink.disable_transmit_checksum(control, interface)

    def _shape_links(self) -> None:
        for link in self.plan.fabric.links:
            for end in (link.a, link.b):
                for command in qdisc_commands(end.interface, link.shaping):
                    argv = [command[0], "-netns", end.element, *command[1:]]
                    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
                    if done.returncode:
                        raise RunError(f"{' '.join(argv)}: {done.stderr.strip()}")

    # -- changing -----------------------------------------------------------------------------------------------

    def _apply_routes(self, mode: Mode, previous: Mode | None = None) -> None:
        self._replace_routes(self.plan.routes(mode), self.plan.routes(previous) if previous else {})

    @staticmethod
    def _replace_routes(wanted: Routes, present: Routes) -> None:
        for element, routes in wanted.items():
            obsolete = set(present.get(element, ())) - set(routes)
            missing = set(routes) - set(present.get(element, ()))
            if obsolete or missing:
                with netns.entered(element), netlink.Netlink() as kernel:
                    kernel.request([_route(kernel, route, delete=True) for route in sorted(obsolete, key=str)])
                    kernel.request([_route(kernel, route) for route in sorted(missing, key=str)])

    def change_mode(self, previous: Mode, mode: Mode) -> None:
        """Replace the routes that differ between the modes."""
        self._apply_routes(mode, previous)

    def add_pods(self, node: NodeNetwork, pods: Sequence[PodNetwork]) -> None:
        """Make and wire pods on a node that is built, up to the bridge. Raises RunError when the kernel refuses."""
        try:
            with self._lock, ExitStack() as opened, netns.home():
                switch_file = _open_namespace(opened, identity.switch_namespace(node.name))
                for pod in pods:
                    self._make_pod(node, pod, switch_file)
                    self._pods[pod.key] = pod
                linux.setns(switch_file, linux.CLONE_NEWNET)
                with netlink.Netlink() as kernel:
                    kernel.request([netlink.named_link_up(pod.interface) for pod in pods])
        except netlink.NetlinkError as error:
            raise RunError(f"{node.name}: the kernel refused to wire pods: {error}") from error

    def remove_pods(self, node: NodeNetwork, pods: Sequence[PodNetwork]) -> None:
        """Remove the wires and namespaces of pods whose processes have ended."""
        with self._lock:
            with netns.entered(identity.switch_namespace(node.name)), netlink.Netlink() as kernel:
                # One goes with its other end, whose namespace may be gone.
                absent = (errno.ENODEV,)
                kernel.request([netlink.link_group(pod.interface, _LEAVING_GROUP) for pod in pods], ignore=absent)
                kernel.request([netlink.group_delete(_LEAVING_GROUP)], ignore=absent)
            for pod in pods:
                self._pods.pop(pod.key, None)
                _let_go(identity.pod_namespace(pod.namespace, pod.name))

    def restore_routes(self, element: str, mode: Mode, up: frozenset[str]) -> None:
        """Bring back the routes by interfaces that are up again, which the kernel has removed. Raises NetlinkError."""
        routes = []
        for route in self.plan.routes(mode).get(element, ()):
            hops = tuple(hop for hop in route.next_hops if hop[1] in up)
            if hops:
                routes.append(replace(route, next_hops=hops))
        self._replace_routes({element: tuple(routes)}, {})

    def apply_fabric_routes(self, wanted: Routes, present: Routes) -> None:
        """Replace routes of fabric elements, beside those of the plan. Raises NetlinkError."""
        self._replace_routes(wanted, present)

    def set_pod_mtu(self, mtu_bytes: int) -> None:
        """Give every pod and every node's gateway interface an MTU."""
        with self._lock:
            self._pod_mtu_bytes = mtu_bytes
            ends = [(node.name, identity.GATEWAY_INTERFACE) for node in self.plan.state.nodes]
            ends += [
                (identity.pod_namespace(pod.namespace, pod.name), identity.POD_INTERFACE_IN_POD)
                for pod in self._pods.values()
            ]
            self._set_mtu(ends, mtu_bytes)

    @staticmethod
    def _set_mtu(ends: Iterable[tuple[str, str]], mtu_bytes: int) -> None:
        with netns.home():
            for namespace, interface in ends:
                netns.enter(namespace)
                with netlink.Netlink() as kernel:
                    kernel.request([netlink.link_mtu(kernel.index(interface), mtu_bytes)])

    def namespaces(self) -> list[str]:
        """Every namespace that is there."""
        return [
            *(element.name for element in self.plan.fabric.elements),
            *(identity.switch_namespace(node.name) for node in self.plan.state.nodes),
            *(identity.pod_namespace(pod.namespace, pod.name) for pod in self._pods.values()),
        ]

    def remove(self) -> None:
        """Let go of every namespace; the kernel removes it, with its interfaces, when its last process has ended."""
        # Namespaces are destroyed later, in the background; what stands in the box's own must go now.
        with netlink.Netlink() as kernel:
            for interface in (_MANAGEMENT_BRIDGE, *(_management_port(node) for node in self.plan.state.nodes)):
                with suppress(OSError):
                    kernel.request([netlink.link_delete(kernel.index(interface))])
        for name in self.namespaces():
            _let_go(name)


def _let_go(name: str) -> None:
    with suppress(OSError):
        linux.unmount_lazily(netns.path(name))
        Path(netns.path(name)).unlink()


def _route(kernel: netlink.Netlink, route: PlannedRoute, delete: bool = False) -> netlink.Request:
    hops: list[tuple[IPAddress | None, int]] = [(via, kernel.index(interface)) for via, interface in route.next_hops]
    return netlink.route(route.destination, hops, onlink=route.onlink, delete=delete)


def _open_namespace(stack: ExitStack, name: str) -> int:
    fd = os.open(netns.path(name), os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _sysctl(name: str, value: str) -> None:
    """Set a network sysctl of the namespace the calling thread is in."""
    try:
        Path("/proc/sys", name).write_text(value)
    except FileNotFoundError:
        # A kernel without IPv6 has nothing to switch off.
        if "ipv6" not in name:
            raise
