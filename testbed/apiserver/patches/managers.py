"""Who has set which fields of an object (``metadata.managedFields``)."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from testbed.apiserver.patches.fields import Fields, fields_of, from_wire, to_wire, value_at
from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import Schema
from testbed.cluster.timestamps import timestamp


class Manager(NamedTuple):
    """A client that writes, and how: ``Apply`` (server-side apply) or ``Update`` (everything else)."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


class Managed:
    """The managers of an object and their fields."""

    def __init__(self, wire: JsonObject | None) -> None:
        self.fields: dict[Manager, Fields] = {}
        self._times: dict[Manager, str] = {}
        entries = (wire or {}).get("metadata", {}).get("managedFields")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("manager"):
                manager = Manager(
                    str(entry["manager"]),
                    str(entry.get("operation", "Update")),
                    str(entry.get("apiVersion", "")),
                    str(entry.get("subresource", "")),
                )
                self.fields[manager] = from_wire(entry.get("fieldsV1"))
                self._times[manager] = str(entry.get("time", ""))

    def set(self, manager: Manager, fields: Fields) -> None:
        """What a manager has now; nothing: it is forgotten."""
        if self.fields.get(manager) != fields:
            self._times[manager] = timestamp(time.time())
        self.fields[manager] = fields

    def write_to(self, wire: JsonObject) -> None:
        """Put them into the object's metadata."""
        entries = [self._entry(manager, fields) for manager, fields in self.fields.items() if fields]
        if entries:
            wire["metadata"]["managedFields"] = entries
        else:
            wire["metadata"].pop("managedFields", None)

    def _entry(self, manager: Manager, fields: Fields) -> JsonObject:
        entry: dict[str, Any] = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_wire(fields),
        }
        if self._times.get(manager):
            entry["time"] = self._times[manager]
        if manager.subresource:
            entry["subresource"] = manager.subresource
        return entry


def note_update(new: JsonObject, old: JsonObject | None, manager: Manager, schema: Schema) -> None:
    """Make ``manager`` the only one who has set what differs between two states of an object, by changing ``new``."""
    managed = Managed(new)
    before = fields_of(old, schema) if old is not None else frozenset()
    now = fields_of(new, schema)
    changed = frozenset(
        path for path in now if path not in before or value_at(new, path, schema) != value_at(old, path, schema)
    )
    gone = before - now
    if not changed and not gone:
        if old is not None and "managedFields" in old["metadata"] and "managedFields" not in new["metadata"]:
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"]
        return
    for other, fields in list(managed.fields.items()):
        managed.set(other, fields - gone - (changed if other != manager else frozenset()))
    managed.set(manager, managed.fields.get(manager, frozenset()) | changed)
    managed.write_to(new)
