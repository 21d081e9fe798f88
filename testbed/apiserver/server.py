"""The store, served over HTTP in the form of the Kubernetes API: a thread for each connection, loopback only."""

from __future__ import annotations

import contextlib
import errno
import hmac
import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator, Sequence

from testbed.apiserver.connection import Connection
from testbed.apiserver.discovery import discovery_documents
from testbed.apiserver.listing import Pages
from testbed.apiserver.writing import Advice, no_advice
from testbed.cluster.kinds import Kind
from testbed.cluster.page_source import PageSource
from testbed.cluster.pod_access import PodAccess
from testbed.cluster.store import Matches, Store, Watch

_log = logging.getLogger(__name__)

_BOOKMARK_INTERVAL_S = 10.0
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESOURCES_RETRY_S = 1.0  # nothing tells when there are some again


class ApiServer:
    """Serves a store on a socket that is already listening, on a loopback address only. A context manager.

    ``token``: what a client has to show (``Authorization: Bearer TOKEN``); without one everybody is served, so such a
    listener belongs inside the box. ``pods``: the way into the running pods, for logs and the like; without one these
    are answered by 404. ``advice``: what clients are told about an object they write, though it is right.
    ``bookmark_interval_s``: how often a watch with nothing to tell says how far it is, and notices a client that left.
    Raises ValueError when the socket is reachable from elsewhere.
    """

    def __init__(
        self,
        store: Store,
        listener: socket.socket,
        *,
        token: str | None = None,
        pods: PodAccess | None = None,
        advice: Advice = no_advice,
        bookmark_interval_s: float = _BOOKMARK_INTERVAL_S,
    ) -> None:
        host, self.tcp_port = listener.getsockname()[:2]
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the cluster API is served on loopback only, not on {host}")
        self.url = f"http://{host}:{self.tcp_port}"
        self.store, self.pods, self.advice, self.bookmark_interval_s = store, pods, advice, bookmark_interval_s
        self.documents, self.pages = discovery_documents(), Pages()
        self.page: PageSource | None = None
        """What the page for browsers shows; it is not served as long as there is none."""
        self._token = None if token is None else token.encode()
        self._listener = listener
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._watches: set[Watch] = set()
        self._stop = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="cluster-api", daemon=True)

    def __enter__(self) -> ApiServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        """Close the listener and all connections; watches end. Idempotent."""
        with self._lock:
            self._stop.set()
            connections, watches = list(self._connections), list(self._watches)
        for watch in watches:
            watch.close()
        with contextlib.suppress(OSError):  # not connected: another process that shares it has shut it down
            self._listener.shutdown(socket.SHUT_RDWR)  # unlike close, this wakes the acceptor
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def admits(self, authorization: str) -> bool:
        """Whether a request with this ``Authorization`` header is served at all."""
        if self._token is None:
            return True
        scheme, _, shown = authorization.partition(" ")
        # In constant time, so that answering tells nothing of how much of a guess is right.
        return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), self._token)

    @contextlib.contextmanager
    def watching(self, kinds: Kind | Sequence[Kind], version: int, matches: Matches | None) -> Iterator[Watch]:
        """A watch that ends with the server."""
        with self.store.watch(kinds, version, matches) as watch:
            with self._lock:
                self._watches.add(watch)
                if self._stop.is_set():
                    watch.close()
            try:
                yield watch
            finally:
                with self._lock:
                    self._watches.discard(watch)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, peer = self._listener.accept()
            except ConnectionAbortedError:
                continue  # the client gave up while it was queueing
            except OSError as error:
                if self._stop.is_set():
                    return
                if error.errno not in _NO_RESOURCES:
                    _log.error("the cluster API accepts no more connections: %s", error)
                    return
                _log.error("the cluster API cannot take a connection: %s", error)
                self._stop.wait(_RESOURCES_RETRY_S)
                continue
            with self._lock:
                self._connections.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection, peer), name="cluster-api", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the machine gives no further thread
                _log.error("the cluster API cannot serve a connection: %s", error)
                with self._lock:
                    self._connections.discard(connection)
                connection.close()

    def _serve(self, connection: socket.socket, peer: object) -> None:
        try:
            Connection(connection, peer, self)
        except OSError:
            pass  # the client left
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()
