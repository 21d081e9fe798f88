"""Read Services and their EndpointSlices into :class:`ServicePort` values, again only where something has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from typing import Any, NamedTuple

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.services import SERVICE_NAME_LABEL, group_numbers
from testbed.cluster.sorted_values import SortedValues
from testbed.cluster.values import PROTOCOLS, IPAddress, ServiceEndpoint, ServicePort

# Kubernetes' default of spec.sessionAffinityConfig.clientIP.timeoutSeconds.
DEFAULT_AFFINITY_TIMEOUT_S = 10800

_Key = tuple[str, str]  # namespace and name
_Facts = Mapping[str, Any]  # a ServicePort's fields but for its endpoints


class _Entry(NamedTuple):
    """One endpoint of a slice, for whichever port."""

    endpoint_ip: str
    node_name: str
    ready: bool
    serving: bool
    terminating: bool


class _Slice(NamedTuple):
    service: _Key
    ip_version: int
    target_ports: Mapping[tuple[str, str], int]  # by port name and protocol
    entries: tuple[_Entry, ...]


class ServiceView:
    """The ports of all Services, from objects as they change. Not thread-safe.

    A port whose values have not changed stays the same object in every later :meth:`ports`. Left out are Services
    without an address of their own, ports that are incomplete or have no group number yet, and endpoints whose address
    is unreadable or of another IP version than the Service's.
    """

    def __init__(self) -> None:
        self._services: dict[_Key, tuple[_Facts, ...]] = {}
        self._slices: dict[_Key, _Slice] = {}
        self._slices_of: dict[_Key, dict[_Key, _Slice]] = {}
        self._changed: set[_Key] = set()
        self._ports: SortedValues[_Key, tuple[ServicePort, ...]] = SortedValues()
        self._flat: tuple[tuple[tuple[ServicePort, ...], ...], tuple[ServicePort, ...]] = ((), ())

    def put_service(self, wire: JsonObject) -> None:
        key = object_namespace(wire), object_name(wire)
        facts = _service_facts(wire)
        if facts:
            self._services[key] = facts
        else:
            self._services.pop(key, None)
        self._changed.add(key)

    def remove_service(self, wire: JsonObject) -> None:
        key = object_namespace(wire), object_name(wire)
        self._services.pop(key, None)
        self._changed.add(key)

    def put_slice(self, wire: JsonObject) -> None:
        read = _read_slice(wire)
        self._exchange((object_namespace(wire), object_name(wire)), read)

    def remove_slice(self, wire: JsonObject) -> None:
        self._exchange((object_namespace(wire), object_name(wire)), None)

    def ports(self) -> tuple[ServicePort, ...]:
        """Sorted by namespace, name, protocol and number; the very same tuple while nothing has changed."""
        for key in self._changed:
            facts = self._services.get(key)
            if facts is None:
                self._ports.remove(key)
            else:
                before = self._ports.get(key) or ()
                slices = tuple(self._slices_of.get(key, {}).values())
                self._ports.put(key, tuple(_same_or_new(before, port) for port in _service_ports(facts, slices)))
        self._changed.clear()
        by_service = self._ports.values()
        if by_service is not self._flat[0]:
            self._flat = by_service, tuple(chain.from_iterable(by_service))
        return self._flat[1]

    def _exchange(self, key: _Key, new: _Slice | None) -> None:
        old = self._slices.pop(key, None)
        if old == new:
            if old is not None:
                self._slices[key] = old
            return
        if old is not None:
            del self._slices_of[old.service][key]
            if not self._slices_of[old.service]:
                del self._slices_of[old.service]
            self._changed.add(old.service)
        if new is not None:
            self._slices[key] = new
            self._slices_of.setdefault(new.service, {})[key] = new
            self._changed.add(new.service)


def _same_or_new(before: Iterable[ServicePort], port: ServicePort) -> ServicePort:
    return next((known for known in before if known == port), port)


def _service_ports(facts: Iterable[_Facts], slices: tuple[_Slice, ...]) -> Iterator[ServicePort]:
    for fact in facts:
        found: dict[int, ServiceEndpoint] = {}
        for piece in slices:
            target_port = piece.target_ports.get((fact["port_name"], fact["protocol"]))
            if target_port is None or piece.ip_version != fact["cluster_ip"].version:
                continue
            for entry in piece.entries:
                ranked = _endpoint(entry, target_port)
                if ranked is None:
                    continue
                rank, endpoint = ranked
                known = found.get(rank)
                # While an endpoint moves from one slice to another it is in both; the better condition is the newer.
                if known is None or (endpoint.ready, endpoint.serving) > (known.ready, known.serving):
                    found[rank] = endpoint
        yield ServicePort(**fact, endpoints=tuple(found[rank] for rank in sorted(found)))


@lru_cache(maxsize=1 << 16)
def _address(text: str) -> IPAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


@lru_cache(maxsize=1 << 16)
def _endpoint(entry: _Entry, target_port: int) -> tuple[int, ServiceEndpoint] | None:
    """The value (one object for all Services that share it), and a number that ranks values as they do themselves."""
    address = _address(entry.endpoint_ip)
    if address is None:
        return None
    endpoint = ServiceEndpoint(address, target_port, entry.node_name, entry.ready, entry.serving, entry.terminating)
    return int(address) << 16 | target_port, endpoint


def _service_facts(wire: JsonObject) -> tuple[_Facts, ...]:
    """What a Service says of its ports, sorted by protocol and number."""
    try:
        spec = wire["spec"]
        service_type = spec.get("type")
        cluster_ip = _address(spec["clusterIP"])
        if service_type == "ExternalName" or cluster_ip is None:
            return ()
        is_external = service_type in ("NodePort", "LoadBalancer")
        external_local = is_external and spec.get("externalTrafficPolicy") == "Local"
        has_health_check = external_local and service_type == "LoadBalancer"
        common = {
            "namespace": object_namespace(wire),
            "name": object_name(wire),
            "cluster_ip": cluster_ip,
            "load_balancer_ip": _ingress_address(wire) if service_type == "LoadBalancer" else None,
            "affinity_timeout_s": _affinity_timeout_s(spec),
            "internal_local": spec.get("internalTrafficPolicy") == "Local",
            "external_local": external_local,
            "health_check_node_port": (spec.get("healthCheckNodePort") or None) if has_health_check else None,
        }
        numbers = group_numbers(wire)
        facts = []
        for entry in spec["ports"]:
            name, protocol = entry.get("name") or "", entry.get("protocol") or "TCP"
            number = numbers.get((name, protocol))
            if number is None or protocol not in PROTOCOLS:
                continue
            facts.append(
                {
                    **common,
                    "port_name": name,
                    "protocol": protocol,
                    "service_port": int(entry["port"]),
                    "group_number": number,
                    "node_port": (entry.get("nodePort") or None) if is_external else None,
                }
            )
    except (AttributeError, KeyError, TypeError, ValueError):
        return ()
    return tuple(sorted(facts, key=lambda fact: (fact["protocol"], fact["service_port"])))


def _ingress_address(wire: JsonObject) -> IPAddress | None:
    ingress = ((wire.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _address(ingress[0].get("ip") or "") if ingress else None


def _affinity_timeout_s(spec: JsonObject) -> int | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or DEFAULT_AFFINITY_TIMEOUT_S)


_IP_VERSIONS = {"IPv4": 4, "IPv6": 6}


def _read_slice(wire: JsonObject) -> _Slice | None:
    """A slice that belongs to a Service; what cannot be read of it is left out."""
    service_name = (wire["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
    ip_version = _IP_VERSIONS.get(str(wire.get("addressType")))
    if not service_name or ip_version is None:
        return None
    target_ports = {}
    for entry in _dicts(wire.get("ports")):
        target_port = entry.get("port")
        if isinstance(target_port, int) and 0 < target_port < 65536:
            target_ports[str(entry.get("name") or ""), str(entry.get("protocol") or "TCP")] = target_port
    entries = tuple(found for entry in _dicts(wire.get("endpoints")) if (found := _read_endpoint(entry)))
    return _Slice((object_namespace(wire), service_name), ip_version, target_ports, entries)


def _read_endpoint(endpoint: JsonObject) -> _Entry | None:
    try:
        # Further addresses of an endpoint mean the same one; Kubernetes' own proxy takes the first.
        address = endpoint["addresses"][0]
        conditions = endpoint.get("conditions") or {}
        # Absent means ready, and serving as ready (EndpointConditions in the API reference of discovery.k8s.io/v1).
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving")
        return _Entry(
            str(address),
            str(endpoint.get("nodeName") or ""),
            ready,
            ready if serving is None else serving is True,
            conditions.get("terminating") is True,
        )
    except (AttributeError, IndexError, KeyError, TypeError):
        return None


def _dicts(value: object) -> Iterator[JsonObject]:
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, dict))
