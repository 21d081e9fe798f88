"""The whole of a trace: resolve what is wanted, follow the request, then its reply."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.cluster.identity import switch_namespace
from testbed.network.openvswitch import VSwitch
from testbed.trace.bridge import Bridge
from testbed.trace.cluster import Cluster
from testbed.trace.firewalls import Firewalls
from testbed.trace.journey import Journey
from testbed.trace.kernel import Kernel
from testbed.trace.names import Names
from testbed.trace.places import Places
from testbed.trace.request import ASSUMED_SOURCE_PORT, Request, Resolved, Resolver
from testbed.trace.values import FiveTuple, Packet, Trace, Way

_UNSPECIFIED = IPv4Address(0)
_SEVERAL_NEXT_HOPS = (
    "Where a route has several next hops, the one followed is the kernel's answer for these addresses and ports. A TCP"
    " socket's packets can carry the socket's own hash instead, and VXLAN's outer source port is a hash of the inner"
    " packet, so a real packet may take another."
)

_NO_IPVS = "What IPVS does inside the nodes' kernels is not followed: a packet to a Service seems to end at the node."


def trace(cluster: Cluster, request: Request) -> Trace:
    """Trace a request in the cluster whose box this process is in. Sends nothing and changes nothing.

    Raises InputError when the request names what is not there, RunError when a switch or a kernel does not answer.
    """
    kernel = Kernel()
    places = Places(cluster.state, kernel)
    resolved = Resolver(cluster, kernel, places).resolve(request)
    names = Names(cluster.state, places.fabric_addresses)
    bridges = {}
    for node in cluster.state.nodes:
        switch = VSwitch(node.name, switch_namespace(node.name), node.datapath_id, {})
        bridges[switch.namespace] = Bridge(switch, names, resolved.endpoint)
    firewalls = Firewalls(kernel, resolved.endpoint)
    assumptions = _assumptions(request, resolved)
    if cluster.state.config.proxy == "ipvs":
        assumptions.append(_NO_IPVS)

    def follow(namespace: str, packet: Packet, source_known: bool) -> Way:
        journey = Journey(kernel, names, places, bridges, firewalls.of)
        way = journey.follow(namespace, packet, source_known=source_known)
        if journey.several_next_hops and _SEVERAL_NEXT_HOPS not in assumptions:
            assumptions.append(_SEVERAL_NEXT_HOPS)
        return way

    wanted = FiveTuple(
        resolved.protocol, _UNSPECIFIED, resolved.source_port, resolved.address, resolved.destination_port
    )
    way = follow(resolved.namespace, Packet(wanted), False)
    reply = None
    received = way.delivered
    if received is not None:
        answer = Packet(received.packet.tuple.reversed, is_reply=True)
        reply = follow(received.namespace, answer, True)
    for bridge in bridges.values():
        assumptions += bridge.assumptions
    return Trace(request.source, request.target, way, reply, tuple(assumptions))


def _assumptions(request: Request, resolved: Resolved) -> list[str]:
    if resolved.protocol == "icmp" or request.source_port is not None:
        return []
    return [f"The client's port is taken to be {ASSUMED_SOURCE_PORT} (--source-port), of a new connection."]
