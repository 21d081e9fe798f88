"""What the nodes and the fabric do for Services beside balancing: routes to LoadBalancer addresses, health checks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from testbed.cluster.kinds import ENDPOINT_SLICE, SERVICE
from testbed.cluster.store import Store, Watch
from testbed.cluster.values import ClusterState
from testbed.errors import RunError
from testbed.network.live_state import LiveState

LOG = logging.getLogger(__name__)

_KINDS = (SERVICE, ENDPOINT_SLICE)
Update = Callable[[ClusterState], None]


class ServiceAgent:
    """Calls ``updates`` with the newest state whenever Services or their endpoints have changed."""

    def __init__(self, store: Store, live: LiveState, updates: Sequence[Update]) -> None:
        self._store, self._live, self._updates = store, live, updates
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="service-agent", daemon=True)

    def start(self) -> None:
        """Bring everything to the present state and follow the store from here. Raises RunError."""
        self._watch = self._store.watch(_KINDS)
        self.update()
        self._thread.start()

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._thread.join()

    def update(self) -> None:
        """Bring everything to the present state now. Raises RunError."""
        with self._lock:
            state = self._live.current()
            for update in self._updates:
                update(state)

    def _run(self) -> None:
        watch = self._watch
        assert watch is not None
        while not watch.closed:
            try:
                if watch.next():
                    self.update()
            except RunError:
                LOG.exception("the Services' routes or health checks are not up to date")
