"""``pods/NAME/log``: what a container has written, and writes, at the other end of ``kubectl logs``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.streams.containers import pod_access, wanted_container
from testbed.apiserver.streams.log_lines import LogReader, Times
from testbed.apiserver.streams.log_options import log_options
from testbed.cluster.pod_access import PodAccess
from testbed.cluster.status import NotFound

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

LOOK_S = 0.1
"""How often a log that is followed is looked at."""


class Run:
    """One run of a container, whose log may still grow."""

    def __init__(self, pods: PodAccess, namespace: str, pod: str, container: str, *, previous: bool) -> None:
        self._pods, self._where, self._previous = pods, (namespace, pod, container), previous
        self.path: Path = pods.log(*self._where, previous=previous)
        self.log = self.path.open("rb")
        self._inode = self.path.stat().st_ino

    def times(self) -> Times:
        """When what stands in the log was written."""
        with suppress(NotFound):
            return self._pods.log_times(*self._where, previous=self._previous)
        return ()

    def has_ended(self) -> bool:
        """Whether nothing will be added to the log: the container has ended, or another run of it has begun."""
        try:
            return self._previous or not self._pods.is_running(*self._where) or self.path.stat().st_ino != self._inode
        except (NotFound, OSError):
            return True


def answer_log(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Send the log; when it is followed, until the container ends or the client leaves. Raises ApiError."""
    pods = pod_access(server)
    pod = server.store.get(target.kind, *target.where)
    name, namespace = target.where
    options = log_options(exchange.query, name)
    container = wanted_container(exchange, pod)
    run = Run(pods, namespace, name, container, previous=options.previous)
    with run.log:
        reader = LogReader(run.log, options, run.times)
        with exchange.stream("text/plain") as chunks:
            while True:
                is_last = not options.follow or run.has_ended()
                while data := reader.read():
                    chunks.write(data)
                if is_last or reader.is_at_limit or chunks.wait_for_leaving(LOOK_S):
                    return
