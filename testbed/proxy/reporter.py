"""Write the proxies' status into the ConfigMap ``kube-system/proxy-status``, always only the newest.

Its form is that of the controller's (see :mod:`testbed.cluster.confirm`).
"""

from __future__ import annotations

import http.client
import logging
import threading

from testbed.cluster.client import ApiClient
from testbed.cluster.identity import PROXY_STATUS_NAME
from testbed.cluster.status import ApiError
from testbed.cluster.status_map import StatusMap

LOG = logging.getLogger(__name__)

_RETRY_S = 0.2


class Reporter:
    """Reports in a thread of its own, so that no node waits for the API."""

    def __init__(self, api: ApiClient) -> None:
        self._map = StatusMap(api, PROXY_STATUS_NAME)
        self._wanted: dict[str, str] = {}
        self._changed = threading.Event()

    def report(self, status: dict[str, str]) -> None:
        """Make ``status`` the whole content of the ConfigMap, soon."""
        self._wanted = status
        self._changed.set()

    def run(self) -> None:
        """Report for ever. What an earlier process reported goes first: it says nothing about this one's rules."""
        written: dict[str, str] | None = None
        failing = False
        while True:
            self._changed.clear()
            try:
                written = (self._map.existing() or {}) if written is None else self._map.write(written, self._wanted)
                failing = False
            except (OSError, http.client.HTTPException, ApiError) as error:
                if not failing:
                    LOG.warning("cannot report the status, will try until it works: %s", error)
                failing, written = True, None
                self._changed.wait(_RETRY_S)
            if written == self._wanted:
                self._changed.wait()
