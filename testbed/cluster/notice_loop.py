"""The loop that says what the cluster keeps without acting on it."""

from __future__ import annotations

from collections.abc import Callable

from testbed.cluster.attempt import attempt
from testbed.cluster.events import EventRecorder
from testbed.cluster.objects import JsonObject

_NOT_ENFORCED = "The policy is stored, but this version of the testbed does not enforce it: all traffic passes"


class NoticeLoop:
    """Told of NetworkPolicies, it records an Event on each that is new or has changed."""

    def __init__(self, recorder: Callable[[str], EventRecorder]) -> None:
        self._events = recorder("network-policy-controller")
        self._told: dict[str, object] = {}  # the spec about which it was said, by uid
        self._changed: list[JsonObject] = []

    def put(self, wire: JsonObject) -> None:
        if wire["kind"] == "NetworkPolicy" and self._told.get(wire["metadata"]["uid"], wire) != wire.get("spec"):
            self._told[wire["metadata"]["uid"]] = wire.get("spec")
            self._changed.append(wire)

    def remove(self, wire: JsonObject) -> None:
        self._told.pop(wire["metadata"]["uid"], None)

    def work(self) -> None:
        """Record what is to be said."""
        changed, self._changed = self._changed, []
        for wire in changed:
            attempt(wire, lambda wire=wire: self._events.record(wire, "Warning", "NotEnforced", _NOT_ENFORCED))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """Nothing here is a matter of time."""
        return None
