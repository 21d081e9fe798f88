"""What the loops of all workloads do to the store."""

from __future__ import annotations

import logging
from typing import Protocol

from testbed.cluster.attempt import attempt
from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import POD, Kind, kind_of
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.status import AlreadyExists, ApiError
from testbed.cluster.store import Store

_log = logging.getLogger(__name__)

# A name that another object still has becomes free without a word to whoever waits for it.
RETRY_S = 0.2


class Keeper(Protocol):
    """Keeps what one kind of workload asks for."""

    def keep(self, wire: JsonObject, now_s: float) -> float | None:
        """Do what is to be done now; when to look again though nothing changes, in seconds since the epoch."""


class Hands:
    """Writes what one keeper decides, with its Events."""

    def __init__(self, store: Store, events: EventRecorder) -> None:
        self.store, self.events = store, events

    def create(self, owner: JsonObject, wire: JsonObject, told: str = "") -> bool:
        """Make an object for its owner; False when its name is another's, or when it is refused. ``told`` is the Event
        about it."""
        try:
            self.store.create(wire)
        except AlreadyExists as error:
            _log.debug("%s", error)
            return False
        except ApiError as error:
            self.events.record(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            return False
        if told:
            self.events.record(owner, "Normal", "SuccessfulCreate", told)
        return True

    def create_pods(self, owner: JsonObject, pods: list[JsonObject]) -> bool:
        """Make pods; False when one of them could not be made."""
        made = [self.create(owner, pod, f"Created pod: {object_name(pod)}") for pod in pods]
        return all(made)

    def delete_pods(self, owner: JsonObject, pods: list[JsonObject]) -> None:
        """Delete pods."""
        for pod in pods:
            if self.delete(POD, pod):
                self.events.record(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {object_name(pod)}")

    def delete(self, kind: Kind, wire: JsonObject) -> bool:
        """Delete an object; False when that is not possible any more."""
        done: list[JsonObject] = []
        name, namespace = object_name(wire), object_namespace(wire)
        attempt(wire, lambda: done.append(self.store.delete(kind, name, namespace)))
        return bool(done)

    def report(self, wire: JsonObject, status: JsonObject, annotations: dict[str, str] | None = None) -> None:
        """Write an object's status, and annotations, unless it says the same."""
        there = wire.get("status") or {}
        patch: JsonObject = {}
        if any(there.get(name) != value for name, value in status.items()):
            patch["status"] = status
        noted = wire["metadata"].get("annotations") or {}
        if annotations and not annotations.items() <= noted.items():
            patch["metadata"] = {"annotations": annotations}
        if patch:
            self.store.patch(kind_of(wire), object_name(wire), patch, object_namespace(wire))


def earliest(*moments: float | None) -> float | None:
    """The first of several moments, some of which may never come."""
    return min((moment for moment in moments if moment is not None), default=None)
