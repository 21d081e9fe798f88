"""Write the controller's status into the ConfigMap ``kube-system/controller-status``, always only the newest."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable

from controllers.ryu_app.framework import hub
from testbed.cluster.client import ApiClient
from testbed.cluster.identity import STATUS_NAME
from testbed.cluster.status import ApiError
from testbed.cluster.status_map import StatusMap

LOG = logging.getLogger(__name__)

_RETRY_S = 0.2


class Reporter:
    """Reports in a green thread of its own, so that the loop never waits for the API."""

    def __init__(self, api: ApiClient, on_inherited: Callable[[dict[str, str] | None], None]) -> None:
        """``on_inherited`` is called once, with what an earlier controller has reported; None if there was none."""
        self._map, self._on_inherited = StatusMap(api, STATUS_NAME), on_inherited
        self._wanted: dict[str, str] = {}
        self._waiting = hub.Queue()

    def report(self, status: dict[str, str]) -> None:
        """Make ``status`` the whole content of the ConfigMap, soon."""
        if status != self._wanted:
            self._wanted = status
            if self._waiting.empty():
                self._waiting.put(None)

    def run(self) -> None:
        """Report for ever. What an earlier controller reported goes first: it says nothing about this one's pushes."""
        written: dict[str, str] | None = None
        failing, first = False, True
        while True:
            try:
                if written is None:
                    existing = self._map.existing()
                    written = existing or {}
                    if first:
                        self._on_inherited(existing)
                else:
                    written = self._map.write(written, self._wanted)
                failing = first = False
            except (OSError, http.client.HTTPException, ApiError) as error:
                if not failing:
                    LOG.warning("cannot report the status, will try until it works: %s", error)
                failing, written = True, None
                hub.sleep(_RETRY_S)
            if written == self._wanted:
                self._waiting.get()
