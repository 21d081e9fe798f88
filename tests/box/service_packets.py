"""What Services do with packets that ordinary programs seldom send, whatever balances them.

Clients that come again by the port of a connection that never ended, ICMP errors about a connection, SCTP. The servers
are sockets of the test's own, so that they can vanish, or not be there.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from typing import Any

from testbed.cluster.objects import JsonObject
from testbed.network.netns import entered
from tests.box.raw_packets import (
    fragmentation_needed,
    ip_payload,
    raw_socket,
    sctp_init,
    sctp_is_intact,
    sctp_packet,
    tcp_segment,
)
from tests.box.service_cases import Pod, World, assert_refused, placed, ready, slice_wire

# In none of the pods a program is at it, but for the sockets made here.
_TARGET = 8099
_PORTS: tuple[Mapping[str, Any], ...] = (
    {"name": "web", "protocol": "TCP", "port": 80},
    {"name": "web-udp", "protocol": "UDP", "port": 80},
)
_ANSWER_S = 3.0
_PATH_MTU = 1200
_IP_MTU = 14  # ip(7); Python has no name for it
_TCP_REPAIR = 19  # a socket in repair mode is closed without a word (Linux' uapi/linux/tcp.h)
_SYN, _SYN_FIN = 0x02, 0x03
_SO_ATTACH_FILTER = 26  # socket(7)
# Linux' first sequence numbers are a clock of 64 ns (RFC 6528, net/core/secure_seq.c). For so long the next one by the
# same port is inside a window of 64 KiB, and an endpoint whose server has closed resets it. Nobody is back so soon.
_OUT_OF_WINDOW_S = 4 * 0x10000 * 64e-9


def run_packet_cases(world: World) -> None:
    """Run all of them. Raises AssertionError."""
    run_tcp_and_udp_cases(world)
    sctp(world, _endpoints(world))


def run_tcp_and_udp_cases(world: World) -> None:
    """Without SCTP, to which a kernel that has it would answer, too. Raises AssertionError."""
    pods = _endpoints(world)
    with _placed(world, "packets", pods) as address:
        for case in (returning_clients, errors_about_a_connection, impossible_flags):
            begun = time.monotonic()
            case(world, address, pods)
            print(f"  {case.__name__}: {time.monotonic() - begun:.2f} s", flush=True)


def _endpoints(world: World) -> list[Pod]:
    everyone = list(world.pods.values())
    return [everyone[0], everyone[-1]]


@dataclass(frozen=True)
class _Address:
    cluster_ip: str
    node_port: int


@contextmanager
def _placed(world: World, name: str, pods: Sequence[Pod]) -> Iterator[_Address]:
    """A Service on TCP and UDP before ``_TARGET`` of these pods."""
    with placed(world, name, {}, _PORTS, type="NodePort") as service:
        wire: JsonObject = slice_wire(world, service.wire, ready(*(pod.name for pod in pods)))
        for port in wire["ports"]:
            port["port"] = _TARGET
        world.confirm([world.store.replace(wire)])
        world.forget()
        yield _Address(service.cluster_ip, service.node_port())


class _Listeners:
    """TCP servers of which no thread takes care."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self._sockets = []
        for pod in pods:
            with entered(pod.namespace):
                server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((str(pod.pod_ip), _TARGET))
            server.listen(64)
            self._sockets.append(server)

    def accept(self) -> socket.socket:
        found, _, _ = select.select(self._sockets, [], [], _ANSWER_S)
        assert found, "the connection never came to an endpoint"
        connection: socket.socket = found[0].accept()[0]
        connection.settimeout(_ANSWER_S)
        return connection

    def close(self) -> None:
        for server in self._sockets:
            server.close()


def _vanish(sock: socket.socket) -> None:
    """As if the machine had lost its power: the other end hears nothing."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    sock.close()


@dataclass(frozen=True)
class _Way:
    """How a client gets to the Service: by which address, from where."""

    namespace: str
    host: str
    number: int

    def client(self, port: int) -> socket.socket:
        with entered(self.namespace):
            made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(_ANSWER_S)
        made.bind(("", port))
        return made

    def source_ip(self) -> IPv4Address:
        with entered(self.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((self.host, self.number))
            return IPv4Address(asking.getsockname()[0])

    def connected(self, port: int, listeners: _Listeners) -> tuple[socket.socket, socket.socket]:
        """The client, and the server at its other end."""
        client = self.client(port)
        client.connect((self.host, self.number))
        return client, listeners.accept()


def _client_vanishes(way: _Way, port: int, listeners: _Listeners, opened: ExitStack) -> None:
    client, server = way.connected(port, listeners)
    opened.enter_context(server)
    _vanish(client)


def _both_vanish(way: _Way, port: int, listeners: _Listeners, _opened: ExitStack) -> None:
    for end in way.connected(port, listeners):
        _vanish(end)


def _client_vanishes_from_a_closed_server(way: _Way, port: int, listeners: _Listeners, _opened: ExitStack) -> None:
    client, server = way.connected(port, listeners)
    server.close()
    assert client.recv(1) == b""
    _vanish(client)
    time.sleep(_OUT_OF_WINDOW_S)


def _client_never_completes(way: _Way, port: int, _listeners: _Listeners, opened: ExitStack) -> None:
    # A SYN by hand: the sequence numbers of Linux' own would be so close that the endpoint takes the next one for an
    # error in the same connection. And its answer must not be refused, so there is a socket that hears nothing.
    wire = opened.enter_context(raw_socket(way.namespace, socket.IPPROTO_TCP, _ANSWER_S))
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0: no byte of any packet
    with way.client(port) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(nothing)))
        deaf.listen()
        syn = tcp_segment((way.source_ip(), port), (IPv4Address(way.host), way.number), _SYN, 1)
        wire.sendto(syn, (way.host, 0))
        while struct.unpack("!H", ip_payload(wire.recv(2048))[1][2:4])[0] != port:
            pass  # until the SYN-ACK has come this far


_PARTINGS = (_client_vanishes, _both_vanish, _client_vanishes_from_a_closed_server, _client_never_completes)


def returning_clients(world: World, address: _Address, pods: Sequence[Pod]) -> None:
    """A client is gone without a word, and comes again by the same port: it is connected, whoever else has gone."""
    first, *_, last = world.nodes.values()
    ways = [_Way(pod.namespace, address.cluster_ip, 80) for pod in world.pods.values() if pod.node_name == first.name]
    ways.append(_Way(first.name, address.cluster_ip, 80))
    ways.append(_Way(world.outside, str(last.node_ip), address.node_port))
    if world.proxy != "openflow":
        ways = ways[:1]  # the kernel's own connection tracking, with which the bridges' is compared here
    ports = count(21000)
    listeners = _Listeners(pods)
    with ExitStack() as opened:
        opened.callback(listeners.close)
        for way in ways:
            for parting, port in zip(_PARTINGS, ports, strict=False):
                parting(way, port, listeners, opened)
                try:
                    client, server = way.connected(port, listeners)
                    client.sendall(b"question")
                    assert server.recv(100) == b"question"
                    server.sendall(b"answer")
                    assert client.recv(100) == b"answer"
                except OSError as error:
                    raise AssertionError(f"{way} {parting.__name__}: {error!r}") from None
                client.close()
                server.close()


def errors_about_a_connection(world: World, address: _Address, pods: Sequence[Pod]) -> None:
    """What an endpoint's kernel, or a router before it, says of a datagram, the client hears of the Service."""
    first, *_, last = world.nodes.values()
    for pod in world.pods.values():
        assert_refused(pod.namespace, address.cluster_ip, 80, "UDP")
    for node in (first, last):
        assert_refused(node.name, address.cluster_ip, 80, "UDP")
    for pod in pods:
        with ExitStack() as opened:
            servers = []
            for each in pods:
                with entered(each.namespace):
                    servers.append(opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
                servers[-1].bind((str(each.pod_ip), _TARGET))
            with entered(pod.namespace):
                client = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.connect((address.cluster_ip, 80))
            client.settimeout(_ANSWER_S)
            client.send(b"?")
            found, _, _ = select.select(servers, [], [], _ANSWER_S)
            assert found, f"{pod.name}: no endpoint has the datagram"
            _, (seen, seen_port) = found[0].recvfrom(100)
            endpoint = pods[servers.index(found[0])]
            error = fragmentation_needed(
                _PATH_MTU, (IPv4Address(seen), seen_port), (IPv4Address(str(endpoint.pod_ip)), _TARGET)
            )
            with raw_socket(endpoint.namespace, socket.IPPROTO_ICMP, _ANSWER_S) as router:
                router.sendto(error, (seen, 0))
            deadline = time.monotonic() + _ANSWER_S
            while (mtu := client.getsockopt(socket.IPPROTO_IP, _IP_MTU)) != _PATH_MTU:
                assert time.monotonic() < deadline, f"{pod.name} -> {endpoint.name}: the path MTU is still {mtu}"
                time.sleep(0.005)


def impossible_flags(world: World, address: _Address, pods: Sequence[Pod]) -> None:
    """The bridge keeps from endpoints what neither belongs to a connection nor can begin one."""
    if world.proxy != "openflow":
        return
    client = next(pod for pod in world.pods.values() if pod not in pods)
    bad, good = 22000, 22001
    source = IPv4Address(str(client.pod_ip))
    listeners = _Listeners(pods)
    with ExitStack() as opened:
        opened.callback(listeners.close)
        seen = [opened.enter_context(raw_socket(pod.namespace, socket.IPPROTO_TCP, _ANSWER_S)) for pod in pods]
        sender = opened.enter_context(raw_socket(client.namespace, socket.IPPROTO_TCP, _ANSWER_S))
        vip = IPv4Address(address.cluster_ip)
        sender.sendto(tcp_segment((source, bad), (vip, 80), _SYN_FIN, 1), (str(vip), 0))
        for end in _Way(client.namespace, str(vip), 80).connected(good, listeners):
            end.close()
        ports = set()
        while found := select.select(seen, [], [], 0)[0]:
            for sock in found:
                ports.add(struct.unpack("!H", ip_payload(sock.recv(2048))[1][:2])[0])
        assert good in ports and bad not in ports, ports


def sctp(world: World, pods: Sequence[Pod]) -> None:
    """One endpoint is asked for an association, and its answer comes from the Service; every checksum is right.

    The flows cannot have the userspace datapath translate SCTP's ports, so with them the Service has its target's.
    """
    number = _TARGET if world.proxy == "openflow" else 80
    ports = ({"name": "web", "protocol": "SCTP", "port": number},)
    with placed(world, "sctp", {}, ports) as service, ExitStack() as opened:
        wire = slice_wire(world, service.wire, ready(*(pod.name for pod in pods)))
        wire["ports"][0]["port"] = _TARGET
        world.confirm([world.store.replace(wire)])
        world.forget()
        endpoints = [opened.enter_context(raw_socket(pod.namespace, socket.IPPROTO_SCTP, _ANSWER_S)) for pod in pods]
        for pod in (each for each in world.pods.values() if each not in pods):
            with raw_socket(pod.namespace, socket.IPPROTO_SCTP, _ANSWER_S) as client:
                client.sendto(sctp_packet(5000, number, 0, sctp_init(1, 77)), (service.cluster_ip, 0))
                found, _, _ = select.select(endpoints, [], [], _ANSWER_S)
                assert found, f"{pod.name}: no endpoint has the INIT"
                source, init = ip_payload(found[0].recv(2048))
                assert (str(source), *struct.unpack("!HH", init[:4])) == (str(pod.pod_ip), 5000, _TARGET)
                assert sctp_is_intact(init)
                found[0].sendto(sctp_packet(_TARGET, 5000, 77, sctp_init(2, 88)), (str(source), 0))
                source, answer = ip_payload(client.recv(2048))
                assert (str(source), *struct.unpack("!HH", answer[:4])) == (service.cluster_ip, number, 5000)
                assert sctp_is_intact(answer)
                assert not select.select(endpoints, [], [], 0)[0], f"{pod.name}: two endpoints have the INIT"
