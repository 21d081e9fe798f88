"""``pods/NAME/portforward``: connections to a pod's localhost, at the other end of ``kubectl port-forward``."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.streams import upgrade
from testbed.apiserver.streams.client_socket import ClientSocket
from testbed.apiserver.streams.containers import pod_access, wanted_pod
from testbed.apiserver.streams.forwarding import Forwarding
from testbed.apiserver.streams.forwards import (
    CHANNEL_PROTOCOLS,
    SPDY_PROTOCOLS,
    TUNNEL_PROTOCOL,
    ChannelForwards,
    Forwards,
    SpdyForwards,
    TunnelledForwards,
    port_number,
)
from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.cluster.status import BadRequest

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


def answer_port_forward(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Forward connections until the client leaves. Raises ApiError when it cannot begin."""
    pods, pod = pod_access(server), wanted_pod(server, target)
    name, namespace = target.where
    phase = pod.get("status", {}).get("phase", "Pending")
    if phase != "Running":
        raise BadRequest(f"unable to forward port because pod is not running. Current status={phase}")

    def connect(port: int) -> socket.socket:
        return pods.connect(namespace, name, port)

    client, forwards, early = _begin(exchange)
    try:
        Forwarding(client, forwards, connect, f"{name}, uid {pod['metadata']['uid']}").run(early)
    except ProtocolError:
        return  # closes the connection: there is no common language to say it in


def _begin(exchange: Exchange) -> tuple[ClientSocket, Forwards, bytes]:
    if not upgrade.asks_for_websocket(exchange):
        client, early = upgrade.switch_to_spdy(exchange, upgrade.agreed_spdy_protocol(exchange, SPDY_PROTOCOLS))
        return client, SpdyForwards(), early
    websocket = upgrade.open_websocket(exchange)
    protocol = upgrade.agreed_websocket_protocol(websocket, (TUNNEL_PROTOCOL, *CHANNEL_PROTOCOLS))
    ports = [] if protocol == TUNNEL_PROTOCOL else _ports(exchange)
    client, early = upgrade.switch_to_websocket(exchange, websocket, protocol)
    if protocol == TUNNEL_PROTOCOL:
        return client, TunnelledForwards(websocket), early
    return client, ChannelForwards(websocket, protocol, ports), early


def _ports(exchange: Exchange) -> list[int]:
    """The ports in the query, ``ports=80,443`` or several such. Raises BadRequest."""
    texts = [part for text in exchange.query.all("ports") for part in text.split(",")]
    if not texts:
        raise BadRequest('query parameter "ports" is required')
    ports = []
    for text in texts:
        if (port := port_number(text)) is None:
            raise BadRequest(f'unable to parse "{text}" as a port')
        ports.append(port)
    return ports
