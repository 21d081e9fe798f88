"""What a node's kernel does for Services that its bridge balances (``proxy: openflow``).

The kernel translates nothing. It hands the bridge what is meant for a Service, takes back what the bridge has
translated (whose source may be an address of the node itself), and refuses what the bridge marks as having no endpoint:
a flow can drop a packet, but not answer with a TCP reset.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from testbed.cluster import identity
from testbed.cluster.values import NODE_PORTS, NodeNetwork
from testbed.errors import RunError
from testbed.network import netlink, netns

# Looked up by packets to the node's NodePorts: leads into the bridge.
_BRIDGE_TABLE = 100
# Before the local table (which Linux asks first, at 0, and which here moves to 10): otherwise the kernel would take
# packets to its own address for itself.
_FROM_BRIDGE_RULE, _NODE_PORT_RULE, _LOCAL_RULE = 4, 5, 10
_DEFAULT_ROUTE = IPv4Network("0.0.0.0/0")
_IP_PROTOS = (socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_SCTP)
_NFT_S = 30

# Prerouting comes before the routing decision, so packets that claim the node's own address get this far.
REFUSING_RULES = f"""table ip testbed {{
  chain refused {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{identity.GATEWAY_INTERFACE}" ether saddr {identity.REJECT_MAC} goto refuse
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmp port-unreachable
  }}
}}
"""


def prepare_node(node: NodeNetwork) -> None:
    """Rules and switches that are there whatever the proxy; in the node's namespace, where ``gw`` is up.

    Raises NetlinkError.
    """
    gateway = Path("/proc/sys/net/ipv4/conf", identity.GATEWAY_INTERFACE)
    (gateway / "accept_local").write_text("1")
    # What comes from the bridge may well go back to it: that is no reason to tell the sender of a shorter way.
    for scope in (gateway, gateway.parent / "all"):
        (scope / "send_redirects").write_text("0")
    # What comes for a process of the node by a NodePort's number takes the turn through the bridge. Linux would find
    # the process's connection before it looks up the route, and does not forward what it has found a socket for.
    Path("/proc/sys/net/ipv4/ip_early_demux").write_text("0")
    # Every client of a UDP Service without endpoints is told so, not one a second.
    Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
    via = ip_address(identity.VIRTUAL_NEXT_HOP)
    with netlink.Netlink() as kernel:
        index = kernel.index(identity.GATEWAY_INTERFACE)
        kernel.request(
            [
                netlink.route(_DEFAULT_ROUTE, [(via, index)], onlink=True, table=_BRIDGE_TABLE),
                netlink.neighbour(index, node.masquerade_ip, identity.VIRTUAL_ROUTER_MAC),
                netlink.rule(_LOCAL_RULE, netlink.LOCAL_TABLE),
                netlink.rule(0, netlink.LOCAL_TABLE, delete=True),
                # What the bridge gives back to the node's own address must not be handed to it again.
                netlink.rule(_FROM_BRIDGE_RULE, netlink.LOCAL_TABLE, iif=identity.GATEWAY_INTERFACE),
            ]
        )


def steer_node_ports(nodes: Sequence[NodeNetwork], steered: bool) -> None:
    """Hand packets to the nodes' NodePorts to the bridges, or leave them to the kernels. Raises NetlinkError."""
    with netns.home():
        for node in nodes:
            netns.enter(node.name)
            with netlink.Netlink() as kernel:
                kernel.request(
                    [
                        netlink.rule(
                            _NODE_PORT_RULE,
                            _BRIDGE_TABLE,
                            destination=IPv4Network(f"{node.node_ip}/32"),
                            ip_proto=ip_proto,
                            dport_range=NODE_PORTS,
                            delete=not steered,
                        )
                        for ip_proto in _IP_PROTOS
                    ]
                )


def install_refusals(nodes: Sequence[NodeNetwork]) -> None:
    """Make every node's kernel refuse what its bridge marks, all nodes side by side. Raises RunError."""
    running = []
    for node in nodes:
        with netns.entered(node.name):
            process = subprocess.Popen(
                ["nft", "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        running.append((node.name, process))
    failures = []
    for name, process in running:
        output, _ = process.communicate(REFUSING_RULES, timeout=_NFT_S)
        if process.returncode:
            failures.append(f"{name}: {output.strip()}")
    if failures:
        raise RunError("nft: " + "; ".join(failures))
