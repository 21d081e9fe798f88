"""The cluster network as the store has it now, read again only where it has changed."""

from __future__ import annotations

import threading

from testbed.cluster.status import Expired
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState
from testbed.cluster.view import STATE_KINDS, ClusterView


class LiveState:
    """Follows a store without a thread of its own: whoever asks, reads what has happened since. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read_all()

    def _read_all(self) -> None:
        objects, self._watch = self._store.follow(STATE_KINDS)
        self._view = ClusterView()
        for wire in objects:
            self._view.put(wire)
        self._state = self._view.state()

    def current(self) -> ClusterState:
        """The state now; the very same object while nothing has changed. Raises StateError without settings."""
        with self._lock:
            try:
                events = self._watch.next(0)
            except Expired:  # more changes at once than the store keeps
                self._read_all()
                return self._state
            for event in events:
                if event.type == "DELETED":
                    self._view.remove(event.object)
                else:
                    self._view.put(event.object)
            if events:
                self._state = self._view.state()
            return self._state
