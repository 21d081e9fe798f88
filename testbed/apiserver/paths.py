"""What a URL path names."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from testbed.cluster.kinds import KINDS, Kind
from testbed.cluster.status import NotFound


class Target(NamedTuple):
    """A kind's collection (of one namespace, if given), one object of it, or a subresource of that."""

    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def where(self) -> tuple[str, str]:
        """Name and namespace of an object, as the store's methods take them."""
        assert self.name is not None
        return self.name, self.namespace or ""


_COLLECTIONS = {(*kind.path().strip("/").split("/")[:-1], kind.plural): kind for kind in KINDS}


def not_found() -> NotFound:
    """The refusal of a URL that names nothing."""
    return NotFound("the server could not find the requested resource")


def parse_path(path: str) -> Target:
    """What is named. Raises NotFound."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    prefix = 3 if parts[0] == "apis" else 2
    namespace = None
    rest = parts[prefix:]
    if len(rest) >= 3 and rest[0] == "namespaces" and (*parts[:prefix], rest[2]) in _COLLECTIONS:
        namespace, rest = rest[1], rest[2:]
    kind = _COLLECTIONS.get((*parts[:prefix], rest[0])) if rest else None
    if kind is None or len(rest) > 3 or not all(rest) or (namespace is not None and not kind.namespaced):
        raise not_found()
    target = Target(kind, namespace, *rest[1:])
    if target.name is not None and kind.namespaced and namespace is None:
        raise not_found()
    return target
