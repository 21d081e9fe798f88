"""``pods/NAME/attach``: what a container writes from now on, at the other end of ``kubectl attach``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.streams.client_socket import READ_BYTES, ready
from testbed.apiserver.streams.command_options import SUCCESS, CommandOptions, begin, end
from testbed.apiserver.streams.containers import pod_access, wanted_container, wanted_pod
from testbed.apiserver.streams.log import LOOK_S, Run
from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.cluster.status import BadRequest

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


def answer_attach(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Pass on what the container writes until it ends or the client leaves. Raises ApiError when it cannot begin."""
    pods, pod = pod_access(server), wanted_pod(server, target)
    container, options = wanted_container(exchange, pod), CommandOptions(exchange)
    name, namespace = target.where
    if not pods.is_running(namespace, name, container):
        raise BadRequest(f'container not found ("{container}")')
    run = Run(pods, namespace, name, container, previous=False)
    with run.log:
        run.log.seek(0, 2)
        client, remote, data = begin(exchange, options)
        try:
            while True:
                for _ in remote.receive(data):
                    pass  # the container's standard input is /dev/null
                is_last = run.has_ended()
                while remote.is_complete and not client.is_full and (written := run.log.read(READ_BYTES)):
                    remote.send("stdout", written)
                    client.send(remote.take())
                client.send(remote.take())
                if client.has_left or remote.has_left:
                    return
                if is_last and not client.is_full:
                    end(client, remote, SUCCESS)
                    return
                found = ready({client.fileno(): client.wanted(reads=True)}, LOOK_S)
                data = client.receive(found.get(client.fileno(), 0))
        except ProtocolError:
            return  # closes the connection: there is no common language to say it in
