"""The cluster's DNS records: a pure function of its Services, EndpointSlices and Pods.

The names are those of "Kubernetes DNS-Based Service Discovery", version 1.1.0
(https://github.com/kubernetes/dns/blob/master/docs/specification.md), plus one name for every pod's address
(https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#a-aaaa-records-1; here only for pods that
exist, as CoreDNS does with ``pods verified``). Where the specification leaves a choice, CoreDNS's is taken.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Literal, NamedTuple

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.services import SERVICE_NAME_LABEL
from testbed.cluster.values import IPAddress

CLUSTER_DOMAIN = "cluster.local"
REVERSE_DOMAINS = ("in-addr.arpa", "ip6.arpa")
SCHEMA_VERSION = "1.1.0"

RecordType = Literal["A", "AAAA", "CNAME", "PTR", "SRV", "TXT"]

_SERVICES, _PODS = f"svc.{CLUSTER_DOMAIN}", f"pod.{CLUSTER_DOMAIN}"
# RFC 2782: the same priority and weight for all, so that clients spread evenly.
_PRIORITY, _WEIGHT = 0, 100
_LABEL = r"[a-z0-9_](?:[-a-z0-9_]{0,61}[a-z0-9_])?"
_DOMAIN_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_MAX_NAME = 253  # RFC 1035 section 2.3.4, as text without the final dot

_Key = tuple[str, str]  # namespace and name


class Record(NamedTuple):
    """One resource record. ``owner`` is absolute and lower case, without the final dot.

    ``data`` is written as in a zone file: an address, a name (without the final dot), ``priority weight port target``
    for SRV, the text itself for TXT.
    """

    owner: str
    type: RecordType
    data: str


class RecordChanges(NamedTuple):
    """What has to be taken away and what has to be added, to get from one state to the next."""

    removed: Collection[Record]
    added: Collection[Record]


SCHEMA_RECORD = Record(f"dns-version.{CLUSTER_DOMAIN}", "TXT", SCHEMA_VERSION)


def service_records(service: JsonObject, slices: Iterable[JsonObject]) -> frozenset[Record]:
    """The records of one Service; ``slices`` are its EndpointSlices.

    None for a Service that has no cluster IP yet. Of a headless Service without ready endpoints there is nothing left,
    so its name does not exist (section 2.4.1).
    """
    spec = service.get("spec") or {}
    base = f"{object_name(service)}.{object_namespace(service)}.{_SERVICES}"
    if not _is_domain_name(base):
        return frozenset()
    if spec.get("type") == "ExternalName":
        return frozenset(_external_name_records(base, spec))
    if spec.get("clusterIP") == "None":
        return frozenset(_headless_records(base, spec, slices))
    return frozenset(_cluster_ip_records(base, spec))


def pod_records(pod: JsonObject) -> frozenset[Record]:
    """``a-b-c-d.NAMESPACE.pod.cluster.local`` for each address of a pod that has not ended."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return frozenset()
    domain = f"{object_namespace(pod)}.{_PODS}"
    entries = status.get("podIPs") or [{"ip": status.get("podIP")}]
    addresses = _addresses(entry.get("ip") for entry in entries)
    return frozenset(_address_record(f"{_dashed(address)}.{domain}", address) for address in addresses)


def _external_name_records(base: str, spec: JsonObject) -> Iterator[Record]:
    target = str(spec.get("externalName") or "").rstrip(".").lower()
    if _is_domain_name(target):
        yield Record(base, "CNAME", target)


def _cluster_ip_records(base: str, spec: JsonObject) -> Iterator[Record]:
    addresses = _addresses(spec.get("clusterIPs") or (spec.get("clusterIP"),))
    for address in addresses:
        yield _address_record(base, address)
        yield Record(address.reverse_pointer, "PTR", base)
    if addresses:
        for entry in spec.get("ports") or ():
            yield from _srv_records(base, entry, base)


def _headless_records(base: str, spec: JsonObject, slices: Iterable[JsonObject]) -> Iterator[Record]:
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") not in ("IPv4", "IPv6"):
            continue
        ports = [entry for entry in endpoint_slice.get("ports") or () if entry.get("port")]
        for endpoint in endpoint_slice.get("endpoints") or ():
            if not spec.get("publishNotReadyAddresses") and not _is_ready(endpoint):
                continue
            for address in _addresses(endpoint.get("addresses") or ()):
                own_name = f"{endpoint.get('hostname') or _dashed(address)}.{base}"
                if not _is_domain_name(own_name):
                    continue
                yield _address_record(base, address)
                yield _address_record(own_name, address)
                yield Record(address.reverse_pointer, "PTR", own_name)
                for entry in ports:
                    yield from _srv_records(base, entry, own_name)


def _is_ready(endpoint: JsonObject) -> bool:
    """An unknown condition counts as ready (EndpointConditions, discovery.k8s.io/v1)."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def _addresses(texts: Iterable[object]) -> list[IPAddress]:
    """Those that are addresses: the store does not read what a client of the API has written into an object."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(ip_address(str(text)))
    return found


def _address_record(owner: str, address: IPAddress) -> Record:
    return Record(owner, "A" if address.version == 4 else "AAAA", str(address))


def _srv_records(base: str, entry: JsonObject, target: str) -> Iterator[Record]:
    """The record of one port; a port without a name has none (sections 2.3.2 and 2.4.2)."""
    owner = f"_{entry.get('name')}._{str(entry.get('protocol') or 'TCP').lower()}.{base}"
    if entry.get("name") and _is_domain_name(owner):
        yield Record(owner, "SRV", f"{_PRIORITY} {_WEIGHT} {entry['port']} {target}")


def _dashed(address: IPAddress) -> str:
    """An address as one label. A label does not end in a dash, so ``fd00::`` is ``fd00--0``."""
    label = str(address).replace(".", "-").replace(":", "-")
    return f"{label}0" if label.endswith("-") else label


def _is_domain_name(text: str) -> bool:
    return len(text) <= _MAX_NAME and _DOMAIN_NAME.fullmatch(text) is not None


class DnsRecords:
    """All records of a cluster, kept up to date from events: only what changed is computed again. Not thread-safe.

    ``put`` an object that was added or modified, ``remove`` one that was deleted, then ask for ``changes()``. Objects
    of other kinds are passed over. A Service may come before or after its EndpointSlices.
    """

    def __init__(self) -> None:
        self._services: dict[_Key, JsonObject] = {}
        self._slices: dict[_Key, dict[_Key, JsonObject]] = defaultdict(dict)  # of a Service, by their own key
        self._service_of_slice: dict[_Key, _Key] = {}
        self._pods: dict[_Key, JsonObject] = {}
        self._stale: set[tuple[str, _Key]] = set()
        self._by_object: dict[tuple[str, _Key], frozenset[Record]] = {}
        # Several objects may ask for the same record: pods on their node's network share its address.
        self._uses: Counter[Record] = Counter({SCHEMA_RECORD: 1})

    def put(self, wire: JsonObject) -> None:
        """Take in an object as it is now."""
        kind, key = wire.get("kind"), (object_namespace(wire), object_name(wire))
        if kind == "Service":
            self._services[key] = wire
            self._stale.add(("Service", key))
        elif kind == "Pod":
            self._pods[key] = wire
            self._stale.add(("Pod", key))
        elif kind == "EndpointSlice":
            self._forget_slice(key)
            service = (wire["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
            if service:
                service_key = (key[0], service)
                self._service_of_slice[key] = service_key
                self._slices[service_key][key] = wire
                self._stale.add(("Service", service_key))

    def remove(self, wire: JsonObject) -> None:
        """Forget an object that was deleted."""
        kind, key = wire.get("kind"), (object_namespace(wire), object_name(wire))
        if kind == "Service":
            self._services.pop(key, None)
            self._stale.add(("Service", key))
        elif kind == "Pod":
            self._pods.pop(key, None)
            self._stale.add(("Pod", key))
        elif kind == "EndpointSlice":
            self._forget_slice(key)

    def _forget_slice(self, key: _Key) -> None:
        service_key = self._service_of_slice.pop(key, None)
        if service_key is not None:
            del self._slices[service_key][key]
            if not self._slices[service_key]:
                del self._slices[service_key]
            self._stale.add(("Service", service_key))

    def records(self) -> Collection[Record]:
        """All records, as of the last call of :meth:`changes`."""
        return self._uses.keys()

    def changes(self) -> RecordChanges:
        """What has changed since the last call."""
        difference: Counter[Record] = Counter()
        for source in self._stale:
            old, new = self._by_object.pop(source, frozenset()), self._compute(source)
            if new:
                self._by_object[source] = new
            difference.update(new - old)
            difference.subtract(old - new)
        self._stale.clear()
        removed, added = [], []
        for record, count in difference.items():
            before = self._uses[record]
            if before and not before + count:
                removed.append(record)
                del self._uses[record]
                continue
            if count and not before:
                added.append(record)
            if count:
                self._uses[record] = before + count
        return RecordChanges(removed, added)

    def _compute(self, source: tuple[str, _Key]) -> frozenset[Record]:
        """The records of one Service or pod; none when it cannot be read (the store lets much pass)."""
        kind, key = source
        try:
            if kind == "Pod":
                pod = self._pods.get(key)
                return pod_records(pod) if pod else frozenset()
            service = self._services.get(key)
            return service_records(service, self._slices.get(key, {}).values()) if service else frozenset()
        except (AttributeError, KeyError, TypeError):
            return frozenset()
