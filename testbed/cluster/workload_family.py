"""Workloads and what they keep, by uid; adopting what matches a workload's selector, releasing what no longer does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping

from testbed.cluster.attempt import attempt
from testbed.cluster.kinds import CONTROLLER_REVISION, POD, REPLICA_SET, Kind
from testbed.cluster.label_selectors import selects
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.ownership import controller, controller_reference, references_without
from testbed.cluster.pod_facts import is_terminating, labels_of
from testbed.cluster.stateful_sets import ordinal_of
from testbed.cluster.store import Store

_Key = tuple[str, str, str]  # kind, namespace and name
_Term = tuple[str, str, str, str]  # kind of what is kept, namespace, label and its value ("" and "": any)

# What each kind of workload picks by its selector.
PICKED = {
    "Deployment": REPLICA_SET,
    "ReplicaSet": POD,
    "StatefulSet": POD,
    "DaemonSet": POD,
    "Job": POD,
}
_KEPT = {kind.name: kind for kind in (REPLICA_SET, CONTROLLER_REVISION, POD)}


class Family:
    """Told of workloads and of what they may keep, it knows which belongs to which. ``changed`` collects the uids of
    workloads that are to be looked at, in the order in which that became known."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.owners: dict[str, JsonObject] = {}
        self.changed: dict[str, None] = {}
        self._kept: dict[_Key, JsonObject] = {}
        self._by_owner: dict[str, dict[_Key, JsonObject]] = defaultdict(dict)
        self._orphans: dict[_Term, dict[_Key, None]] = defaultdict(dict)
        self._pickers: dict[_Term, dict[str, None]] = defaultdict(dict)
        self._unsure: dict[_Key, None] = {}  # whose place is to be looked at again

    def put(self, wire: JsonObject) -> None:
        """Take in an object as it is now."""
        if wire["kind"] in PICKED:
            self._put_owner(wire)
        if wire["kind"] in _KEPT:
            self._put_kept(wire)

    def remove(self, wire: JsonObject) -> None:
        """Forget an object that was deleted."""
        if wire["kind"] in PICKED:
            uid = wire["metadata"]["uid"]
            if (known := self.owners.pop(uid, None)) is not None:
                self._pickers[_picker_term(known)].pop(uid, None)
            self.changed[uid] = None
            for key in self._by_owner.get(uid, ()):
                self._unsure[key] = None
        if wire["kind"] in _KEPT:
            self._forget(_key(wire))

    def of(self, uid: str, kind: Kind) -> list[JsonObject]:
        """What a workload keeps of one kind."""
        name = kind.name
        return [wire for key, wire in self._by_owner.get(uid, {}).items() if key[0] == name]

    def names(self, kind: Kind, namespace: str) -> Container[str]:
        """The names that objects of a kind have in a namespace, whoever keeps them."""
        return _Names(self._kept, kind.name, namespace)

    def settle(self) -> None:
        """Adopt and release."""
        unsure, self._unsure = self._unsure, {}
        for key in unsure:
            wire = self._kept.get(key)
            if wire is not None and not is_terminating(wire):
                attempt(wire, lambda wire=wire: self._settle(wire))  # type: ignore[misc]

    def _put_owner(self, wire: JsonObject) -> None:
        uid = wire["metadata"]["uid"]
        self.changed[uid] = None
        if uid not in self.owners:
            term = _picker_term(wire)
            self._pickers[term][uid] = None
            for key in self._orphans.get(term, ()):
                self._unsure[key] = None
        self.owners[uid] = wire

    def _put_kept(self, wire: JsonObject) -> None:
        key, before = _key(wire), self._kept.get(_key(wire))
        owner = controller(wire)
        if before is None or controller(before) != owner or labels_of(before) != labels_of(wire):
            self._forget(key)
            self._unsure[key] = None
        self._kept[key] = wire
        if owner is not None:
            self._by_owner[owner[1]][key] = wire
            self.changed[owner[1]] = None
        else:
            for term in _terms(wire):
                self._orphans[term][key] = None

    def _forget(self, key: _Key) -> None:
        known = self._kept.pop(key, None)
        if known is None:
            return
        owner = controller(known)
        if owner is not None:
            owned = self._by_owner[owner[1]]
            owned.pop(key, None)
            if not owned:
                del self._by_owner[owner[1]]
            self.changed[owner[1]] = None
        else:
            for term in _terms(known):
                self._orphans[term].pop(key, None)
                if not self._orphans[term]:
                    del self._orphans[term]

    def _settle(self, wire: JsonObject) -> None:
        owner = controller(wire)
        if owner is not None:
            keeper = self.owners.get(owner[1])
            picks = keeper is not None and PICKED[keeper["kind"]].name == wire["kind"]
            if keeper is not None and picks and not is_terminating(keeper) and not _picks(keeper, wire):
                self._write(wire, references_without(wire, owner[1]))
            return
        for term in _terms(wire):
            for uid in self._pickers.get(term, ()):
                keeper = self.owners[uid]
                if not is_terminating(keeper) and _picks(keeper, wire):
                    references = references_without(wire, uid)
                    self._write(wire, [*references, controller_reference(keeper)])
                    return

    def _write(self, wire: JsonObject, references: list[JsonObject]) -> None:
        patch = {"metadata": {"ownerReferences": references or None, "uid": wire["metadata"]["uid"]}}
        self._store.patch(_KEPT[wire["kind"]], object_name(wire), patch, object_namespace(wire))


class _Names(Container[str]):
    def __init__(self, kept: Mapping[_Key, JsonObject], kind: str, namespace: str) -> None:
        self._kept, self._kind, self._namespace = kept, kind, namespace

    def __contains__(self, name: object) -> bool:
        return (self._kind, self._namespace, name) in self._kept


def _picks(owner: JsonObject, wire: JsonObject) -> bool:
    if owner["kind"] == "StatefulSet" and ordinal_of(object_name(owner), object_name(wire)) is None:
        return False
    return selects(owner["spec"].get("selector") or {}, labels_of(wire))


def _key(wire: JsonObject) -> _Key:
    return wire["kind"], object_namespace(wire), object_name(wire)


def _picker_term(owner: JsonObject) -> _Term:
    """Under what a workload is found: the kind of what it picks, and a label that this must have."""
    labels = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
    return (PICKED[owner["kind"]].name, object_namespace(owner), *min(labels.items(), default=("", "")))


def _terms(wire: JsonObject) -> Iterator[_Term]:
    kind, namespace = wire["kind"], object_namespace(wire)
    yield kind, namespace, "", ""
    for name, value in labels_of(wire).items():
        yield kind, namespace, name, value
