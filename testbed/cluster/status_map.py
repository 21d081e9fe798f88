"""The status ConfigMap that a process keeps through the API, as :mod:`testbed.cluster.confirm` describes it."""

from __future__ import annotations

from testbed.cluster.client import ApiClient
from testbed.cluster.identity import STATUS_NAMESPACE
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import config_map
from testbed.cluster.status import NotFound


class StatusMap:
    """The ConfigMap ``name``. Both methods raise what :class:`ApiClient` raises."""

    def __init__(self, api: ApiClient, name: str) -> None:
        self._api, self._name = api, name

    def existing(self) -> dict[str, str] | None:
        """What an earlier process has left there; None, and an empty ConfigMap from now on, if there was none."""
        try:
            return dict(self._api.get(CONFIG_MAP, self._name, STATUS_NAMESPACE).get("data") or {})
        except NotFound:
            self._api.create(config_map(STATUS_NAMESPACE, self._name, {}))
            return None

    def write(self, written: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
        """Make ``wanted`` of the ``written`` content, by a patch with the difference only; gives ``wanted``."""
        changes: dict[str, str | None] = {key: text for key, text in wanted.items() if written.get(key) != text}
        changes |= dict.fromkeys(written.keys() - wanted.keys())
        if changes:
            self._api.patch(CONFIG_MAP, self._name, {"data": changes}, STATUS_NAMESPACE)
        return wanted
