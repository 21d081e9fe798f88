"""ARPResponder: the bridge answers ARP itself, so no broadcast reaches any pod. Unknown addresses stay unanswered."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.fields import ARP_REPLY, ARP_REQUEST, ETH_TYPE_ARP
from controllers.pipeline.flow import IN_PORT, Flow, Move, Output, match, set_field
from controllers.pipeline.tables import ARP_RESPONDER, NORMAL, node_cookie, pod_cookie
from testbed.cluster.identity import VIRTUAL_ROUTER_MAC
from testbed.cluster.values import IPAddress, NodeNetwork, PodNetwork

# The asker's addresses become the reply's target; shared by all flows.
_ETH_BACK = Move("eth_src", "eth_dst")
_HARDWARE_BACK = Move("arp_sha", "arp_tha")
_PROTOCOL_BACK = Move("arp_spa", "arp_tpa")
_IS_REPLY = set_field("arp_op", ARP_REPLY)
_SEND_BACK = Output(IN_PORT)


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has: the answers for its gateway and for the address that stands for masked clients."""
    yield reply_flow(node.gateway_ip, node.gateway_mac, node_cookie(node.name))
    yield reply_flow(node.masquerade_ip, VIRTUAL_ROUTER_MAC, node_cookie(node.name))


def pod_flows(pod: PodNetwork) -> Iterator[Flow]:
    """What a pod adds on its node: the answer for its address."""
    yield reply_flow(pod.pod_ip, pod.pod_mac, pod_cookie(pod.key))


def reply_flow(address: IPAddress, mac: str, cookie: int) -> Flow:
    """The flow that turns an ARP request for ``address`` into its reply and sends it back (RFC 826)."""
    return Flow(
        ARP_RESPONDER,
        NORMAL,
        match(eth_type=ETH_TYPE_ARP, arp_op=ARP_REQUEST, arp_tpa=address),
        (
            _ETH_BACK,
            set_field("eth_src", mac),
            _IS_REPLY,
            _HARDWARE_BACK,
            set_field("arp_sha", mac),
            _PROTOCOL_BACK,
            set_field("arp_spa", address),
            _SEND_BACK,
        ),
        cookie,
    )
