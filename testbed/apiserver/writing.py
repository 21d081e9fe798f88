"""What a client writes: completed, checked against the schema, noted to whom it is owed, and stored."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from testbed.apiserver.checks.refusal import refusal
from testbed.apiserver.completion import completed
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.patches.managers import Manager, note_update
from testbed.apiserver.paths import Target
from testbed.cluster import kinds
from testbed.cluster.objects import JsonObject, without_nulls
from testbed.cluster.schemas import kind_schema
from testbed.cluster.status import BadRequest, Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

# Kinds whose status only their controllers write, by the subresource of that name.
WITH_STATUS = frozenset(
    {
        *(kinds.POD, kinds.NODE, kinds.NAMESPACE, kinds.SERVICE, kinds.INGRESS),
        *(kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.STATEFUL_SET, kinds.DAEMON_SET, kinds.JOB),
        *(kinds.POD_DISRUPTION_BUDGET, kinds.CRON_JOB),
    }
)

_RETRIES = 20
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: a name made of them says nothing rude

# Clients get the headers of an answer in one piece: more than these few kilobytes are nobody's reading.
_MOST_WARNINGS = 20

Change = Callable[[JsonObject], JsonObject]
Advice = Callable[[JsonObject], Sequence[str]]
"""What is to be said about an object whose fields are right."""


def no_advice(wire: JsonObject) -> Sequence[str]:
    """Nothing is to be said."""
    return ()


class Writer:
    """The way into the store for one request. Raises BadRequest for parameters that make no sense."""

    def __init__(self, server: ApiServer, exchange: Exchange, target: Target) -> None:
        self._store, self._advice, self._target = server.store, server.advice, target
        query = exchange.query
        self.dry_run = dry_run(exchange)
        self._validation = query.text("fieldValidation") or "Warn"
        if self._validation not in ("Ignore", "Warn", "Strict"):
            raise BadRequest(f"fieldValidation {self._validation!r} is none of Ignore, Warn, Strict")
        agent = str(exchange.headers.get("User-Agent") or "").partition("/")[0]
        self.manager_name = query.text("fieldManager") or agent
        self.warnings: list[str] = []
        """What the client is told, beside the answer."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        said = self.warnings[:_MOST_WARNINGS]
        if len(self.warnings) > len(said):
            said.append(f"... and {len(self.warnings) - len(said)} more")
        told = [*self._target.headers.values(), *(f'299 - "{_quoted(warning)}"' for warning in said)]
        return {"Warning": ", ".join(told)} if told else {}

    def create(self, wire: JsonObject, note: bool = True) -> JsonObject:
        """Store a new object."""
        kind = self._target.kind
        metadata = wire["metadata"]
        prefix = metadata.get("generateName")
        generates = not metadata.get("name") and isinstance(prefix, str) and prefix
        if kind in WITH_STATUS and kind is not kinds.NODE:
            wire = {name: value for name, value in wire.items() if name != "status"}
        self._check_namespace(wire)
        sent = without_nulls(wire)
        wire = self._complete(wire, None)
        advice = self._advice(wire)  # on defaults, too, of which the client said nothing
        self.warnings += [text for text in self._advice(sent) if text in advice] if advice else ()
        if generates:
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
            wire["metadata"]["name"] = f"{str(prefix)[:58]}{suffix}"
        if note and self.manager_name:
            note_update(wire, None, self._manager(), kind_schema(kind))
        with self._refusals(wire):
            return self._store.create(wire, dry_run=self.dry_run)

    def update(self, change: Change, note: bool = True) -> JsonObject:
        """Put what ``change`` makes of an object in its place; again, when it has changed meanwhile.

        A new state that says another ``resourceVersion`` than the present one is a Conflict.
        """
        for _ in range(_RETRIES):
            old = self._store.get(self._target.kind, *self._target.where)
            new = self._new_state(change(old), old, note)
            try:
                with self._refusals(new):
                    stored = self._store.replace(new, dry_run=self.dry_run)
                if self._target.subresource is None and (advice := self._advice(stored)):
                    known = self._advice(old)
                    self.warnings += [text for text in advice if text not in known]
                return stored
            except Conflict:
                if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
                    raise
        raise Conflict(f'{self._target.kind.resource} "{self._target.name}" changes all the time; please try again')

    def _new_state(self, new: JsonObject, old: JsonObject, note: bool) -> JsonObject:
        if not isinstance(new.get("metadata"), dict):
            raise BadRequest("the object has no metadata")
        kind, subresource = self._target.kind, self._target.subresource
        for name in ("apiVersion", "kind"):
            if new.get(name) != old[name]:
                raise BadRequest(f"a patch cannot change the object's {name}")
        for name in ("name", "namespace"):
            if new["metadata"].get(name) != old["metadata"].get(name):
                raise BadRequest(f"a patch cannot change the object's {name}")
        if subresource == "status":
            new = {**old, "metadata": {**old["metadata"]}, **({"status": new["status"]} if "status" in new else {})}
        elif subresource == "finalize":
            new = {**old, "metadata": {**old["metadata"]}, "spec": new.get("spec") or {}}
        elif kind in WITH_STATUS:
            new = {name: value for name, value in new.items() if name != "status"}
            if "status" in old:
                new["status"] = old["status"]
        if kind is kinds.NAMESPACE and subresource != "finalize":
            # Who empties its finalizers in passing would leave behind what is in it.
            new["spec"] = old.get("spec") or {}
        new = self._complete(new, old)
        metadata = new["metadata"]
        if not metadata.get("resourceVersion"):
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if note and self.manager_name:
            note_update(new, old, self._manager(), kind_schema(kind))
        return new

    def _manager(self) -> Manager:
        return Manager(self.manager_name, "Update", self._target.api_version, self._target.subresource or "")

    def _complete(self, wire: JsonObject, old: JsonObject | None) -> JsonObject:
        return completed(self._target.kind, wire, old, self._validation, self.warnings)

    @contextmanager
    def _refusals(self, wire: JsonObject) -> Iterator[None]:
        """The cluster's own refusals in the form of the API's."""
        try:
            yield
        except Invalid as error:
            causes = (error.details or {}).get("causes")
            if not causes:
                raise
            problems = [(cause["field"], cause["message"]) for cause in causes]
            raise refusal(self._target.kind, str(wire["metadata"].get("name")), problems) from None

    def _check_namespace(self, wire: JsonObject) -> None:
        """Objects can only be put into Namespaces that exist. Raises NotFound."""
        namespace = self._target.namespace
        if namespace is None or namespace == "default":
            return
        try:
            self._store.get(kinds.NAMESPACE, "default")
        except NotFound:
            return  # a store without Namespaces: nobody keeps them there
        self._store.get(kinds.NAMESPACE, namespace)


def dry_run(exchange: Exchange) -> bool:
    """Whether a request is only to be tried. Raises BadRequest."""
    wanted = exchange.query.text("dryRun")
    if wanted not in ("", "All"):
        raise BadRequest(f"dryRun {wanted!r} is not supported; use All")
    return wanted == "All"


def _quoted(text: str) -> str:
    """Text as it may stand in a header's quotes (RFC 9110 section 5.6.4)."""
    plain = "".join(character if 32 <= ord(character) < 127 else "?" for character in text)
    return plain.replace("\\", "\\\\").replace('"', '\\"')
