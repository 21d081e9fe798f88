"""What a URL path names."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from testbed.cluster.kinds import ABSENT_KINDS, KINDS, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import NotFound
from testbed.cluster.versions import OTHER_VERSIONS, OtherVersion


class Target(NamedTuple):
    """A kind's collection (of one namespace, if given), one object of it, or a subresource of that."""

    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    version: OtherVersion | None = None
    """The version asked for, when it is not the stored one."""

    @property
    def where(self) -> tuple[str, str]:
        """Name and namespace of an object, as the store's methods take them."""
        assert self.name is not None
        return self.name, self.namespace or ""

    @property
    def api_version(self) -> str:
        """The group and version asked for."""
        return self.version.api_version if self.version else self.kind.api_version

    def shown(self, wire: JsonObject) -> JsonObject:
        """A stored object in the version asked for."""
        return self.version.from_stored(wire) if self.version else wire

    def stored(self, wire: JsonObject) -> JsonObject:
        """An object in the version asked for as it is stored."""
        return self.version.to_stored(wire) if self.version else wire

    @property
    def headers(self) -> dict[str, str]:
        """What every answer about the target says beside its body (RFC 7234: a warning)."""
        if self.version is None or not self.version.warning:
            return {}
        return {"Warning": f'299 - "{self.version.warning}"'}


_COLLECTIONS: dict[tuple[str, ...], Target] = {
    **{(*kind.path().strip("/").split("/")[:-1], kind.plural): Target(kind) for kind in (*KINDS, *ABSENT_KINDS)},
    **{("apis", o.group, o.version, o.kind.plural): Target(o.kind, version=o) for o in OTHER_VERSIONS},
}


def not_found(path: str = "") -> NotFound:
    """The refusal of a URL that names nothing; ``path``, if it is that of a kind that is not served."""
    text = "the server could not find the requested resource"
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["apis"] and len(parts) > 3:
        rest = parts[5:] if parts[3] == "namespaces" else parts[3:]
        if rest:
            text += f": no {rest[0]} of {parts[1]}/{parts[2]} here (kubectl api-resources lists what is served)"
    return NotFound(text)


def parse_path(path: str) -> Target:
    """What is named. Raises NotFound."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    prefix = 3 if parts[0] == "apis" else 2
    namespace = None
    rest = parts[prefix:]
    if len(rest) >= 3 and rest[0] == "namespaces" and (*parts[:prefix], rest[2]) in _COLLECTIONS:
        namespace, rest = rest[1], rest[2:]
    collection = _COLLECTIONS.get((*parts[:prefix], rest[0])) if rest else None
    if collection is None:
        raise not_found(path)
    if len(rest) > 3 or not all(rest) or namespace == "":
        raise not_found()
    name, subresource = [*rest[1:], None, None][:2]
    kind = collection.kind
    if (namespace is not None and not kind.namespaced) or (name and kind.namespaced and namespace is None):
        raise not_found()
    return Target(kind, namespace, name, subresource, collection.version)
