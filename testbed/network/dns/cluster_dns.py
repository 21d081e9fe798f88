"""Keeps the cluster's name servers true: follows the store and tells every server of every change.

Two threads share the work. One waits for changes of the store and sends them to the servers that are connected; the
other one connects to servers that have appeared or started again, fills them, and notices when one ends.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from testbed.cluster import identity
from testbed.cluster.dns_addon import SELECTOR
from testbed.cluster.dns_records import DnsRecords, RecordChanges
from testbed.cluster.kinds import ENDPOINT_SLICE, POD, SERVICE
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.status import Expired
from testbed.cluster.store import Event, Store, Watch
from testbed.errors import RunError
from testbed.network.dns.session import Session, SessionError
from testbed.network.pod_files import pod_hostname

LOG = logging.getLogger(__name__)

_KINDS = (POD, SERVICE, ENDPOINT_SLICE)
# Nothing tells when a program begins to listen, so it is tried, at first often: a server is up in some 50 ms.
_FIRST_RETRY_S, _LAST_RETRY_S = 0.02, 0.5


@dataclass
class _Server:
    """The name server of one pod. Without a session it is to be connected; ``trouble`` says why it is not yet."""

    name: str
    hostname: str
    session: Session | None = None
    trouble: str = "not connected yet"
    retry_s: float = _FIRST_RETRY_S

    def drop(self, error: SessionError) -> None:
        """Give up the session; what the server has now is not known."""
        if self.session is not None:
            self.session.close()
            self.session = None
        self.trouble = str(error)


class ClusterDns:
    """The records of a store's objects, in every running name server of the cluster (see :mod:`dns_addon`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()  # guards everything below
        self._synced = threading.Condition(self._lock)
        self._records = DnsRecords()
        self._servers: dict[str, _Server] = {}
        self._watch: Watch | None = None
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._threads = (
            threading.Thread(target=self._follow, name="cluster-dns", daemon=True),
            threading.Thread(target=self._attend, name="cluster-dns-servers", daemon=True),
        )

    def start(self) -> None:
        """Follow the store from here on."""
        with self._lock:
            self._list()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop following; the servers are left as they are."""
        with self._lock:
            self._stopped = True
            if self._watch is not None:
                self._watch.close()
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for server in self._servers.values():
            server.drop(SessionError("stopped"))
        os.close(self._wake)

    def wait_settled(self, timeout_s: float) -> None:
        """Wait until every running name server answers by the objects that the store has now.

        At once when no name server runs. Raises RunError after the timeout.
        """
        deadline = time.monotonic() + timeout_s
        while not self._following().wait_handled(_left_s(deadline)):
            # The watch is closed when it has fallen behind; then there is another one.
            if self._stopped or not _left_s(deadline):
                raise RunError(f"the cluster DNS has not followed within {timeout_s:g} s")
        with self._lock:
            self._drop_ended()
            if not self._synced.wait_for(lambda: not self._troubles(), _left_s(deadline)):
                raise RunError("the cluster DNS is not up to date: " + "; ".join(self._troubles()))

    def _following(self) -> Watch:
        with self._lock:
            if self._watch is None:
                raise RunError("the cluster DNS has not been started")
            return self._watch

    def _troubles(self) -> list[str]:
        return [f"{server.name}: {server.trouble}" for server in self._servers.values() if server.session is None]

    # -- the thread that follows the store ----------------------------------------------------------------------

    def _list(self) -> None:
        """Read everything anew; the lock is held."""
        objects, self._watch = self._store.follow(_KINDS)
        self._records = DnsRecords()
        for wire in objects:
            self._records.put(wire)
        self._records.changes()
        self._choose_servers(wire for wire in objects if wire["kind"] == "Pod")

    def _follow(self) -> None:
        while True:
            watch = self._following()
            try:
                events = watch.next()
            except Expired:
                self._relist(watch)
                continue
            if self._stopped:
                return
            with self._lock:
                self._take(events)
            watch.handled()

    def _relist(self, expired: Watch) -> None:
        """After more changes at once than the store keeps: the servers are compared with all there is."""
        with self._lock:
            self._list()
            for server in self._servers.values():
                server.drop(SessionError("to be filled again"))
        expired.close()
        os.eventfd_write(self._wake, 1)

    def _take(self, events: Iterable[Event]) -> None:
        """Bring changes to the servers; the lock is held."""
        for event in events:
            wire = event.object
            if event.type == "DELETED":
                self._records.remove(wire)
            else:
                self._records.put(wire)
            if wire["kind"] == "Pod":
                self._note_server(wire, gone=event.type == "DELETED")
        changes = self._records.changes()
        if changes.removed or changes.added:
            for server in self._servers.values():
                self._send(server, changes)

    def _send(self, server: _Server, changes: RecordChanges) -> None:
        if server.session is None:
            return  # it will get everything when it is connected
        try:
            server.session.apply(changes)
        except SessionError as error:
            LOG.warning("name server %s: %s", server.name, error)
            server.drop(error)
            os.eventfd_write(self._wake, 1)

    def _choose_servers(self, pods: Iterable[JsonObject]) -> None:
        known = set()
        for pod in pods:
            self._note_server(pod, gone=False)
            known.add(_server_name(pod))
        for name in self._servers.keys() - known:
            self._servers.pop(name).drop(SessionError("the pod is gone"))

    def _note_server(self, pod: JsonObject, gone: bool) -> None:
        """Begin or cease to serve a pod's name server; the lock is held."""
        name = _server_name(pod)
        wanted = not gone and _is_running_server(pod)
        if wanted and name not in self._servers:
            self._servers[name] = _Server(name, pod_hostname(pod))
            os.eventfd_write(self._wake, 1)
        elif not wanted and name in self._servers:
            self._servers.pop(name).drop(SessionError("the pod is gone"))
            self._synced.notify_all()

    # -- the thread that attends to the servers -----------------------------------------------------------------

    def _attend(self) -> None:
        while True:
            with self._lock:
                if self._stopped:
                    return
                for server in self._servers.values():
                    if server.session is None:
                        self._connect(server)
                filenos = [server.session.fileno() for server in self._servers.values() if server.session is not None]
                delays_s = [server.retry_s for server in self._servers.values() if server.session is None]
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            for fileno in filenos:
                poll.register(fileno, select.POLLIN)
            ready = dict(poll.poll(min(delays_s) * 1e3 if delays_s else None))
            if self._wake in ready:
                os.eventfd_read(self._wake)
            with self._lock:
                self._drop_ended()

    def _connect(self, server: _Server) -> None:
        """Try to fill a server; the lock is held, so that no change is missed."""
        session = None
        try:
            session = Session(server.hostname)
            session.resync(self._records.records())
        except SessionError as error:
            if session is not None:
                session.close()
            server.trouble = str(error)
            server.retry_s = min(2 * server.retry_s, _LAST_RETRY_S)
            return
        server.session, server.retry_s = session, _FIRST_RETRY_S
        self._synced.notify_all()

    def _drop_ended(self) -> None:
        """Give up the sessions whose server has ended; the lock is held."""
        for server in self._servers.values():
            if server.session is not None and server.session.has_ended():
                LOG.warning("name server %s has ended", server.name)
                server.drop(SessionError("it has ended"))
                os.eventfd_write(self._wake, 1)


def _left_s(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _server_name(pod: JsonObject) -> str:
    return f"{object_namespace(pod)}/{object_name(pod)}"


def _is_running_server(pod: JsonObject) -> bool:
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    return (
        object_namespace(pod) == identity.DNS_NAMESPACE
        and SELECTOR.items() <= labels.items()
        and not metadata.get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") == "Running"
    )
