"""Conditions of an object's status, written as Kubernetes does: an unchanged one keeps its times."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.cluster.objects import JsonObject
from testbed.cluster.timestamps import timestamp


def with_condition(
    conditions: Iterable[JsonObject],
    condition_type: str,
    status: str,
    reason: str,
    message: str,
    now_s: float,
    updated: bool = False,
) -> list[JsonObject]:
    """The conditions with one of them set; one that says the same already is left as it is.

    ``lastTransitionTime`` is when the status changed last. With ``updated`` also ``lastUpdateTime`` is written, and
    written anew, though nothing else may have changed.
    """
    entries = list(conditions)
    now = timestamp(now_s)
    made = {"type": condition_type, "status": status, "reason": reason, "message": message}
    for index, entry in enumerate(entries):
        if entry.get("type") == condition_type:
            if not updated and all(entry.get(name) == value for name, value in made.items()):
                return entries
            since = entry.get("lastTransitionTime", now) if entry.get("status") == status else now
            made["lastTransitionTime"] = since
            entries[index] = {**made, "lastUpdateTime": now} if updated or "lastUpdateTime" in entry else made
            return entries
    made["lastTransitionTime"] = now
    return [*entries, {**made, "lastUpdateTime": now} if updated else made]
