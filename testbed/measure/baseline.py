"""What measuring itself costs on this machine, and what the kernel's own overlay costs: to print beside results.

Two small networks are made of fresh namespaces, apart from the cluster:

- *floor*: two namespaces and a wire. A round trip here is what the client, the server and the scheduler cost; so is an
  HTTP request to the server of the image whoami.
- *kernel path*: pod - node - node - pod with kernel routing, once bare and once over a kernel VXLAN device. No Open
  vSwitch: the ratio that a cluster without a userspace datapath would see on this machine.

Addresses are from 198.18.0.0/15, the range set aside for benchmarks (RFC 2544, RFC 6890).
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from testbed.cluster.values import VXLAN_UDP_PORT, IPAddress
from testbed.measure.destination import Backend, Destination
from testbed.measure.probes import exchange, http, sockperf
from testbed.measure.probes.base import ECHO_PORT, PROGRAM_LIMIT_S
from testbed.measure.process import Servers, run_program, start, stop
from testbed.network import netns
from testbed.spec.endpoints import EndpointRef
from testbed.spec.images import container_argv
from testbed.spec.models import Probe

_PAYLOAD_BYTES = 64
_FLOOR_S, _WARMUP_S = 0.3, 0.05
_WHOAMI_PORT = 8000
# The two kernel paths take turns, so that a drift of the machine meets both.
_TURNS, _TURN_S = 5, 0.1

FLOOR_CLIENT, FLOOR_SERVER = (EndpointRef("node", "", f"floor_{name}") for name in ("client", "server"))
_POD1, _NODE1, _NODE2, _POD2 = (
    EndpointRef("node", "", f"kernel_{name}") for name in ("pod1", "node1", "node2", "pod2")
)
_ADDRESSES = {FLOOR_SERVER: "198.18.4.2", _POD2: "198.18.2.2"}

_FLOOR_SETUP = {
    FLOOR_CLIENT: """
        link add wire type veth peer name wire netns floor_server
        address add 198.18.4.1/24 dev wire
        link set wire up""",
    FLOOR_SERVER: """
        address add 198.18.4.2/24 dev wire
        link set wire up""",
}
_KERNEL_SETUP = {
    _NODE1: f"""
        link add pod type veth peer name eth0 netns kernel_pod1
        link add uplink type veth peer name uplink netns kernel_node2
        address add 198.18.1.1/24 dev pod
        address add 198.18.0.1/24 dev uplink
        link set pod up
        link set uplink up
        link add vxlan0 type vxlan id 1 local 198.18.0.1 remote 198.18.0.2 dstport {VXLAN_UDP_PORT}
        address add 198.18.3.1/24 dev vxlan0
        link set vxlan0 up""",
    _NODE2: f"""
        link add pod type veth peer name eth0 netns kernel_pod2
        address add 198.18.2.1/24 dev pod
        address add 198.18.0.2/24 dev uplink
        link set pod up
        link set uplink up
        link add vxlan0 type vxlan id 1 local 198.18.0.2 remote 198.18.0.1 dstport {VXLAN_UDP_PORT}
        address add 198.18.3.2/24 dev vxlan0
        link set vxlan0 up""",
    _POD1: """
        address add 198.18.1.2/24 dev eth0
        link set eth0 up
        route add default via 198.18.1.1""",
    _POD2: """
        address add 198.18.2.2/24 dev eth0
        link set eth0 up
        route add default via 198.18.2.1""",
}
_ROUTES = {
    "routed": {
        _NODE1: "route replace 198.18.2.0/24 via 198.18.0.2 dev uplink",
        _NODE2: "route replace 198.18.1.0/24 via 198.18.0.1 dev uplink",
    },
    "overlay": {
        _NODE1: "route replace 198.18.2.0/24 via 198.18.3.2 dev vxlan0",
        _NODE2: "route replace 198.18.1.0/24 via 198.18.3.1 dev vxlan0",
    },
}


class Namespaces:
    """Bare network namespaces as places to run programs; an endpoint's name is its namespace."""

    def address(self, endpoint: EndpointRef) -> IPAddress:
        return ip_address(_ADDRESSES[endpoint])

    def namespace(self, endpoint: EndpointRef) -> str:
        return endpoint.name

    def popen(self, endpoint: EndpointRef, argv: Sequence[str], **popen_kwargs: Any) -> subprocess.Popen[bytes]:
        with netns.entered(endpoint.name):
            return subprocess.Popen(argv, **popen_kwargs)


@contextmanager
def _network(setup: dict[EndpointRef, str], forwarding: Sequence[EndpointRef] = ()) -> Iterator[Namespaces]:
    made: list[EndpointRef] = []
    try:
        for endpoint in setup:
            with netns.home():
                netns.create_and_stay(endpoint.name)
                made.append(endpoint)
                if endpoint in forwarding:
                    # Which namespace's setting this is goes by the thread that opens the file.
                    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for endpoint, commands in setup.items():
            _ip(endpoint, commands)
        yield Namespaces()
    finally:
        for endpoint in made:
            subprocess.run(["ip", "netns", "delete", endpoint.name], check=True)


def floor_network() -> AbstractContextManager[Namespaces]:
    """Two namespaces and a wire between them: :data:`FLOOR_CLIENT` and :data:`FLOOR_SERVER`."""
    return _network(_FLOOR_SETUP)


def _ip(endpoint: EndpointRef, commands: str) -> None:
    subprocess.run(["ip", "-netns", endpoint.name, "-batch", "-"], input=commands.encode(), check=True)


def _requests_us(floor: Namespaces, servers: Servers) -> list[float]:
    """Times of HTTP requests on one connection over the wire."""
    whoami = container_argv({"name": "floor", "image": "whoami"})
    assert whoami is not None
    servers.ensure(FLOOR_SERVER, whoami)
    address = floor.address(FLOOR_SERVER)
    destination = Destination(address, _WHOAMI_PORT, (Backend(FLOOR_SERVER, address, _WHOAMI_PORT),))
    probe = Probe.model_validate({"kind": "http", "duration_s": _FLOOR_S, "warmup_s": _WARMUP_S})
    argv = http.command(destination, probe)
    output = run_program(floor, FLOOR_CLIENT, argv, PROGRAM_LIMIT_S)
    return [request.took_ms * 1000 for request in http.parse(output) if request.ok]


def _round_trips_us(places: Namespaces, source: EndpointRef, target: EndpointRef, duration_s: float) -> list[float]:
    address = str(places.address(target))
    argv = exchange.command("udp_rr", address, payload_bytes=_PAYLOAD_BYTES, duration_s=duration_s, warmup_s=_WARMUP_S)
    _, _, times_ns = exchange.parse(run_program(places, source, argv, PROGRAM_LIMIT_S))
    return [value / 1000 for value in times_ns]


@cache
def measure() -> dict[str, Any]:
    """All figures, measured once a run in about 3 s. Medians of UDP round trips in microseconds; inside the box.

    ``tool_floor_us`` and ``sockperf_floor_us``: our client and sockperf over the bare wire; ``http_floor_us``: our HTTP
    client, a kept connection, and the server of the image whoami. ``kernel_path``: medians of both modes, and the
    ratio overlay/routed as the median over the turns with its smallest and largest.
    """
    with floor_network() as floor, Servers(floor) as servers:
        servers.echo(FLOOR_SERVER, "udp", ECHO_PORT)
        servers.ensure(FLOOR_SERVER, sockperf.server_argv(_ADDRESSES[FLOOR_SERVER]))
        # sockperf sleeps for 2 s before it sends; the other figures are measured meanwhile.
        client = start(floor, FLOOR_CLIENT, sockperf.client_argv(_ADDRESSES[FLOOR_SERVER], 1, _PAYLOAD_BYTES))
        try:
            own_us = _round_trips_us(floor, FLOOR_CLIENT, FLOOR_SERVER, _FLOOR_S)
            requests_us = _requests_us(floor, servers)
            kernel_path = _kernel_path()
            _, sockperf_us = sockperf.parse(client.communicate(timeout=PROGRAM_LIMIT_S)[0])
        finally:
            stop(client)
    return {
        "tool_floor_us": round(statistics.median(own_us), 3),
        "sockperf_floor_us": round(statistics.median(sockperf_us), 3),
        "http_floor_us": round(statistics.median(requests_us), 3),
        "kernel_path": kernel_path,
    }


def _kernel_path() -> dict[str, Any]:
    medians: dict[str, list[float]] = {mode: [] for mode in _ROUTES}
    with _network(_KERNEL_SETUP, forwarding=(_NODE1, _NODE2)) as network, Servers(network) as servers:
        servers.echo(_POD2, "udp", ECHO_PORT)
        for _ in range(_TURNS):
            for mode, routes in _ROUTES.items():
                for node, route in routes.items():
                    _ip(node, route)
                medians[mode].append(statistics.median(_round_trips_us(network, _POD1, _POD2, _TURN_S)))
    ratios = [overlay / routed for overlay, routed in zip(medians["overlay"], medians["routed"], strict=True)]
    return {
        "routed_us": round(statistics.median(medians["routed"]), 3),
        "overlay_us": round(statistics.median(medians["overlay"]), 3),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_range": [round(min(ratios), 4), round(max(ratios), 4)],
        "turns": _TURNS,
    }
