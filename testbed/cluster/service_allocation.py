"""What the cluster gives to Services: addresses, node ports, LoadBalancer addresses and group numbers.

The same allocator checks manifests before anything is built and stands behind the store of a running cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from testbed.cluster import identity
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.kinds import SERVICE, Kind
from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject, object_name, object_namespace
from testbed.cluster.pool import Pool, PoolExhausted
from testbed.cluster.service_rules import (
    change_problems,
    keep_what_is_allocated,
    needs_health_check,
    needs_node_ports,
    service_problems,
    set_defaults,
    usable_indices,
)
from testbed.cluster.services import GroupKey, group_numbers, group_numbers_text, is_headless
from testbed.cluster.status import invalid
from testbed.cluster.store import Admission
from testbed.cluster.values import NODE_PORTS, IPNetwork, NetworkConfig

# Group ids are 32 bits, two for each number (identity.group_id); OpenFlow 1.3 keeps those from 0xffffff00 for itself.
_GROUP_NUMBERS = range(0x7FFFFF00)
_API_OWNER = f"{DEFAULT_NAMESPACE}/{identity.API_NAME}"
_DNS_OWNER = f"{identity.DNS_NAMESPACE}/{identity.DNS_NAME}"


class ServiceRefused(Exception):
    """A Service that cannot be: every field that is wrong."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{problem.field}: {problem}" for problem in self.problems))


class _Claim(NamedTuple):
    pool: Pool
    number: int
    field: str


class ServiceAllocator:
    """Completes Services and remembers what they have. The cost of one does not depend on how many there are."""

    def __init__(self, config: NetworkConfig) -> None:
        self._service_cidr, self._pool_cidr = config.service_cidr, config.load_balancer_cidr
        self._cluster_ips = _cluster_ip_pool(config.service_cidr)
        self._load_balancer_ips = Pool(usable_indices(config.load_balancer_cidr))
        self._node_ports = Pool(NODE_PORTS, NODE_PORTS.start + _static_size(len(NODE_PORTS), 32, 128))
        self._groups = Pool(_GROUP_NUMBERS)

    def admit(self, new: JsonObject, old: JsonObject | None = None) -> None:
        """Complete a Service that is created, or takes the place of ``old``, by changing ``new``.

        Raises ServiceRefused, and then nothing is given out.
        """
        self._claim(new, old)
        self._allocate(new, old)

    def admit_all(self, services: Sequence[JsonObject]) -> dict[int, ServiceRefused]:
        """Complete new Services together: what one of them asks for is not given to another that does not care.

        Returns, by their index, those that are refused.
        """
        refused: dict[int, ServiceRefused] = {}
        for step in (self._claim, self._allocate):
            for index, service in enumerate(services):
                if index not in refused:
                    try:
                        step(service, None)
                    except ServiceRefused as error:
                        refused[index] = error
        return refused

    def release(self, service: JsonObject) -> None:
        """Take back all that a Service has."""
        for claim in self._claims(service):
            claim.pool.release(claim.number)

    def _claim(self, new: JsonObject, old: JsonObject | None) -> None:
        """Check, and take what the Service asks for."""
        new.setdefault("spec", {})
        if old is not None:
            keep_what_is_allocated(new, old)
        set_defaults(new, self._service_cidr)
        problems = list(service_problems(new, self._service_cidr, self._pool_cidr))
        if problems:
            raise ServiceRefused(problems)
        problems = [] if old is None else list(change_problems(new, old))
        self._keep_numbers(new, old)
        claims = list(self._claims(new))
        problems += self._collisions(claims, _key(new))
        if problems:
            raise ServiceRefused(problems)
        for claim in claims:
            claim.pool.claim(claim.number, _key(new))

    def _allocate(self, new: JsonObject, old: JsonObject | None) -> None:
        """Take what is missing, and give back what the Service had before and has no longer."""
        try:
            self._complete(new)
        except ServiceRefused:
            kept = set() if old is None else set(self._held(old))
            self._give_back(set(self._held(new)) - kept)
            raise
        if old is not None:
            self._give_back(set(self._held(old)) - set(self._held(new)))

    def _held(self, service: JsonObject) -> Iterator[tuple[Pool, int]]:
        return ((claim.pool, claim.number) for claim in self._claims(service))

    @staticmethod
    def _give_back(held: Iterable[tuple[Pool, int]]) -> None:
        for pool, number in held:
            pool.release(number)

    def _claims(self, service: JsonObject) -> Iterator[_Claim]:
        """What the Service says that it has."""
        spec = service["spec"]
        if spec.get("clusterIP") and not is_headless(service):
            yield _Claim(self._cluster_ips, _index(spec["clusterIP"], self._service_cidr), "spec.clusterIP")
        for position, entry in enumerate(spec.get("ports") or ()):
            if entry.get("nodePort"):
                yield _Claim(self._node_ports, entry["nodePort"], f"spec.ports[{position}].nodePort")
        if spec.get("healthCheckNodePort"):
            yield _Claim(self._node_ports, spec["healthCheckNodePort"], "spec.healthCheckNodePort")
        if wanted := _load_balancer_ip(service):
            yield _Claim(self._load_balancer_ips, _index(wanted, self._pool_cidr), "spec.loadBalancerIP")
        for number in group_numbers(service).values():
            yield _Claim(self._groups, number, f"metadata.annotations[{identity.GROUP_NUMBERS}]")

    @staticmethod
    def _collisions(claims: Iterable[_Claim], key: str) -> Iterator[FieldProblem]:
        for claim in claims:
            owner = claim.pool.owner(claim.number)
            if owner is not None and owner != key:
                how = "reserved for" if claim.number in claim.pool.reserved else "taken by"
                yield FieldProblem(claim.field, f"is {how} Service {owner}")

    def _keep_numbers(self, new: JsonObject, old: JsonObject | None) -> None:
        """Group numbers and LoadBalancer address are the cluster's to give: a Service keeps those that it had, or that
        it comes with if nobody else has them, and has no say in them otherwise."""
        key, source = _key(new), new if old is None else old
        ports = _group_keys(new)
        numbers: dict[GroupKey, int] = {}
        for port, number in group_numbers(source).items():
            is_free = number in _GROUP_NUMBERS and self._groups.owner(number) in (None, key)
            if port in ports and is_free and number not in numbers.values():
                numbers[port] = number
        _set_group_numbers(new, numbers)
        address = _ingress_address(source)
        is_kept = False
        if new["spec"]["type"] == "LoadBalancer" and address and not new["spec"].get("loadBalancerIP"):
            index = _index(address, self._pool_cidr)
            is_kept = index in self._load_balancer_ips.numbers and self._load_balancer_ips.owner(index) in (None, key)
        _set_ingress_address(new, address if is_kept else "")

    def _complete(self, service: JsonObject) -> None:
        spec, key = service["spec"], _key(service)
        if spec["type"] == "ExternalName":
            return
        if not spec.get("clusterIP"):
            index = _take(self._cluster_ips, key, "spec.clusterIP", f"serviceCIDR {self._service_cidr} is used up")
            spec["clusterIP"] = str(self._service_cidr[index])
        spec["clusterIPs"] = [spec["clusterIP"]]
        if needs_node_ports(spec):
            self._complete_node_ports(spec["ports"], key)
        if needs_health_check(spec) and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = self._take_node_port(key, "spec.healthCheckNodePort")
        if spec["type"] == "LoadBalancer":
            wanted = spec.get("loadBalancerIP") or _ingress_address(service)
            if not wanted:
                reason = f"loadBalancerCIDR {self._pool_cidr} is used up"
                wanted = str(self._pool_cidr[_take(self._load_balancer_ips, key, "spec.loadBalancerIP", reason)])
            _set_ingress_address(service, wanted)
        numbers = group_numbers(service)
        for port in _group_keys(service):
            if port not in numbers:
                numbers[port] = _take(self._groups, key, "spec.ports", "there is no group number left")
                _set_group_numbers(service, numbers)

    def _complete_node_ports(self, ports: Sequence[JsonObject], key: str) -> None:
        """The same port of several protocols has the same node port, as in Kubernetes."""
        by_port = {entry["port"]: entry["nodePort"] for entry in reversed(ports) if entry.get("nodePort")}
        for position, entry in enumerate(ports):
            if not entry.get("nodePort"):
                if entry["port"] not in by_port:
                    by_port[entry["port"]] = self._take_node_port(key, f"spec.ports[{position}].nodePort")
                entry["nodePort"] = by_port[entry["port"]]

    def _take_node_port(self, key: str, field: str) -> int:
        return _take(self._node_ports, key, field, "there is no node port left")


def service_admission(config: NetworkConfig) -> Admission:
    """The store's hook that completes Services, and refuses those that cannot be by ``Invalid``."""
    allocator = ServiceAllocator(config)

    def admit(kind: Kind, old: JsonObject | None, new: JsonObject | None) -> None:
        if kind is not SERVICE:
            return
        if new is None:
            assert old is not None
            allocator.release(old)
            return
        try:
            allocator.admit(new, old)
        except ServiceRefused as refused:
            causes = [(problem.field, str(problem)) for problem in refused.problems]
            raise invalid(kind.name, _key(new), causes) from None

    return admit


def _key(service: JsonObject) -> str:
    return f"{object_namespace(service)}/{object_name(service)}"


def _static_size(size: int, share: int, most: int) -> int:
    """How many of the lowest numbers Kubernetes leaves to people (KEP-3070 and KEP-3668)."""
    return 0 if size <= 16 else min(max(16, size // share), most)


def _cluster_ip_pool(cidr: IPNetwork) -> Pool:
    usable = usable_indices(cidr)
    reserved = {identity.API_INDEX: _API_OWNER, identity.DNS_INDEX: _DNS_OWNER}
    return Pool(
        usable,
        1 + _static_size(cidr.num_addresses, 16, 256),
        {index: owner for index, owner in reserved.items() if index in usable},
    )


def _take(pool: Pool, key: str, field: str, reason: str) -> int:
    try:
        return pool.take(key)
    except PoolExhausted:
        raise ServiceRefused([FieldProblem(field, reason)]) from None


def _index(address: str, cidr: IPNetwork) -> int:
    return int(ip_address(address)) - int(cidr.network_address)


def _group_keys(service: JsonObject) -> list[GroupKey]:
    """The ports that need a group: none of a Service without an address of its own."""
    if service["spec"]["type"] == "ExternalName" or is_headless(service):
        return []
    return [(entry.get("name") or "", entry["protocol"]) for entry in service["spec"]["ports"]]


def _set_group_numbers(service: JsonObject, numbers: Mapping[GroupKey, int]) -> None:
    metadata = service["metadata"]
    if numbers:
        metadata.setdefault("annotations", {})[identity.GROUP_NUMBERS] = group_numbers_text(numbers)
    elif identity.GROUP_NUMBERS in metadata.get("annotations", {}):
        del metadata["annotations"][identity.GROUP_NUMBERS]
        if not metadata["annotations"]:
            del metadata["annotations"]


def _load_balancer_ip(service: JsonObject) -> str:
    if service["spec"].get("type") != "LoadBalancer":
        return ""
    return service["spec"].get("loadBalancerIP") or _ingress_address(service)


def _ingress_address(service: JsonObject) -> str:
    """The address in ``status.loadBalancer``; empty when there is none that can be read."""
    try:
        text = str(service["status"]["loadBalancer"]["ingress"][0]["ip"])
        ip_address(text)
    except (IndexError, KeyError, TypeError, ValueError):
        return ""
    return text


def _set_ingress_address(service: JsonObject, address: str) -> None:
    status = service.setdefault("status", {})
    status["loadBalancer"] = {"ingress": [{"ip": address}]} if address else {}
