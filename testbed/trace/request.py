"""What is to be traced: from where, to what, by which protocol. Reads the command's words into addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from testbed.cluster.identity import pod_namespace
from testbed.errors import InputError, Problem
from testbed.spec.endpoints import TARGET_FORM, EndpointRef, ServiceRef, parse_endpoint, parse_target
from testbed.spec.nearest import suggestion
from testbed.trace.cluster import Cluster
from testbed.trace.kernel import Kernel
from testbed.trace.places import Places
from testbed.trace.values import TransportProtocol

# In the middle of the range that Linux takes a client's port from (net.ipv4.ip_local_port_range).
ASSUMED_SOURCE_PORT = 45678

_ADDRESS = re.compile(r"(\d+\.\d+\.\d+\.\d+)(?::(\d{1,5}))?")


@dataclass(frozen=True)
class Request:
    """A trace that is wanted, as written: ``source`` and ``target`` as on the command line.

    Without ``protocol`` it is TCP to a port, else an ICMP echo request. ``endpoint`` (a pod or an address): which of
    several endpoints of a Service to follow.
    """

    source: str
    target: str
    protocol: TransportProtocol | None = None
    source_port: int | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class Resolved:
    """The same as addresses. ``namespace`` is where the packet starts; ``source_port`` 0 for ICMP."""

    namespace: str
    address: IPv4Address
    protocol: TransportProtocol
    source_port: int
    destination_port: int
    endpoint: IPv4Address | None


class Resolver:
    """Finds what a request names. All methods raise InputError, saying what there is."""

    def __init__(self, cluster: Cluster, kernel: Kernel, places: Places) -> None:
        self._cluster, self._kernel, self._places = cluster, kernel, places

    def resolve(self, request: Request) -> Resolved:
        """The request's addresses."""
        address, number, protocol = self._target(request.target)
        protocol = request.protocol or protocol or ("tcp" if number else "icmp")
        if protocol != "icmp" and not number:
            raise _wrong("TO", request.target, f"{protocol} needs a port: {request.target}:PORT")
        endpoint = None
        if request.endpoint is not None:
            endpoint = self._plain_address(request.endpoint) or self._endpoint_address("--endpoint", request.endpoint)
        return Resolved(
            self._namespace(request.source),
            address,
            protocol,
            0 if protocol == "icmp" else request.source_port or ASSUMED_SOURCE_PORT,
            0 if protocol == "icmp" else number or 0,
            endpoint,
        )

    def _target(self, text: str) -> tuple[IPv4Address, int | None, TransportProtocol | None]:
        plain = _ADDRESS.fullmatch(text)
        if plain is not None:
            try:
                return IPv4Address(plain[1]), int(plain[2]) if plain[2] else None, None
            except ValueError:
                raise _wrong("TO", text, "no IPv4 address") from None
        try:
            target = parse_target(text)
        except ValueError:
            raise _wrong("TO", text, "cannot be read", f"{TARGET_FORM}; or ADDRESS:PORT") from None
        if target.service is not None:
            return self._service(text, target.service, target.port or 0)
        assert target.endpoint is not None
        return self._address("TO", target.endpoint), target.port, None

    def _service(self, text: str, wanted: ServiceRef, number: int) -> tuple[IPv4Address, int, TransportProtocol | None]:
        key = f"{wanted.namespace}/{wanted.name}"
        entries = [entry for entry in self._cluster.state.service_ports if entry.service_key == key]
        if not entries:
            names = sorted({entry.service_key for entry in self._cluster.state.service_ports})
            raise _wrong("TO", text, f"there is no Service {key} with an address{suggestion(key, names)}")
        # A port that the Service does not have is worth tracing, too: it is to be refused.
        entry = next((one for one in entries if one.service_port == number), entries[0])
        address = entry.cluster_ip if wanted.address == "service" else entry.load_balancer_ip
        if not isinstance(address, IPv4Address):
            raise _wrong("TO", text, f"Service {key} has no address of this kind")
        protocol: TransportProtocol = "udp" if entry.protocol == "UDP" else "tcp"
        return address, number, protocol

    def _endpoint_address(self, option: str, text: str) -> IPv4Address:
        return self._address(option, _parse(option, text))

    def _namespace(self, text: str) -> str:
        wanted = _parse("FROM", text)
        if wanted.kind != "pod":
            self._address("FROM", wanted)
            return wanted.name
        node = self._cluster.host_pods.get(f"{wanted.namespace}/{wanted.name}")
        if node is not None:
            return node
        self._address("FROM", wanted)
        return pod_namespace(wanted.namespace, wanted.name)

    def _address(self, option: str, wanted: EndpointRef) -> IPv4Address:
        state = self._cluster.state
        key = f"{wanted.namespace}/{wanted.name}"
        found: object = None
        if wanted.kind == "pod":
            pod = state.pod_by_key.get(key)
            node = state.node_by_name.get(self._cluster.host_pods.get(key, ""))
            found = pod.pod_ip if pod is not None else node.node_ip if node is not None else None
            names = [_short(name) for name in (*state.pod_by_key, *self._cluster.host_pods)]
        elif wanted.kind == "node":
            node = state.node_by_name.get(wanted.name)
            found = node.node_ip if node is not None else None
            names = [f"node/{node.name}" for node in state.nodes]
        else:
            hosts = self._outside_hosts()
            found, names = hosts.get(wanted.name), [f"ext/{name}" for name in hosts]
        if isinstance(found, IPv4Address):
            return found
        hint = suggestion(str(wanted), names)
        if wanted.kind == "pod" and wanted.name in state.node_by_name:
            hint = f"; a node is written node/{wanted.name}"
        elif wanted.kind == "pod" and wanted.name in self._outside_hosts():
            hint = f"; a host outside is written ext/{wanted.name}"
        raise _wrong(option, str(wanted), f"there is no {wanted}{hint}")

    def _outside_hosts(self) -> dict[str, IPv4Address]:
        """Hosts of the fabric that do not forward, with their address."""
        found = {}
        for name in self._places.fabric:
            addresses = [
                address.ip
                for interface in self._kernel.interfaces(name).values()
                for address in interface.addresses
                if interface.name != "lo"
            ]
            if addresses and not self._kernel.forwards(name):
                found[name] = addresses[0]
        return found

    @staticmethod
    def _plain_address(text: str) -> IPv4Address | None:
        try:
            address = ip_address(text)
        except ValueError:
            return None
        return address if isinstance(address, IPv4Address) else None


def _parse(option: str, text: str) -> EndpointRef:
    try:
        return parse_endpoint(text)
    except ValueError as error:
        raise _wrong(option, text, "cannot be read", str(error)) from None


def _short(key: str) -> str:
    namespace, _, name = key.partition("/")
    return str(EndpointRef("pod", namespace, name))


def _wrong(option: str, value: str, message: str, allowed: str = "") -> InputError:
    return InputError([Problem("trace", 0, option, message, value, allowed)])
