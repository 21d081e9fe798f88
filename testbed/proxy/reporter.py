"""Write the proxies' status into the ConfigMap ``kube-system/proxy-status``, always only the newest.

Its form is that of the controller's (see :mod:`testbed.cluster.confirm`).
"""

from __future__ import annotations

import http.client
import logging
import threading

from testbed.cluster.client import ApiClient
from testbed.cluster.identity import PROXY_STATUS_NAME, STATUS_NAMESPACE
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import config_map
from testbed.cluster.status import ApiError, NotFound

LOG = logging.getLogger(__name__)

_RETRY_S = 0.2


class Reporter:
    """Reports in a thread of its own, so that no node waits for the API."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
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
                written = self._existing() if written is None else self._write(written)
                failing = False
            except (OSError, http.client.HTTPException, ApiError) as error:
                if not failing:
                    LOG.warning("cannot report the status, will try until it works: %s", error)
                failing, written = True, None
                self._changed.wait(_RETRY_S)
            if written == self._wanted:
                self._changed.wait()

    def _existing(self) -> dict[str, str]:
        try:
            return dict(self._api.get(CONFIG_MAP, PROXY_STATUS_NAME, STATUS_NAMESPACE).get("data") or {})
        except NotFound:
            self._api.create(config_map(STATUS_NAMESPACE, PROXY_STATUS_NAME, {}))
            return {}

    def _write(self, written: dict[str, str]) -> dict[str, str]:
        wanted = self._wanted
        changes: dict[str, str | None] = {key: text for key, text in wanted.items() if written.get(key) != text}
        changes |= dict.fromkeys(written.keys() - wanted.keys())
        if changes:
            self._api.patch(CONFIG_MAP, PROXY_STATUS_NAME, {"data": changes}, STATUS_NAMESPACE)
        return wanted
