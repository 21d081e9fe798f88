"""From HTTP to SPDY or WebSocket: which protocol client and server share, and the answer that says so."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.streams.client_socket import ClientSocket
from testbed.apiserver.streams.websocket import WebSocket
from testbed.cluster.status import BadRequest, Forbidden

_VERSION_HEADER = "X-Stream-Protocol-Version"


def asks_for_websocket(exchange: Exchange) -> bool:
    """Whether a request asks for a WebSocket, rather than for SPDY."""
    return "websocket" in _tokens(exchange, "Upgrade")


def agreed_spdy_protocol(exchange: Exchange, supported: Sequence[str]) -> str:
    """The protocol above SPDY, the first that the client names and that is supported. Raises BadRequest, Forbidden."""
    if "spdy/3.1" not in _tokens(exchange, "Upgrade") or "upgrade" not in _tokens(exchange, "Connection"):
        raise BadRequest("unable to upgrade: missing upgrade headers in request")
    wanted = _tokens(exchange, _VERSION_HEADER)
    if not wanted:
        raise BadRequest(f"unable to upgrade: {_VERSION_HEADER} is required")
    for protocol in wanted:
        if protocol in supported:
            return protocol
    raise Forbidden(
        f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(wanted)}], "
        f"server accepts [{' '.join(supported)}]"
    )


def agreed_websocket_protocol(websocket: WebSocket, supported: Sequence[str]) -> str:
    """The protocol above WebSocket; empty when the client names none. Raises BadRequest."""
    if not websocket.offered:
        return ""
    for protocol in websocket.offered:
        if protocol in supported:
            return protocol
    raise BadRequest(
        f"unable to upgrade: requested protocol(s) are not supported: [{' '.join(websocket.offered)}]; "
        f"supports [{' '.join(supported)}]"
    )


def open_websocket(exchange: Exchange) -> WebSocket:
    """The WebSocket that a request asks for, not yet accepted. Raises BadRequest."""
    return WebSocket(exchange.headers.items(), exchange.path)


def switch_to_spdy(exchange: Exchange, protocol: str) -> tuple[ClientSocket, bytes]:
    """Answer that SPDY begins now; returns the client, and what it has sent already."""
    sock, early = exchange.take_over()
    client = ClientSocket(sock)
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        f"{_VERSION_HEADER}: {protocol}",
    )
    client.send("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    return client, early


def switch_to_websocket(exchange: Exchange, websocket: WebSocket, protocol: str) -> tuple[ClientSocket, bytes]:
    """Answer that WebSocket begins now; returns the client, and what it has sent already."""
    sock, early = exchange.take_over()
    client = ClientSocket(sock)
    websocket.accept(protocol or None)
    client.send(websocket.take())
    return client, early


def _tokens(exchange: Exchange, header: str) -> list[str]:
    """The values of a header that may come several times, and hold several values each; in lower case."""
    texts = exchange.headers.get_all(header, [])
    return [token.strip().lower() for text in texts for token in text.split(",") if token.strip()]
