"""Mininet's objects for plain ``mn --custom``: a Linux router, a kernel bridge, a shaped link."""

from __future__ import annotations

from collections.abc import Iterable
from subprocess import PIPE, STDOUT
from typing import Any

from mininet.link import Link
from mininet.node import Node, Switch

from topologies.fabric import Route, Shaping
from topologies.shaping import qdisc_commands

# Set before the interfaces arrive: each takes its rp_filter from "default" then. Replies may come back by another of
# the equal-cost paths, which a reverse-path filter would drop. Hash policy 1 spreads by addresses and L4 ports.
_ROUTER_SETTINGS = {
    "/proc/sys/net/ipv4/ip_forward": 1,
    "/proc/sys/net/ipv4/fib_multipath_hash_policy": 1,
    "/proc/sys/net/ipv4/conf/all/rp_filter": 0,
    "/proc/sys/net/ipv4/conf/default/rp_filter": 0,
}


class ElementError(Exception):
    """A command that an element needs has failed; the text is the command's own."""


def route_line(route: Route) -> str:
    """A route as ``ip route`` takes it."""
    hops = " ".join(f"nexthop via {hop.via} dev {hop.interface}" for hop in route.next_hops)
    return f"{route.destination} {hops}"


class Router(Node):
    """A namespace that forwards. Its interfaces get their addresses when they are linked; the Topo gives the routes."""

    def __init__(self, name: str, routes: Iterable[Route] = (), **params: Any) -> None:
        super().__init__(name, **params)
        self.routes = tuple(routes)
        # Not by sysctl(8), which a minimal Debian lacks.
        _checked(self, ["sh", "-e"], "".join(f"echo {value} > {file}\n" for file, value in _ROUTER_SETTINGS.items()))

    def config(self, **params: Any) -> dict[str, Any]:
        """Configure as a Node, then install all routes in one go."""
        result: dict[str, Any] = super().config(**params)
        _checked(self, ["ip", "-batch", "-"], "".join(f"route add {route_line(route)}\n" for route in self.routes))
        return result


class FabricBridge(Switch):
    """The kernel's own bridge, without spanning tree.

    It has a namespace of its own, where no other bridge can have its name and no br_netfilter rule meets its frames.
    """

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **{**params, "inNamespace": True})

    def start(self, _controllers: Iterable[Any]) -> None:
        """Make the bridge and put every interface on it. A bridge has no controller."""
        lines = [f"link add {self.name} type bridge"]
        lines += [f"link set {interface.name} master {self.name} up" for interface in self.intfList() if interface.link]
        lines.append(f"link set {self.name} up")
        _checked(self, ["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def stop(self, deleteIntfs: bool = True) -> None:
        """Remove the bridge."""
        _checked(self, ["ip", "link", "del", self.name])
        super().stop(deleteIntfs)


class ShapedLink(Link):
    """A veth pair that shapes what leaves each of its ends."""

    def __init__(self, node1: Node, node2: Node, shaping: Shaping, **params: Any) -> None:
        super().__init__(node1, node2, **params)
        for interface in (self.intf1, self.intf2):
            for command in qdisc_commands(interface.name, shaping):
                _checked(interface.node, list(command))


def _checked(node: Node, command: list[str], text: str = "") -> None:
    process = node.popen(command, stdin=PIPE, stderr=STDOUT, universal_newlines=True)
    output, _ = process.communicate(text)
    if process.returncode:
        raise ElementError(f"{node.name}: {' '.join(command)}: {output.strip()}")
