"""``pods/NAME/exec``: a program in a container, at the other end of ``kubectl exec`` and ``kubectl cp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.streams.command_options import CommandOptions, attempt, begin, end, status_of
from testbed.apiserver.streams.containers import pod_access, wanted_container, wanted_pod
from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.apiserver.streams.remote_command import RemoteCommand
from testbed.apiserver.streams.standard_streams import StandardStreams
from testbed.cluster.objects import JsonObject
from testbed.cluster.pod_access import Started
from testbed.cluster.status import BadRequest

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


def answer_exec(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Run the program until it ends or the client leaves. Raises ApiError when it cannot begin."""
    pods, pod = pod_access(server), wanted_pod(server, target)
    container, options = wanted_container(exchange, pod), CommandOptions(exchange)
    argv = exchange.query.all("command")
    if not argv:
        raise BadRequest("you must specify at least 1 command for the container")
    name, namespace = target.where
    if not pods.is_running(namespace, name, container):
        raise BadRequest(f'container not found ("{container}")')
    client, remote, early = begin(exchange, options)
    with StandardStreams(options.names, options.terminal) as local:
        command = RemoteCommand(client, remote, local)

        def start() -> Started:
            return pods.start(namespace, name, container, argv, **local.theirs, terminal=options.terminal)

        def run() -> JsonObject | None:
            code = command.run(start)
            return None if code is None else status_of(code)

        try:
            if command.wait_for_streams(early) and (status := attempt(run)) is not None:
                end(client, remote, status)
        except ProtocolError:
            return  # closes the connection: there is no common language to say it in
