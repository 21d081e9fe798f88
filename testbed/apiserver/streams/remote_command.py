"""Runs a program for a client far away: one loop moves its input and output until one of the two ends."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from testbed.apiserver.streams.client_socket import FULL_BYTES, ClientSocket, ready
from testbed.apiserver.streams.remote_streams import RemoteStreams
from testbed.apiserver.streams.standard_streams import StandardStreams
from testbed.apiserver.streams.terminal_sizes import TerminalSizes
from testbed.cluster.pod_access import Started

_STREAMS_S = 30.0
"""How long a client may take to open its streams, as in Kubernetes' kubelet."""

_HANGUP_S = 1.0  # the kernel hangs a terminal up when its first program has ended, but not in the same moment


class RemoteCommand:
    """A client and the program that is run for it."""

    def __init__(self, client: ClientSocket, remote: RemoteStreams, local: StandardStreams) -> None:
        self._client, self._remote, self._local = client, remote, local
        self._input = bytearray()
        self._input_ended = False
        self._sizes = TerminalSizes()

    def wait_for_streams(self, early: bytes) -> bool:
        """Wait until the client has opened its streams; ``early`` is what it has sent already. False: it did not."""
        self._take_in(early)
        while not self._remote.is_complete and not self._is_alone:
            found = ready({self._client.fileno(): self._client.wanted(reads=True)}, _STREAMS_S)
            if not found:
                return False
            self._take_in(self._client.receive(found[self._client.fileno()]))
        if not early and self._remote.settling_s:
            found = ready({self._client.fileno(): self._client.wanted(reads=True)}, self._remote.settling_s)
            self._take_in(self._client.receive(found.get(self._client.fileno(), 0)))
        return not self._is_alone

    def run(self, start: Callable[[], Started]) -> int | None:
        """Start the program and serve it until it has ended and all it wrote is on its way.

        Returns its exit status (128 + the signal's number, if one ended it). None when the client left: the program is
        ended then.
        """
        program = start()
        try:
            self._local.started()
            return self._serve_to_the_end(program)
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()

    def _serve_to_the_end(self, program: Started) -> int | None:
        pidfd = os.pidfd_open(program.pid)
        try:
            self._pass_input()
            while not self._is_alone:
                found = ready(self._wanted() | {pidfd: select.POLLIN})
                self._serve(found)
                if pidfd in found:
                    code = program.wait()
                    self._drain()
                    return code if code >= 0 else 128 - code
            return None
        finally:
            os.close(pidfd)

    @property
    def _is_alone(self) -> bool:
        return self._client.has_left or self._remote.has_left

    def _wanted(self) -> dict[int, int]:
        wanted = {self._client.fileno(): self._client.wanted(reads=len(self._input) < FULL_BYTES)}
        if not self._client.is_full:
            wanted |= dict.fromkeys(self._local.outputs, select.POLLIN)
        if self._local.input is not None and self._input:
            wanted[self._local.input] = wanted.get(self._local.input, 0) | select.POLLOUT
        return wanted

    def _serve(self, found: dict[int, int]) -> None:
        self._take_in(self._client.receive(found.get(self._client.fileno(), 0)))
        self._pass_input()
        for fd in [fd for fd in self._local.outputs if fd in found]:
            self._pass_output(fd)

    def _take_in(self, data: bytes) -> None:
        for name, payload, ended in self._remote.receive(data):
            if name == "stdin":
                self._input += payload
                self._input_ended = self._input_ended or ended
            elif name == "resize":
                for columns, rows in self._sizes.take(payload):
                    self._local.resize(columns, rows)
        self._client.send(self._remote.take())

    def _pass_input(self) -> None:
        while self._input and self._local.input is not None:
            taken = self._local.write(bytes(self._input))
            if not taken:
                return
            del self._input[:taken]
        if self._local.input is None:
            self._input.clear()
        elif self._input_ended:
            self._local.end_input()

    def _pass_output(self, fd: int) -> int:
        """Passes on what there is; how many bytes."""
        name = self._local.outputs[fd]
        data = self._local.read(fd)
        if data:
            self._remote.send(name, data)
            self._client.send(self._remote.take())
        return len(data)

    def _drain(self) -> None:
        """What the program wrote before it ended. What programs that it left behind still write is not waited for."""
        for fd in list(self._local.outputs):
            left = self._local.unread(fd)
            while left > 0 and fd in self._local.outputs and not self._is_alone:
                if self._client.is_full:
                    wanted = {self._client.fileno(): self._client.wanted(reads=False)}
                    self._take_in(self._client.receive(ready(wanted)[self._client.fileno()]))
                elif ready({fd: select.POLLIN}, _HANGUP_S):
                    left -= self._pass_output(fd)
                else:
                    break
