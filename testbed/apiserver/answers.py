"""In which form objects are answered: as they are, as a table, or as their metadata alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from testbed.apiserver.exchange import JSON, Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.tables.table import TableForm
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import NotAcceptable

_META_GROUP = "meta.k8s.io"
_VERSIONS = ("v1", "v1beta1")


class Form:
    """The form that a request's ``Accept`` header asks for. Raises NotAcceptable."""

    def __init__(self, exchange: Exchange, target: Target) -> None:
        self._target = target
        self._table: TableForm | None = None
        self._metadata_only = ""
        form, version = _wanted(str(exchange.headers.get("Accept") or JSON))
        if form == "Table":
            self._table = TableForm(target.kind, version, exchange.query.text("includeObject"))
        elif form is not None:
            self._metadata_only = f"{_META_GROUP}/{version}"
        self.content_type = JSON if form is None else f"{JSON};as={form};g={_META_GROUP};v={version}"

    def one(self, wire: JsonObject, with_columns: bool = True) -> JsonObject:
        """One object. A watch tells a table's columns with the first one only."""
        wire = self._target.shown(wire)
        if self._table is not None:
            version = {"resourceVersion": wire["metadata"].get("resourceVersion", "")}
            return self._table.table([wire], version, with_columns)
        return self._partial(wire) if self._metadata_only else wire

    def all(self, wires: Iterable[JsonObject], metadata: JsonObject) -> JsonObject:
        """A list of objects, with the list's metadata."""
        target = self._target
        shown = [target.shown(wire) for wire in wires] if target.version else wires
        if self._table is not None:
            return self._table.table(shown, metadata)
        if self._metadata_only:
            items = [self._partial(wire) for wire in shown]
            kind, api_version = "PartialObjectMetadataList", self._metadata_only
        else:
            items, kind, api_version = list(shown), f"{target.kind.name}List", target.api_version
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}

    def bookmark(self, empty: JsonObject) -> JsonObject:
        """An object that has nothing but a version, to say how far a watch is."""
        if self._table is not None:
            return self._table.table([], empty["metadata"], with_columns=False)
        return (
            {**empty, "kind": "PartialObjectMetadata", "apiVersion": self._metadata_only}
            if (self._metadata_only)
            else empty
        )

    def _partial(self, wire: JsonObject) -> JsonObject:
        return {"kind": "PartialObjectMetadata", "apiVersion": self._metadata_only, "metadata": wire["metadata"]}


def _wanted(accept: str) -> tuple[str | None, str]:
    """Table, PartialObjectMetadata(List) or None, and the version of it."""
    for clause in accept.split(","):
        media, _, parameters = clause.partition(";")
        fields = dict(part.strip().partition("=")[::2] for part in parameters.split(";"))
        if media.strip().lower() not in (JSON, "application/*", "*/*"):
            continue
        form = fields.get("as")
        if form is None:
            return None, ""
        if fields.get("g", _META_GROUP) == _META_GROUP and fields.get("v") in _VERSIONS:
            if form == "Table":
                return form, fields["v"]
            if form in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return form, fields["v"]
    raise NotAcceptable(f"only {JSON} and its tables are served, not {accept}")


def success(code: int, target: Target, wire: JsonObject) -> JsonObject:
    """A ``Status`` that says that something has been done to an object."""
    kind = target.kind
    details: Mapping[str, str] = {
        "name": wire["metadata"]["name"],
        "kind": kind.plural,
        "uid": wire["metadata"]["uid"],
        **({"group": kind.group} if kind.group else {}),
    }
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return status if code == 200 else {**status, "code": code}
