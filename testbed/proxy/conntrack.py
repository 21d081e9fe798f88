"""Forgetting translated connections: a client that keeps its port would be sent to an endpoint that is gone.

By conntrack's own netlink messages (linux/netfilter/nfnetlink_conntrack.h), in the network namespace of the calling
thread. Of TCP, only those whose endpoint's pod has gone (:mod:`testbed.cluster.gone_endpoints`): others end by
themselves.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.cluster.gone_endpoints import Socket
from testbed.cluster.values import IPAddress, NodeNetwork, ServicePort

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = 1, 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ENOENT = 2
_ATTRIBUTE_TYPE = 0x3FFF  # without the flags for nesting and byte order

_TUPLE_ORIG, _TUPLE_REPLY, _STATUS = 1, 2, 3
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_SRC, _IP_V4_DST = 1, 2
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_TRANSLATED = 0x10 | 0x20  # IPS_SRC_NAT, IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)
_RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True)
class Connection:
    """A connection as conntrack has it. ``request`` is the attribute that names it when it is to be deleted."""

    ip_proto: int
    destination: Socket
    answered_by: Socket
    is_translated: bool
    request: bytes


@dataclass(frozen=True)
class UdpFronts:
    """The UDP addresses of Services that changed: where their connections may lead, by where they were sent.

    ``by_node_port`` holds for all ``node_addresses``.
    """

    by_address: Mapping[Socket, Collection[Socket]]
    by_node_port: Mapping[int, Collection[Socket]]
    node_addresses: Collection[IPAddress]

    def __bool__(self) -> bool:
        return bool(self.by_address or self.by_node_port)

    def is_stale(self, connection: Connection) -> bool:
        """Whether the connection leads elsewhere; also one from before the Service was there, which leads nowhere."""
        if connection.ip_proto != socket.IPPROTO_UDP:
            return False
        allowed = self.by_address.get(connection.destination)
        if allowed is None and connection.destination[0] in self.node_addresses:
            allowed = self.by_node_port.get(connection.destination[1])
        return allowed is not None and connection.answered_by not in allowed


def udp_fronts(node: NodeNetwork, gone: Iterable[ServicePort], present: Iterable[ServicePort]) -> UdpFronts:
    """The addresses of ports as they were (``gone``) and as they are now, seen from a node."""
    by_address: dict[Socket, Collection[Socket]] = {}
    by_node_port: dict[int, Collection[Socket]] = {}

    def note(port: ServicePort, allowed: Collection[Socket]) -> None:
        by_address[port.cluster_ip, port.service_port] = allowed
        if port.load_balancer_ip is not None:
            by_address[port.load_balancer_ip, port.service_port] = allowed
        if port.node_port is not None:
            by_node_port[port.node_port] = allowed

    for port in gone:
        if port.protocol == "UDP":
            note(port, ())
    for port in present:
        if port.protocol == "UDP":
            usable = (*port.cluster_endpoints, *port.local_endpoints(node.name))
            note(port, frozenset((endpoint.endpoint_ip, endpoint.target_port) for endpoint in usable))
    return UdpFronts(by_address, by_node_port, (node.node_ip, node.gateway_ip))


def is_to(endpoints: Collection[Socket], connection: Connection) -> bool:
    """Whether it is a translated TCP connection to one of the endpoints."""
    is_tcp = connection.ip_proto == socket.IPPROTO_TCP
    return is_tcp and connection.is_translated and connection.answered_by in endpoints


def flush(is_stale: Callable[[Connection], bool]) -> int:
    """Delete the IPv4 connections that are stale; returns their number. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        stale = [connection for connection in _dump(kernel) if is_stale(connection)]
        for connection in stale:
            _delete(kernel, connection)
    return len(stale)


def _message(kind: int, flags: int, attributes: bytes = b"") -> bytes:
    body = struct.pack(">BBH", socket.AF_INET, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), _SUBSYSTEM | kind, _REQUEST | flags, 1, 0) + body


def _dump(kernel: socket.socket) -> Iterator[Connection]:
    kernel.send(_message(_GET, _DUMP))
    while True:
        for kind, body in _messages(kernel.recv(_RECEIVE_BYTES)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise _error(body, "conntrack: list")
            connection = read_connection(body[4:])
            if connection is not None:
                yield connection


def _delete(kernel: socket.socket, connection: Connection) -> None:
    kernel.send(_message(_DELETE, _ACK, connection.request))
    for kind, body in _messages(kernel.recv(_RECEIVE_BYTES)):
        if kind == _NLMSG_ERROR:
            error = _error(body, "conntrack: delete")
            if error.errno not in (0, _ENOENT):  # it may have ended by itself meanwhile
                raise error


def _error(body: bytes, what: str) -> OSError:
    (code,) = struct.unpack_from("=i", body)
    return OSError(-code, what)


def _messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 16 <= len(received):
        length, kind = struct.unpack_from("=IH", received, offset)
        yield kind, received[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & _ATTRIBUTE_TYPE] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def read_connection(data: bytes) -> Connection | None:
    """A connection out of its attributes; None for one without ports, such as ICMP's."""
    attributes = _attributes(data)
    original, reply = (_attributes(attributes[kind]) for kind in (_TUPLE_ORIG, _TUPLE_REPLY))
    protocol = _attributes(original[_TUPLE_PROTO])
    if _PROTO_DST_PORT not in protocol:
        return None
    request = attributes[_TUPLE_ORIG]
    return Connection(
        ip_proto=protocol[_PROTO_NUM][0],
        destination=_socket(original, _IP_V4_DST, _PROTO_DST_PORT),
        answered_by=_socket(reply, _IP_V4_SRC, _PROTO_SRC_PORT),
        is_translated=bool(struct.unpack(">I", attributes[_STATUS])[0] & _TRANSLATED),
        request=struct.pack("=HH", 4 + len(request), 0x8000 | _TUPLE_ORIG) + request,
    )


def _socket(tuple_attributes: dict[int, bytes], address: int, port: int) -> Socket:
    addresses = _attributes(tuple_attributes[_TUPLE_IP])
    ports = _attributes(tuple_attributes[_TUPLE_PROTO])
    return IPv4Address(addresses[address]), int.from_bytes(ports[port], "big")
