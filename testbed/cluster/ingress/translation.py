"""From Ingresses, and the objects that they name, to servers. What is wrong with one is found; the rest still works.

Of two Ingresses that say different things about the same paths of a host, the older one holds, as in ingress-nginx.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from testbed.cluster.ingress.annotations import Annotations, annotation_problems, read_annotations
from testbed.cluster.ingress.classes import class_verdict
from testbed.cluster.ingress.paths import plain_matches, regex_matches
from testbed.cluster.ingress.values import Backend, Finding, Key, Location, Match, Server
from testbed.cluster.objects import JsonObject, is_valid_name, object_name, object_namespace

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
# The store keeps objects that no schema has checked.
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
_PATH_TYPES = ("Exact", "Prefix", "ImplementationSpecific")


@dataclass(frozen=True)
class Sources:
    """The objects to translate. ``service`` finds one, or None.

    ``certificate_trouble`` says of a Secret why it cannot be used as a certificate; "" when it can.
    """

    ingresses: Iterable[JsonObject]
    classes: Iterable[JsonObject]
    service: Callable[[Key], JsonObject | None]
    certificate_trouble: Callable[[Key], str]


@dataclass
class Translation:
    """What follows from the objects.

    ``services`` and ``secrets`` are those that Ingresses name, whether they are there or not.
    """

    servers: tuple[Server, ...] = ()
    served: list[JsonObject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    services: set[Key] = field(default_factory=set)
    secrets: set[Key] = field(default_factory=set)

    @property
    def backends(self) -> set[Backend]:
        """All that requests are sent to."""
        places = (location for server in self.servers for location in server.locations)
        return {location.backend for location in places if location.backend is not None}


def translate(sources: Sources, left_out: frozenset[str] = frozenset()) -> Translation:
    """Read all Ingresses that are the controller's, but for those whose uid is to be left out."""
    work = _Work(sources)
    for ingress in sorted(sources.ingresses, key=_age):
        verdict = class_verdict(ingress, sources.classes)
        if verdict.served and ingress["metadata"].get("uid") not in left_out:
            work.result.served.append(ingress)
        elif verdict.trouble:
            work.find(ingress, "NotServed", f"No Ingress controller takes this Ingress: {verdict.trouble}")
    return work.done()


def _age(ingress: JsonObject) -> tuple[str, str, str]:
    created = ingress["metadata"].get("creationTimestamp") or ""
    return str(created), object_namespace(ingress), object_name(ingress)


@dataclass
class _Draft:
    """A server while Ingresses add to it."""

    locations: dict[Match, tuple[Location, bool]] = field(default_factory=dict)  # with: is it half of a Prefix
    default: Location | None = None
    certificate: Key | None = None


class _Work:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._drafts: dict[str, _Draft] = {"": _Draft()}
        self._annotations: dict[str, Annotations] = {}
        self.result = Translation()

    def done(self) -> Translation:
        """Read the Ingresses of ``result.served``."""
        served = self.result.served
        self._annotations = {_title(ingress): read_annotations(ingress) for ingress in served}
        regex_hosts = {
            host for one in served if self._annotations[_title(one)].has_regex for host in map(_host, _rules(one))
        }
        for ingress in served:
            try:
                self._read(ingress, regex_hosts)
            except _UNREADABLE as error:
                self.find(ingress, "InvalidIngress", f"The Ingress cannot be read: {error!r}")
        self.result.servers = tuple(self._server(host, draft) for host, draft in sorted(self._drafts.items()))
        return self.result

    def find(self, ingress: JsonObject, reason: str, message: str) -> None:
        """Note something for a person."""
        self.result.findings.append(Finding(ingress, reason, message))

    def _read(self, ingress: JsonObject, regex_hosts: set[str]) -> None:
        annotations = self._annotations[_title(ingress)]
        for problem in annotation_problems(ingress):
            self.find(ingress, "AnnotationIgnored", problem)
        hosts: list[str] = []
        for rule in _rules(ingress):
            host = _host(rule)
            if not _is_host(host):
                self.find(ingress, "InvalidHost", f"{host!r} is neither a DNS name nor one after a first label *")
                continue
            hosts.append(host)
            self._drafts.setdefault(host, _Draft())
            for entry in (rule.get("http") or {}).get("paths") or ():
                self._read_path(ingress, annotations, host, entry, host in regex_hosts)
        self._read_default(ingress, hosts)
        self._read_tls(ingress, hosts)

    def _read_path(self, ingress: JsonObject, annotations: Annotations, host: str, entry: Any, regex: bool) -> None:
        path, path_type = entry.get("path") or "/", entry.get("pathType") or "ImplementationSpecific"
        if not path.startswith("/") or _CONTROL_CHARACTER.search(path) or path_type not in _PATH_TYPES:
            self.find(ingress, "InvalidPath", f"path {path!r} of type {path_type} cannot be matched")
            return
        backend = self._backend(ingress, entry.get("backend") or {})
        if regex:
            matches = regex_matches(path_type, path, annotations.has_regex)
        else:
            matches = plain_matches(path_type, path)
        for match in matches:
            is_half = match.how == "exact" and path_type != "Exact"
            rewrite = annotations.rewrite if match.how == "regex" else ""
            self._add(ingress, host, path, Location(match, backend, _title(ingress), rewrite), is_half)

    def _add(self, ingress: JsonObject, host: str, path: str, location: Location, is_half: bool) -> None:
        locations = self._drafts[host].locations
        known = locations.get(location.match)
        if known is None or (known[1] and not is_half):  # an Exact path goes before the same one of a Prefix
            locations[location.match] = location, is_half
        elif known[1] == is_half and not is_half:
            message = f'host "{host or "*"}" and path "{path}" is already defined in ingress {known[0].owner}'
            self.find(ingress, "HostPathConflict", message)

    def _read_default(self, ingress: JsonObject, hosts: Iterable[str]) -> None:
        wanted = (ingress.get("spec") or {}).get("defaultBackend")
        if wanted is None:
            return
        location = Location(Match("prefix", "/"), self._backend(ingress, wanted), _title(ingress))
        for host in (*hosts, ""):
            draft = self._drafts[host]
            draft.default = draft.default or location

    def _read_tls(self, ingress: JsonObject, hosts: list[str]) -> None:
        for entry in (ingress.get("spec") or {}).get("tls") or ():
            name = entry.get("secretName")
            if not name:
                continue  # the controller's own certificate
            key = object_namespace(ingress), str(name)
            self.result.secrets.add(key)
            if trouble := self._sources.certificate_trouble(key):
                self.find(ingress, "CertificateUnusable", f"{trouble}; the controller's own certificate is used")
                continue
            for host in entry.get("hosts") or hosts:
                draft = self._drafts.get(str(host).lower())
                if draft is not None and draft.certificate is None:
                    draft.certificate = key

    def _backend(self, ingress: JsonObject, wanted: Any) -> Backend | None:
        """The backend, or None when there is no such, which is found."""
        service = wanted.get("service")
        if service is None:
            self.find(ingress, "InvalidBackend", "a backend must be a Service")
            return None
        key = object_namespace(ingress), str(service["name"])
        title = "/".join(key)
        self.result.services.add(key)
        wire = self._sources.service(key)
        if wire is None:
            self.find(ingress, "ServiceNotFound", f"Service {title} does not exist")
            return None
        if (wire.get("spec") or {}).get("type") == "ExternalName":
            self.find(ingress, "InvalidBackend", f"Service {title} is an ExternalName, which has no endpoints")
            return None
        port = service.get("port") or {}
        for entry in (wire.get("spec") or {}).get("ports") or ():
            named = port.get("name") and entry.get("name") == port["name"]
            if (named or entry["port"] == port.get("number")) and entry.get("protocol", "TCP") == "TCP":
                return Backend(*key, int(entry["port"]), entry.get("name") or "")
        wish = port.get("name") or port.get("number")
        self.find(ingress, "ServicePortNotFound", f"Service {title} has no TCP port {wish}")
        return None

    def _server(self, host: str, draft: _Draft) -> Server:
        locations = [location for location, _ in draft.locations.values()]
        default = draft.default or self._drafts[""].default
        if default is not None and default.match not in draft.locations:
            locations.append(default)
        redirected = [
            replace(location, to_https=self._to_https(location, draft.certificate is not None))
            for location in locations
        ]
        # Regular expressions are tried in the order in which they stand.
        redirected.sort(key=lambda location: (location.match.how, -len(location.match.path), location.match.path))
        return Server(host, tuple(redirected), draft.certificate)

    def _to_https(self, location: Location, has_certificate: bool) -> bool:
        annotations = self._annotations[location.owner]
        return annotations.force_ssl_redirect or (annotations.ssl_redirect and has_certificate)


def _rules(ingress: JsonObject) -> Iterator[Any]:
    rules = (ingress.get("spec") or {}).get("rules")
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict):
            yield rule


def _host(rule: Any) -> str:
    return str(rule.get("host") or "").lower()


def _is_host(host: str) -> bool:
    return host == "" or is_valid_name(host.removeprefix("*."))


def _title(ingress: JsonObject) -> str:
    return f"{object_namespace(ingress)}/{object_name(ingress)}"
