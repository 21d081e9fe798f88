"""What ``exec`` and ``attach`` have in common: the streams that are asked for, and how they begin and end."""

from __future__ import annotations

from collections.abc import Callable

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.streams import upgrade
from testbed.apiserver.streams.client_socket import ClientSocket
from testbed.apiserver.streams.remote_streams import (
    SPDY_PROTOCOLS,
    WEBSOCKET_PROTOCOLS,
    RemoteStreams,
    SpdyStreams,
    WebSocketStreams,
)
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import ApiError, BadRequest

SUCCESS: JsonObject = {"metadata": {}, "status": "Success"}


class CommandOptions:
    """The parameters of a request for ``exec`` or ``attach``. Raises BadRequest when it asks for no stream."""

    def __init__(self, exchange: Exchange) -> None:
        query = exchange.query
        self.terminal = query.flag("tty")
        names = {name for name in ("stdin", "stdout", "stderr") if query.flag(name)}
        if not names:
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        self.names = frozenset(names - {"stderr"} | {"resize"} if self.terminal else names)
        """The streams that the client opens, besides that of errors."""


def begin(exchange: Exchange, options: CommandOptions) -> tuple[ClientSocket, RemoteStreams, bytes]:
    """Switch to the protocol that the client asks for; also returns what it has sent already. Raises ApiError."""
    if upgrade.asks_for_websocket(exchange):
        websocket = upgrade.open_websocket(exchange)
        protocol = upgrade.agreed_websocket_protocol(websocket, WEBSOCKET_PROTOCOLS)
        client, early = upgrade.switch_to_websocket(exchange, websocket, protocol)
        return client, WebSocketStreams(websocket, protocol, options.names), early
    protocol = upgrade.agreed_spdy_protocol(exchange, SPDY_PROTOCOLS)
    client, early = upgrade.switch_to_spdy(exchange, protocol)
    return client, SpdyStreams(protocol, options.names), early


def end(client: ClientSocket, remote: RemoteStreams, status: JsonObject) -> None:
    """Tell the client how it ended."""
    remote.finish(status)
    client.send(remote.take())
    client.finish()


def status_of(code: int) -> JsonObject:
    """What a program's exit status is told as (reason ``NonZeroExitCode``, as client-go knows it)."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def attempt(work: Callable[[], JsonObject | None]) -> JsonObject | None:
    """The status that some work returns, or that of the error it ends with."""
    try:
        return work()
    except FileNotFoundError as error:
        return _not_executed(f'exec: "{error.filename}": executable file not found in $PATH')
    except (ApiError, OSError) as error:
        return _not_executed(str(error))


def _not_executed(why: str) -> JsonObject:
    text = f"error executing command in container: {why}"
    return ApiError(f"Internal error occurred: {text}", {"causes": [{"message": text}]}).status()
