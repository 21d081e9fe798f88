"""What Ingresses say, read and checked: servers, locations and backends, ready to be written for nginx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from testbed.cluster.objects import JsonObject

Key = tuple[str, str]  # namespace and name


class Backend(NamedTuple):
    """A port of a Service. ``port_name`` is how its EndpointSlices call it ("" when it has no name)."""

    namespace: str
    service: str
    port: int
    port_name: str

    @property
    def key(self) -> str:
        """One word that stands for it: ``default/web/80``."""
        return f"{self.namespace}/{self.service}/{self.port}"


@dataclass(frozen=True)
class Match:
    """Which paths of requests are meant: exactly ``path``, all that begin with it, or all that it matches as a regular
    expression without regard to case."""

    how: Literal["exact", "prefix", "regex"]
    path: str


@dataclass(frozen=True)
class Location:
    """Requests of one server that go to one backend; None where there is none that could answer (503)."""

    match: Match
    backend: Backend | None
    owner: str  # namespace/name of the Ingress
    rewrite: str = ""  # the path that the backend is asked for instead, with $1, $2 ... of the regular expression
    to_https: bool = False  # plain HTTP is redirected


@dataclass(frozen=True)
class Server:
    """A host: a name, a wildcard (``*.foo.com``), or "" for requests to all other hosts.

    ``certificate`` is the Secret it is proved with; None for the controller's own.
    """

    host: str
    locations: tuple[Location, ...]
    certificate: Key | None = None


@dataclass(frozen=True)
class Finding:
    """Something about an Ingress that a person should hear of, as an Event of type Warning."""

    ingress: JsonObject
    reason: str
    message: str
