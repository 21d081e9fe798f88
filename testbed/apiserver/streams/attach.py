"""``pods/NAME/attach``: a container's own input and output, at the other end of ``kubectl attach`` and ``run -it``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.streams.client_socket import FULL_BYTES, READ_BYTES, ClientSocket, ready
from testbed.apiserver.streams.command_options import SUCCESS, CommandOptions, begin, end
from testbed.apiserver.streams.containers import pod_access, wanted_container, wanted_pod
from testbed.apiserver.streams.log import LOOK_S, Run
from testbed.apiserver.streams.protocol_error import ProtocolError
from testbed.apiserver.streams.remote_streams import RemoteStreams
from testbed.apiserver.streams.terminal_sizes import TerminalSizes
from testbed.cluster.pod_access import Console
from testbed.cluster.status import BadRequest

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_TYPING_LOOK_S = 0.02
"""How often the output is looked at when there is somebody who types."""

_JUST_BEGUN_S = 5.0
"""A container that has been writing for less is attached to from its first byte: it is what one attaches to see."""


def answer_attach(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Pass on what the container writes until it ends or the client leaves. Raises ApiError when it cannot begin."""
    pods, pod = pod_access(server), wanted_pod(server, target)
    container, options = wanted_container(exchange, pod), CommandOptions(exchange)
    name, namespace = target.where
    if not pods.is_running(namespace, name, container):
        raise BadRequest(f'container not found ("{container}")')
    run = Run(pods, namespace, name, container, previous=False)
    with run.log:
        times = run.times()
        if times and times[0][1] < time.time() - _JUST_BEGUN_S:
            run.log.seek(0, 2)
        console = pods.console(namespace, name, container) if "stdin" in options.names else None
        client, remote, early = begin(exchange, options)
        attached = _Attached(client, remote, run, console)
        try:
            attached.serve(early)
        except ProtocolError:
            return  # closes the connection: there is no common language to say it in
        finally:
            if console is not None:
                console.client_ended()


class _Attached:
    """A client and the container that it is attached to."""

    def __init__(self, client: ClientSocket, remote: RemoteStreams, run: Run, console: Console | None) -> None:
        self._client, self._remote, self._run, self._console = client, remote, run, console
        self._input = bytearray()
        self._input_ended = False
        self._sizes = TerminalSizes()

    def serve(self, early: bytes) -> None:
        """Until one of the two ends. Raises ProtocolError."""
        settled = time.monotonic() + self._remote.settling_s
        look_s = LOOK_S if self._console is None else _TYPING_LOOK_S
        self._take_in(early)
        while not self._client.has_left and not self._remote.has_left:
            is_last = self._run.has_ended()
            if self._remote.is_complete and time.monotonic() >= settled:
                self._pass_output()
                if is_last and not self._client.is_full:
                    end(self._client, self._remote, SUCCESS)
                    return
            reads = len(self._input) < FULL_BYTES
            found = ready({self._client.fileno(): self._client.wanted(reads)}, look_s)
            self._take_in(self._client.receive(found.get(self._client.fileno(), 0)))

    def _take_in(self, data: bytes) -> None:
        for name, payload, is_last in self._remote.receive(data):
            if name == "stdin":
                self._input += payload
                self._input_ended = self._input_ended or is_last
            elif name == "resize" and self._console is not None:
                for columns, rows in self._sizes.take(payload):
                    self._console.resize(columns, rows)
        self._pass_input()
        self._client.send(self._remote.take())

    def _pass_input(self) -> None:
        if self._console is None:
            self._input.clear()  # the container's standard input is /dev/null
            return
        while self._input and (taken := self._console.write(bytes(self._input))):
            del self._input[:taken]
        if self._input_ended and not self._input:
            self._console.client_ended()

    def _pass_output(self) -> None:
        while not self._client.is_full and (written := self._run.log.read(READ_BYTES)):
            self._remote.send("stdout", written)
            self._client.send(self._remote.take())
