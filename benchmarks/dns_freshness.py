"""How soon the cluster's name server answers by a change: from the write to the store to the answer.

One server in a namespace of its own, with a store of 10,000 Services behind it (and, to see what their number costs,
with 10). A client inside the pod asks over UDP every millisecond until the answer is the new one. So a figure includes
the way through the store, the update of the server and the last question.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable

import dns.message

from benchmarks.boxed import boxed
from benchmarks.figures import Figure
from benchmarks.pushes import since_ms
from testbed.cluster.store import Store
from testbed.network import netns
from tests.box.dns_harness import (
    NameServer,
    cluster_ip_service,
    endpoint_slice,
    headless_service,
    served,
)

SERVICES, REPETITIONS = 10_000, 100
LIMIT_MS = 100.0
_DEADLINE_S, _PAUSE_S = 10.0, 0.001


class Client:
    """Asks for one name over UDP until the answer is the wanted one."""

    def __init__(self, server: NameServer, name: str) -> None:
        with netns.entered(server.namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", 53))
        self._socket.settimeout(1)
        self._question = dns.message.make_query(name, "A").to_wire()

    def addresses(self) -> set[bytes]:
        """The addresses in one answer: the last four bytes of each record, whose name is a reference of two."""
        self._socket.send(self._question)
        answer = self._socket.recv(4096)
        count = int.from_bytes(answer[6:8], "big")
        start = len(self._question)
        return {answer[start + 16 * number + 12 : start + 16 * (number + 1)] for number in range(count)}

    def wait(self, wanted: set[bytes], since: float) -> float:
        """Milliseconds from ``since`` until the wanted addresses are answered."""
        while self.addresses() != wanted:
            if time.perf_counter() - since > _DEADLINE_S:
                raise AssertionError(f"{self.addresses()} instead of {wanted} after {_DEADLINE_S:g} s")
            time.sleep(_PAUSE_S)
        return since_ms(since)


def measure(services: int) -> dict[str, float]:
    """Times in ms with that many Services. To be called in a box of its own."""
    server = NameServer("dns-a")
    with served(server) as (store, dns_loop):
        started = time.perf_counter()
        for number in range(services):
            store.create(cluster_ip_service(f"s{number}", f"10.{96 + number // 50_000}.{number // 250}.{number % 250}"))
        created = time.perf_counter()
        dns_loop.wait_settled(60)
        filled = time.perf_counter()
        store.create(headless_service("ring"))
        store.create(endpoint_slice("ring", _ring(0)))
        dns_loop.wait_settled(60)
        endpoints = [_endpoints(store, server, number + 1) for number in range(REPETITIONS)]
        new_services = [_new_service(store, server, number) for number in range(REPETITIONS)]
        refill_ms = _refill_ms(server, lambda: dns_loop.wait_settled(60))
    return {
        "created": (created - started) * 1e3,
        "filled": (filled - started) * 1e3,
        "endpoints": statistics.median(endpoints),
        "endpoints_worst": max(endpoints),
        "service": statistics.median(new_services),
        "service_worst": max(new_services),
        "refill": refill_ms,
    }


def _ring(number: int) -> list[str]:
    """Ten endpoints, of which one is another one each time."""
    return [f"10.244.1.{host}" for host in range(1, 10)] + [f"10.244.2.{number % 250}"]


def _packed(addresses: list[str]) -> set[bytes]:
    return {socket.inet_aton(text) for text in addresses}


def _endpoints(store: Store, server: NameServer, number: int) -> float:
    client = Client(server, "ring.default.svc.cluster.local")
    assert client.addresses() == _packed(_ring(number - 1))
    started = time.perf_counter()
    store.replace(endpoint_slice("ring", _ring(number)))
    return client.wait(_packed(_ring(number)), started)


def _new_service(store: Store, server: NameServer, number: int) -> float:
    cluster_ip = f"10.111.0.{number + 1}"
    client = Client(server, f"new-{number}.default.svc.cluster.local")
    assert client.addresses() == set()
    started = time.perf_counter()
    store.create(cluster_ip_service(f"new-{number}", cluster_ip))
    return client.wait(_packed([cluster_ip]), started)


def _refill_ms(server: NameServer, settled: Callable[[], None]) -> float:
    """How long after its start a server that was killed answers everything again."""
    server.kill()
    started = time.perf_counter()
    server.start()
    settled()
    return since_ms(started)


def figures() -> list[Figure]:
    """With many Services, beside few."""
    many, few = boxed(lambda: measure(SERVICES)), boxed(lambda: measure(10))
    result = [
        Figure(
            f"DNS, {SERVICES:,} Services: {what} (median of {REPETITIONS})",
            many[key],
            "ms",
            few[key],
            "with 10",
            target=f"worst <= {LIMIT_MS:g} ms",
            met=many[f"{key}_worst"] <= LIMIT_MS,
        )
        for key, what in (("endpoints", "an endpoint changes"), ("service", "a Service is added"))
    ]
    result += [
        Figure(f"DNS, {SERVICES:,} Services: {what}, worst", many[f"{key}_worst"], "ms", few[f"{key}_worst"], "with 10")
        for key, what in (("endpoints", "an endpoint changes"), ("service", "a Service is added"))
    ]
    result.append(
        Figure(
            f"DNS: {SERVICES:,} Services from nothing to answered",
            many["filled"],
            "ms",
            many["created"],
            "writing them to the store",
        )
    )
    result.append(
        Figure(
            f"DNS, {SERVICES:,} Services: a killed server answers again", many["refill"], "ms", few["refill"], "with 10"
        )
    )
    return result
