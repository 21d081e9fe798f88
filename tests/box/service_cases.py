"""What Services have to do, whatever balances them: each case places a Service and sends real packets.

The cases bring their own EndpointSlices, so that they say exactly which endpoint is in what condition. Every pod of the
world answers on TCP and UDP port 8080 and TCP port 9090.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from typing import Any

from testbed.cluster.confirm import NotConfirmed
from testbed.cluster.kinds import ENDPOINT_SLICE, SERVICE, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.cluster.values import IPAddress, NodeNetwork, ProxyName
from tests.box.service_traffic import Client, Servers, ask, spread

# Long enough for an answer on a busy machine; what must not be answered is waited for no longer.
SILENCE_S = 0.5
# What refuses does so at once; a TCP client that is not answered tries again only after 1 s.
REFUSED_S = 0.9

READY = {"ready": True, "serving": True, "terminating": False}
NOT_READY = {"ready": False, "serving": False, "terminating": False}
TERMINATING = {"ready": False, "serving": True, "terminating": True}
TERMINATED = {"ready": False, "serving": False, "terminating": True}


@dataclass(frozen=True)
class Pod:
    """A pod of a world, and the namespace its programs are in."""

    name: str
    node_name: str
    pod_ip: IPAddress
    namespace: str


@dataclass(frozen=True)
class World:
    """A running cluster. ``outside`` is the namespace of a host that is no node.

    ``confirm`` waits until all nodes balance as the changed objects say, ``forget`` until nothing that was decided
    before is applied to new connections.
    """

    store: Store
    nodes: Mapping[str, NodeNetwork]
    pods: Mapping[str, Pod]
    outside: str
    outside_ip: str
    confirm: Callable[[Sequence[JsonObject]], None]
    forget: Callable[[], None]
    proxy: ProxyName = "openflow"

    def pods_on(self, node_name: str) -> list[str]:
        return [name for name, pod in self.pods.items() if pod.node_name == node_name]


def serve(world: World, servers: Servers) -> None:
    """Start what every pod of the world answers with."""
    for pod in world.pods.values():
        for number, protocol in ((8080, "TCP"), (8080, "UDP"), (9090, "TCP")):
            servers.listen(pod.name, pod.namespace, str(pod.pod_ip), number, protocol)


WEB = ({"name": "web", "protocol": "TCP", "port": 80}, {"name": "web-udp", "protocol": "UDP", "port": 80})
_TARGETS = {"web": 8080, "web-udp": 8080, "admin": 9090}


# No address is used by two Services, one after the other: so only cases that change one have to wait for ``forget``.
_CLUSTER_IPS = (IPv4Address("10.96.8.0") + number for number in count())
_LOAD_BALANCER_IPS = (IPv4Address("198.18.0.1") + number for number in count())
_NODE_PORTS = count(31000)


def service_wire(name: str, ports: Sequence[Mapping[str, Any]] = WEB, **spec: Any) -> JsonObject:
    """A Service without selector, with addresses of its own."""
    spec["clusterIP"] = str(next(_CLUSTER_IPS))
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        ports = [{**port, "nodePort": next(_NODE_PORTS)} for port in ports]
    if spec.get("type") == "LoadBalancer":
        spec["loadBalancerIP"] = str(next(_LOAD_BALANCER_IPS))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [dict(port) for port in ports], **spec},
    }


def slice_wire(world: World, service: JsonObject, endpoints: Mapping[str, Mapping[str, bool]]) -> JsonObject:
    """The Service's one EndpointSlice: pods by name, with their conditions."""
    name = service["metadata"]["name"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": port["name"], "protocol": port["protocol"], "port": _TARGETS[port["name"]]}
            for port in service["spec"]["ports"]
        ],
        "endpoints": [
            {
                "addresses": [str(world.pods[pod].pod_ip)],
                "conditions": dict(conditions),
                "nodeName": world.pods[pod].node_name,
            }
            for pod, conditions in endpoints.items()
        ],
    }


@dataclass
class Placed:
    """A Service in the store, with its slice."""

    world: World
    wire: JsonObject

    @property
    def cluster_ip(self) -> str:
        return str(self.wire["spec"]["clusterIP"])

    @property
    def load_balancer_ip(self) -> str:
        return str(self.wire["status"]["loadBalancer"]["ingress"][0]["ip"])

    def node_port(self, port_name: str = "web") -> int:
        return next(int(port["nodePort"]) for port in self.wire["spec"]["ports"] if port["name"] == port_name)

    def endpoints(self, endpoints: Mapping[str, Mapping[str, bool]]) -> None:
        """Exchange the endpoints, and wait until that has its effect."""
        self.world.confirm([self.world.store.replace(slice_wire(self.world, self.wire, endpoints))])
        self.world.forget()


@contextmanager
def placed(
    world: World,
    name: str,
    endpoints: Mapping[str, Mapping[str, bool]],
    ports: Sequence[Mapping[str, Any]] = WEB,
    **spec: Any,
) -> Iterator[Placed]:
    """A Service with these endpoints, there for as long as the block."""
    store = world.store
    service = store.create(service_wire(name, ports, **spec))
    piece = store.create(slice_wire(world, service, endpoints))
    world.confirm([service, piece])
    try:
        yield Placed(world, service)
    finally:
        gone: list[tuple[Kind, str]] = [(ENDPOINT_SLICE, f"{name}-1"), (SERVICE, name)]
        world.confirm([store.delete(kind, each, "default") for kind, each in gone])


def ready(*pods: str) -> dict[str, Mapping[str, bool]]:
    return dict.fromkeys(pods, READY)


def assert_refused(namespace: str, address: str, number: int, protocol: str) -> None:
    """Refused at once: what keeps silent until it times out is a failure."""
    begun = time.monotonic()
    try:
        answer = ask(namespace, address, number, protocol, timeout_s=5)
    except (ConnectionRefusedError, ConnectionResetError):
        took_s = time.monotonic() - begun
        assert took_s < REFUSED_S, f"{namespace} -> {address}:{number}/{protocol}: refused only after {took_s:.2f} s"
    except TimeoutError:
        raise AssertionError(f"{namespace} -> {address}:{number}/{protocol}: neither answered nor refused") from None
    else:
        raise AssertionError(f"{namespace} -> {address}:{number}/{protocol}: answered by {answer}")


def assert_silent(namespace: str, address: str, number: int, protocol: str = "TCP") -> None:
    """Neither answered nor refused."""
    try:
        answer = ask(namespace, address, number, protocol, timeout_s=SILENCE_S)
    except TimeoutError:
        return
    raise AssertionError(f"{namespace} -> {address}:{number}/{protocol}: answered by {answer}")


def assert_spread(counts: Counter[str], expected: Sequence[str]) -> None:
    """All of the servers answered, and each about as often: within five standard deviations of a fair choice."""
    assert set(counts) == set(expected), f"{dict(counts)} of {expected}"
    total, share = counts.total(), 1 / len(expected)
    sigma = math.sqrt(total * share * (1 - share))
    for server, found in counts.items():
        assert abs(found - total * share) <= 5 * sigma, f"{server}: {dict(counts)}, expected {total * share:.0f} each"


def cluster_ip(world: World) -> None:
    """Several ports, TCP and UDP on the same number, from every pod and node; pods keep their address."""
    admin = {"name": "admin", "protocol": "TCP", "port": 81}
    everyone = list(world.pods)
    with placed(world, "cluster-ip", ready(*everyone), (*WEB, admin)) as service:
        for pod in world.pods.values():
            for number, protocol in ((80, "TCP"), (80, "UDP"), (81, "TCP")):
                for _ in range(6):
                    answer = ask(pod.namespace, service.cluster_ip, number, protocol)
                    if answer.server != pod.name:  # for itself: see hairpin
                        assert answer.seen == str(pod.pod_ip), (pod.name, number, protocol, answer)
        for node in world.nodes:
            for number, protocol in ((80, "TCP"), (80, "UDP"), (81, "TCP")):
                for _ in range(6):
                    assert ask(node, service.cluster_ip, number, protocol).server in everyone


def hairpin(world: World) -> None:
    """A pod that is its own Service's only endpoint reaches itself, and sees somebody else's address."""
    for name, pod in world.pods.items():
        with placed(world, f"hairpin-{name}", ready(name)) as service:
            for protocol in ("TCP", "UDP"):
                answer = ask(pod.namespace, service.cluster_ip, 80, protocol)
                assert answer.server == name
                assert answer.seen != str(pod.pod_ip), answer


def even_spread(world: World) -> None:
    """New connections are given to the endpoints evenly."""
    three = list(world.pods)[:3]
    client = list(world.pods.values())[-1]
    with placed(world, "spread", ready(*three)) as service:
        assert_spread(spread(client.namespace, service.cluster_ip, 80, 300), three)
        assert_spread(spread(client.namespace, service.cluster_ip, 80, 150, "UDP"), three)


def refused_without_endpoints(world: World) -> None:
    """Without usable endpoint each of a Service's addresses refuses at once; so does a port that it has not."""
    first = next(iter(world.pods))
    client, node = world.pods[first].namespace, world.nodes[world.pods[first].node_name]
    with (
        placed(world, "nobody", {}, type="LoadBalancer") as nobody,
        placed(world, "not-ready", {first: NOT_READY}) as not_ready,
        placed(world, "somebody", ready(first)) as somebody,
    ):
        for protocol, port_name in (("TCP", "web"), ("UDP", "web-udp")):
            for namespace in (client, node.name):
                assert_refused(namespace, nobody.cluster_ip, 80, protocol)
                assert_refused(namespace, not_ready.cluster_ip, 80, protocol)
                assert_refused(namespace, nobody.load_balancer_ip, 80, protocol)
                assert_refused(namespace, somebody.cluster_ip, 4321, protocol)
            for namespace in (client, node.name, world.outside):
                assert_refused(namespace, str(node.node_ip), nobody.node_port(port_name), protocol)
            assert_refused(world.outside, nobody.load_balancer_ip, 80, protocol)
            assert ask(client, somebody.cluster_ip, 80, protocol).server == first
        not_ready.endpoints(ready(first))
        assert ask(client, not_ready.cluster_ip, 80).server == first
        not_ready.endpoints({})
        assert_refused(client, not_ready.cluster_ip, 80, "TCP")


def cluster_policy(world: World) -> None:
    """NodePort and LoadBalancer with the Cluster policy: any endpoint, on any node's address, for anybody."""
    everyone = list(world.pods)
    with placed(world, "open", ready(*everyone), type="LoadBalancer") as service:
        clients = [world.outside, *world.nodes, *(pod.namespace for pod in world.pods.values())]
        for protocol, port_name in (("TCP", "web"), ("UDP", "web-udp")):
            number = service.node_port(port_name)
            for node in world.nodes.values():
                for client in clients:
                    assert ask(client, str(node.node_ip), number, protocol).server in everyone, (client, node.name)
                found = Counter[str]()
                for _ in range(60):
                    answer = ask(world.outside, str(node.node_ip), number, protocol)
                    found[answer.server] += 1
                    assert answer.seen != world.outside_ip, "the answer must come back through the node"
                assert set(found) == set(everyone), (node.name, protocol, found)
            for client in clients:
                assert ask(client, service.load_balancer_ip, 80, protocol).server in everyone, client


def local_policy(world: World) -> None:
    """NodePort and LoadBalancer with the Local policy: own endpoints, the client's address; other nodes are silent."""
    here, elsewhere, *_ = world.nodes.values()
    on_node = world.pods_on(here.name)
    policy = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    with placed(world, "local", ready(*on_node), **policy) as service:
        for protocol, port_name in (("TCP", "web"), ("UDP", "web-udp")):
            number = service.node_port(port_name)
            for _ in range(20):
                answer = ask(world.outside, str(here.node_ip), number, protocol)
                assert answer.server in on_node and answer.seen == world.outside_ip, answer
            answer = ask(world.outside, service.load_balancer_ip, 80, protocol)
            assert answer.server in on_node and answer.seen == world.outside_ip, answer
            assert_silent(world.outside, str(elsewhere.node_ip), number, protocol)
            # Pods and the nodes themselves use every endpoint, wherever they are.
            for pod in world.pods.values():
                assert ask(pod.namespace, str(elsewhere.node_ip), number, protocol).server in on_node, pod
                assert ask(pod.namespace, str(here.node_ip), number, protocol).server in on_node, pod
                assert ask(pod.namespace, service.load_balancer_ip, 80, protocol).server in on_node, pod
            assert ask(elsewhere.name, str(elsewhere.node_ip), number, protocol).server in on_node
            assert ask(here.name, str(here.node_ip), number, protocol).server in on_node
        assert_spread(spread(world.outside, str(here.node_ip), service.node_port(), 100), on_node)
    if world.proxy != "ipvs":  # IPVS cannot tell clients apart
        both = [on_node[0], world.pods_on(elsewhere.name)[0]]
        client = world.pods[on_node[-1]].namespace
        with placed(world, "local-both", ready(*both), **policy) as service:
            assert_spread(spread(client, str(here.node_ip), service.node_port(), 60), both)
            assert set(spread(world.outside, str(here.node_ip), service.node_port(), 30)) == {both[0]}


def internal_local_policy(world: World) -> None:
    """``internalTrafficPolicy: Local``: only the client's own node's endpoints; where there are none, silence."""
    here, elsewhere, *_ = world.nodes
    mine, other = world.pods_on(here), world.pods_on(elsewhere)
    with placed(world, "internal", ready(mine[0], other[0]), internalTrafficPolicy="Local") as service:
        for protocol in ("TCP", "UDP"):
            for client, node, expected in ((mine[-1], here, mine[0]), (other[-1], elsewhere, other[0])):
                assert set(spread(world.pods[client].namespace, service.cluster_ip, 80, 20, protocol)) == {expected}
                assert ask(node, service.cluster_ip, 80, protocol).server == expected
        service.endpoints(ready(mine[0]))
        assert_silent(world.pods[other[-1]].namespace, service.cluster_ip, 80)
        assert ask(world.pods[mine[-1]].namespace, service.cluster_ip, 80).server == mine[0]
        service.endpoints({})
        assert_refused(world.pods[other[-1]].namespace, service.cluster_ip, 80, "TCP")


_AFFINITY_S = 1
# Open vSwitch learns up to 0.5 s late that a flow was used, and looks for idle ones once a second.
_EXPIRY_S = 1.5
_AFFINITY_SERVICES = 8  # that all of them choose as before by chance: 1 in 4^8 with 4 pods


def affinity(world: World) -> None:
    """``sessionAffinity: ClientIP``: the same endpoint until the client was away for the timeout."""
    client, other = (world.pods[name].namespace for name in world.pods_on(next(iter(world.nodes)))[:2])
    spec = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": _AFFINITY_S}},
    }
    store = world.store
    wires = [store.create(service_wire(f"sticky-{number}", **spec)) for number in range(_AFFINITY_SERVICES)]
    slices = [store.create(slice_wire(world, wire, ready(*world.pods))) for wire in wires]
    world.confirm([*wires, *slices])

    def choices(namespace: str) -> list[str]:
        return [ask(namespace, wire["spec"]["clusterIP"], 80).server for wire in wires]

    try:
        # A machine that stalls for longer than the timeout between two rounds proves nothing, so that is tried again.
        while True:
            begun = time.monotonic()
            rounds = []
            late = False
            for number in range(3):
                time.sleep(max(0.0, begun + 0.6 * number - time.monotonic()))
                started = time.monotonic()
                rounds.append(choices(client))
                late = late or time.monotonic() - begun - 0.6 * number > 0.3
                assert time.monotonic() - started < 5
            if not late:
                break
        assert rounds[0] == rounds[1] == rounds[2], rounds  # also 1.2 s after the first: each connection counts
        assert choices(client) != choices(other), "another client is another choice"
        time.sleep(_AFFINITY_S + _EXPIRY_S)
        # IPVS remembers a client for as long as one of its connections is in any state, a closed one for two minutes.
        if world.proxy != "ipvs":
            assert choices(client) != rounds[0], "remembered for longer than the timeout"
        # A remembered endpoint that is not usable any more is forgotten.
        before = choices(client)
        gone = before[0]
        left = {name: READY for name in world.pods if name != gone}
        world.confirm([store.replace(slice_wire(world, wires[0], left))])
        world.forget()
        assert choices(client)[0] in left
    finally:
        gone_objects = [store.delete(ENDPOINT_SLICE, wire["metadata"]["name"], "default") for wire in slices]
        gone_objects += [store.delete(SERVICE, wire["metadata"]["name"], "default") for wire in wires]
        world.confirm(gone_objects)


def change(world: World) -> None:
    """An endpoint that goes gets no new connection, and no datagram of a client that keeps its port; others stay."""
    client = world.pods[next(iter(world.pods))].namespace
    stays, goes, *_ = list(world.pods)[1:]
    node_ip = str(next(iter(world.nodes.values())).node_ip)
    with (
        placed(world, "change", ready(stays), type="NodePort") as service,
        Client(client, service.cluster_ip, 80) as established,
    ):
        assert established.ask().server == stays
        service.endpoints(ready(stays, goes))
        with (
            _client_of(goes, client, service.cluster_ip, 80) as datagrams,
            _client_of(stays, client, service.cluster_ip, 80) as others,
            _client_of(goes, world.outside, node_ip, service.node_port("web-udp")) as from_outside,
        ):
            assert established.ask().server == stays
            service.endpoints(ready(stays))
            assert datagrams.ask().server == stays
            assert from_outside.ask().server == stays
            assert others.ask().server == stays
            assert established.ask().server == stays
        assert set(spread(client, service.cluster_ip, 80, 40)) == {stays}
        assert set(spread(client, service.cluster_ip, 80, 20, "UDP")) == {stays}


def _client_of(server: str, namespace: str, address: str, number: int) -> Client:
    """A client that sends datagrams and has been given to this server; every other port is another choice."""
    for _ in range(64):
        client = Client(namespace, address, number, "UDP")
        if client.ask().server == server:
            return client
        client.close()
    raise AssertionError(f"{namespace} -> {address}:{number}: never given to {server}")


def terminating(world: World) -> None:
    """Endpoints that end serve only while there is no other (KEP-1669)."""
    first, second, third, *_ = world.pods
    client = world.pods[first].namespace
    with placed(world, "terminating", {second: TERMINATING, third: READY}) as service:
        assert set(spread(client, service.cluster_ip, 80, 30)) == {third}
        service.endpoints({second: TERMINATING, third: TERMINATED})
        assert set(spread(client, service.cluster_ip, 80, 30)) == {second}
        service.endpoints({second: TERMINATED, third: TERMINATED})
        assert_refused(client, service.cluster_ip, 80, "TCP")


def gone(world: World) -> None:
    """An open connection stays with an endpoint that ends; with its pod it goes, and the client hears so at once."""
    first, second, third, *_ = world.pods
    client = world.pods[first].namespace
    with placed(world, "gone", ready(second)) as service, Client(client, service.cluster_ip, 80) as connection:
        assert connection.ask().server == second
        if world.proxy != "ipvs":  # which gives up a connection with its endpoint
            service.endpoints({second: TERMINATED, third: READY})
            assert connection.ask().server == second
        service.endpoints(ready(third))
        with suppress(ConnectionResetError):
            raise AssertionError(f"{connection.ask().server} still answers")


def new_service_for_old_clients(world: World) -> None:
    """A client that has been sending datagrams before the Service was there is served from then on."""
    pod = next(iter(world.pods))
    with (
        placed(world, "late", {}) as service,
        Client(world.pods[pod].namespace, service.cluster_ip, 80, "UDP") as client,
    ):
        with suppress(ConnectionRefusedError):
            client.ask()
        service.endpoints(ready(pod))
        assert client.ask().server == pod


CASES: tuple[Callable[[World], None], ...] = (
    cluster_ip,
    hairpin,
    even_spread,
    refused_without_endpoints,
    cluster_policy,
    local_policy,
    internal_local_policy,
    change,
    terminating,
    gone,
    new_service_for_old_clients,
)


def run_cases(world: World) -> None:
    """Every case; all that fail are told at the end. Affinity, which mostly waits, runs beside the others.

    Once a change is not confirmed none will be: then the rest is left out.
    """
    failures = []
    is_stuck = threading.Event()

    def run(case: Callable[[World], None]) -> None:
        begun = time.monotonic()
        try:
            case(world)
        except NotConfirmed as error:
            is_stuck.set()
            failures.append(f"{case.__name__}: {error}")
        except Exception as error:
            failures.append(f"{case.__name__}: {type(error).__name__}: {error} at {_where(error)}")
        print(f"  {case.__name__}: {time.monotonic() - begun:.2f} s", flush=True)

    beside = threading.Thread(target=run, args=(affinity,))
    beside.start()
    for case in CASES:
        if not is_stuck.is_set():
            run(case)
    beside.join()
    assert not failures, "\n".join(failures)


def _where(error: Exception) -> str:
    """The lines of this file that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"line {frame.lineno}" for frame in reversed(frames) if frame.filename == __file__)
