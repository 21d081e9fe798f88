"""The loop that deletes what has lost its owners, as ``ownerReferences`` tell, of whatever kind it is.

An object that is deleted in the foreground waits for what it keeps: the store only marks it and gives it a finalizer,
which is taken off here (https://kubernetes.io/docs/concepts/architecture/garbage-collection/).
"""

from __future__ import annotations

from collections import defaultdict

from testbed.cluster.attempt import attempt
from testbed.cluster.kinds import KINDS
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_terminating
from testbed.cluster.store import FOREGROUND, Store

_KIND = {(kind.api_version, kind.name): kind for kind in KINDS}


class GarbageLoop:
    """Told of everything, it looks at what an object's end or its own references concern."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._objects: dict[str, JsonObject] = {}  # by uid
        self._dependents: dict[str, dict[str, None]] = defaultdict(dict)  # uids, by their owner's
        self._doubtful: dict[str, None] = {}  # those that may have lost their owners
        self._ending: dict[str, None] = {}  # those that wait for a finalizer to be taken off

    def put(self, wire: JsonObject) -> None:
        uid = wire["metadata"]["uid"]
        known = self._objects.get(uid)
        self._objects[uid] = wire
        if known is None or known["metadata"].get("ownerReferences") != wire["metadata"].get("ownerReferences"):
            if known is not None:
                self._unlink(uid, known)
            for owner in _owner_uids(wire):
                self._dependents[owner][uid] = None
            if wire["metadata"].get("ownerReferences"):
                self._doubtful[uid] = None
        if is_terminating(wire) and wire["metadata"].get("finalizers"):
            self._ending[uid] = None

    def remove(self, wire: JsonObject) -> None:
        uid = wire["metadata"]["uid"]
        known = self._objects.pop(uid, None)
        if known is not None:
            self._unlink(uid, known)
        self._doubtful |= self._dependents.get(uid, {})

    def work(self) -> None:
        """Delete what nobody keeps, and let go what waited."""
        doubtful, self._doubtful = self._doubtful, {}
        for uid in doubtful:
            wire = self._objects.get(uid)
            if wire is not None and not is_terminating(wire) and self._is_abandoned(wire):
                attempt(wire, lambda wire=wire: self._delete(wire, foreground=False))  # type: ignore[misc]
        ending, self._ending = self._ending, {}
        for uid in ending:
            wire = self._objects.get(uid)
            if wire is not None:
                attempt(wire, lambda uid=uid, wire=wire: self._end(uid, wire))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """Nothing here is a matter of time."""
        return None

    def _unlink(self, uid: str, wire: JsonObject) -> None:
        """Forget whose the object is; an owner that waits for that is looked at again."""
        for owner in _owner_uids(wire):
            dependents = self._dependents[owner]
            dependents.pop(uid, None)
            if not dependents:
                del self._dependents[owner]
            if owner in self._objects and is_terminating(self._objects[owner]):
                self._ending[owner] = None

    def _is_abandoned(self, wire: JsonObject) -> bool:
        """Whether all owners are gone. One without uid, or of a kind that is not served, counts as being there."""
        references = wire["metadata"].get("ownerReferences") or ()
        return bool(references) and all(
            reference.get("uid")
            and reference["uid"] not in self._objects
            and (reference.get("apiVersion"), reference.get("kind")) in _KIND
            for reference in references
        )

    def _end(self, uid: str, wire: JsonObject) -> None:
        finalizers = wire["metadata"].get("finalizers") or []
        dependents = [self._objects[each] for each in self._dependents.get(uid, ()) if each in self._objects]
        if FOREGROUND not in finalizers:
            return
        for each in dependents:
            if not is_terminating(each):
                attempt(each, lambda each=each: self._delete(each, foreground=_blocks(each, uid)))  # type: ignore[misc]
        if not any(_blocks(each, uid) for each in dependents):
            self._take_off(wire)

    def _take_off(self, wire: JsonObject) -> None:
        kind = _KIND[wire["apiVersion"], wire["kind"]]
        left = [each for each in wire["metadata"]["finalizers"] if each != FOREGROUND]
        patch = {"metadata": {"finalizers": left or None, "uid": wire["metadata"]["uid"]}}
        self._store.patch(kind, object_name(wire), patch, object_namespace(wire))

    def _delete(self, wire: JsonObject, foreground: bool) -> None:
        kind, uid = _KIND[wire["apiVersion"], wire["kind"]], wire["metadata"]["uid"]
        # What keeps nothing need not wait for anything.
        waits = foreground and uid in self._dependents
        self._store.delete(kind, object_name(wire), object_namespace(wire), foreground=waits)


def _owner_uids(wire: JsonObject) -> list[str]:
    references = wire["metadata"].get("ownerReferences") or ()
    return [str(reference["uid"]) for reference in references if reference.get("uid")]


def _blocks(wire: JsonObject, owner_uid: str) -> bool:
    references = wire["metadata"].get("ownerReferences") or ()
    return any(each.get("uid") == owner_uid and each.get("blockOwnerDeletion") for each in references)
