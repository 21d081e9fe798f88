"""Services on real bridges, programmed by the real controller with Ryu and with os-ken: exact whatever changes, and
without harm to the connections that there are."""

from __future__ import annotations

import random
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from controllers.pipeline.tables import AFFINITY_LEARN, DNAT_ZONE, SERVICE_LB
from controllers.ryu_app.library import PACKAGES
from testbed.cluster.assign import assign_pod
from testbed.cluster.identity import BRIDGE, CONFIG_NAME, CONFIG_NAMESPACE, pod_namespace
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, POD, SERVICE
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import NotFound
from testbed.cluster.values import MODES, PodNetwork
from testbed.network import netns
from tests.box.ovs_harness import (
    Cluster,
    cluster_objects,
    dump_groups,
    dump_learned,
    pod_manifest,
    running_cluster,
    sealed,
    start_controller,
    wait_until,
)
from tests.unit.service_objects import Endpoint, cluster_ip, endpoint_slice, service

pytestmark = [pytest.mark.box, pytest.mark.parametrize("library", PACKAGES)]

TARGET_PORT = 8080
TIMEOUT_S = 5.0
SEED = 20261120


def put(cluster: Cluster, *wires: JsonObject) -> None:
    """Create or replace objects, and wait until the bridges have confirmed them and every packet meets the change."""
    stored = []
    for wire in wires:
        try:
            stored.append(cluster.store.replace(wire))
        except NotFound:
            stored.append(cluster.store.create(wire))
    cluster.confirm(*stored)
    cluster.revise_cached()


def over(number: int, pods: Iterable[PodNetwork], protocol: str = "TCP") -> JsonObject:
    """The slice of a Service over these pods."""
    return endpoint_slice(number, [Endpoint(str(pod.pod_ip), pod.node_name) for pod in pods], protocol, TARGET_PORT)


@contextmanager
def answering(pods: Iterable[PodNetwork]) -> Iterator[None]:
    """Every pod answers, over TCP and UDP, whatever it is sent with its own name."""
    with selectors.DefaultSelector() as selector:
        sockets = []
        for pod in pods:
            with netns.entered(pod_namespace(pod.namespace, pod.name)):
                tcp = socket.create_server(("", TARGET_PORT))
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                udp.bind(("", TARGET_PORT))
            for made in (tcp, udp):
                made.setblocking(False)
                selector.register(made, selectors.EVENT_READ, pod.name.encode())
                sockets.append(made)
        done, wake = socket.socketpair()
        selector.register(done, selectors.EVENT_READ, b"")
        thread = threading.Thread(target=_answer, args=(selector, done))
        thread.start()
        try:
            yield
        finally:
            wake.close()
            thread.join()
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]


def _answer(selector: selectors.BaseSelector, done: socket.socket) -> None:
    while True:
        for key, _ in selector.select():
            sock: Any = key.fileobj
            if sock is done:
                return
            if sock.type == socket.SOCK_DGRAM:
                _, client = sock.recvfrom(64)
                sock.sendto(key.data, client)
            elif sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection, _ = sock.accept()
                selector.register(connection, selectors.EVENT_READ, key.data)
            elif not _answer_once(sock, key.data):
                selector.unregister(sock)
                sock.close()


def _answer_once(connection: socket.socket, name: bytes) -> bool:
    """False when the connection has ended."""
    try:
        asked = bool(connection.recv(64))
        if asked:
            connection.sendall(name)
        return asked
    except ConnectionResetError:
        return False


class Client:
    """A TCP connection, or a UDP socket, from a pod to a Service."""

    def __init__(self, pod: PodNetwork, number: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        with netns.entered(pod_namespace(pod.namespace, pod.name)):
            self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect((str(cluster_ip(number)), 80))

    def ask(self) -> str:
        """Which pod answers."""
        self._socket.send(b"?")
        return self._socket.recv(64).decode()

    def tell(self) -> None:
        """Send something, whoever gets it."""
        with suppress(ConnectionRefusedError):  # nobody listens there
            self._socket.send(b"!")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def new_connections(pod: PodNetwork, number: int, count: int) -> Counter[str]:
    """By whom new connections are answered."""
    found: Counter[str] = Counter()
    for _ in range(count):
        with Client(pod, number) as client:
            found[client.ask()] += 1
    return found


@contextmanager
def asking(*clients: Client) -> Iterator[None]:
    """Asks over the connections all the while; fails if one breaks, falls silent or is answered by another pod."""
    answers = [client.ask() for client in clients]
    stop = threading.Event()
    failures: list[BaseException] = []
    rounds = 0

    def run() -> None:
        nonlocal rounds
        try:
            while not stop.is_set():
                assert [client.ask() for client in clients] == answers
                rounds += 1
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures
    assert rounds > 10


class RandomChanges:
    """Services, pods and settings changed at random, but each time the same for a seed."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster, self._random = cluster, random.Random(seed)
        self._store = cluster.store

    def step(self) -> None:
        """Some changes at once."""
        changes = [self._put_service] * 6 + [self._put_endpoints] * 8 + [self._delete_service] * 3
        changes += [self._set_config, self._change_pod]
        for change in self._random.choices(changes, k=self._random.randint(1, 6)):
            change()

    def _number(self) -> int:
        return self._random.randint(1, 12)

    def _put(self, wire: JsonObject) -> None:
        try:
            self._store.replace(wire)
        except NotFound:
            self._store.create(wire)

    def _put_service(self) -> None:
        number, choose = self._number(), self._random.choice
        spec: dict[str, Any] = {"sessionAffinity": choose(["None", "None", "ClientIP"])}
        spec["internalTrafficPolicy"] = choose(["Cluster", "Cluster", "Local"])
        spec["type"] = choose(["ClusterIP", "NodePort", "LoadBalancer"])
        if spec["type"] != "ClusterIP":
            spec |= {"nodePort": 30000 + number, "externalTrafficPolicy": choose(["Cluster", "Local"])}
        wire = service(number, choose(["TCP", "UDP", "SCTP"]), choose([80, 443]), **spec)
        if spec["type"] == "LoadBalancer":
            wire["status"] = {"loadBalancer": {"ingress": [{"ip": f"198.18.0.{number}"}]}}
        self._put(wire)

    def _put_endpoints(self) -> None:
        pods = self._cluster.state.pods
        chosen = self._random.sample(pods, self._random.randint(0, len(pods)))
        endpoints = [Endpoint(str(pod.pod_ip), pod.node_name, ready=self._random.random() < 0.8) for pod in chosen]
        protocol = self._random.choice(["TCP", "UDP", "SCTP"])
        self._put(endpoint_slice(self._number(), endpoints, protocol, self._random.choice([8080, 9090])))

    def _delete_service(self) -> None:
        name = f"service-{self._number()}"
        for kind, full_name in ((SERVICE, name), (ENDPOINT_SLICE, f"{name}-x")):
            if self._random.random() < 0.8:
                with suppress(NotFound):
                    self._store.delete(kind, full_name)

    def _set_config(self) -> None:
        proxy = self._random.choice(["openflow", "openflow", "openflow", "iptables"])
        settings = {"mode": self._random.choice(MODES), "proxy": proxy}
        self._store.patch(CONFIG_MAP, CONFIG_NAME, {"data": settings}, CONFIG_NAMESPACE)

    def _change_pod(self) -> None:
        name = f"extra-{self._random.randint(1, 3)}"
        try:
            self._store.delete(POD, name, grace_period_s=0)
        except NotFound:
            node_name = self._random.choice(["n1", "n2"])
            self._store.create(assign_pod(self._cluster.objects, pod_manifest(name, node_name)))


@sealed
def test_after_any_changes_flows_and_groups_are_the_plan(library: str) -> None:
    with running_cluster(cluster_objects(2, 6), library) as cluster:
        changes = RandomChanges(cluster, SEED)
        for _ in range(60):
            changes.step()
            cluster.confirm()
            cluster.assert_exact()
            assert not [text for name, text in cluster.status.items() if name.endswith(".error")]


@sealed
def test_changes_while_the_controller_is_away_are_made_up_for(library: str) -> None:
    with running_cluster(cluster_objects(2, 6), library) as cluster:
        changes = RandomChanges(cluster, SEED + 1)
        for _ in range(4):
            for _ in range(5):
                changes.step()
            cluster.confirm()
            cluster.controller.kill()
            for _ in range(5):
                changes.step()
            cluster.controller = start_controller(cluster.api_url, library)
            cluster.confirm()
            cluster.assert_exact()


@sealed
def test_tampered_groups_are_brought_back(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        pods = cluster.state.pods
        for number in (1, 2, 3):
            put(cluster, service(number), over(number, pods))
        cluster.controller.kill()
        switch = cluster.switches["n1"]
        before = dump_groups(switch)
        switch.ofctl("del-groups", BRIDGE, "group_id=4")  # takes its flow with it
        switch.ofctl("mod-group", BRIDGE, "group_id=6,type=select,bucket=weight:1,actions=drop")
        switch.ofctl("add-group", BRIDGE, "group_id=4000,type=all,bucket=actions=drop")
        switch.ofctl("add-flow", BRIDGE, "table=100,priority=7,ip actions=group:4000")
        assert dump_groups(switch) != before
        cluster.controller = start_controller(cluster.api_url, library)
        wait_until(lambda: cluster.status == {}, "the new controller begins its own report")
        cluster.confirm()
        cluster.assert_exact()
        assert sorted(dump_groups(switch).splitlines()[1:]) == sorted(before.splitlines()[1:])


@sealed
def test_a_restart_of_the_controller_interrupts_no_connection_and_forgets_no_client(library: str) -> None:
    with running_cluster(cluster_objects(2, 6), library) as cluster:
        client, *others = cluster.state.pods
        affine = service(3, sessionAffinity="ClientIP")
        put(cluster, service(1), over(1, others), service(2, "UDP"), over(2, others, "UDP"), affine, over(3, others))
        with (
            answering(others),
            Client(client, 1) as tcp,
            Client(client, 2, socket.SOCK_DGRAM) as udp,
            Client(client, 3) as sticky,
        ):
            remembered = sticky.ask()
            learned = dump_learned(cluster.switches["n1"])
            assert len(learned) == 1
            for _ in range(3):
                with asking(tcp, udp, sticky):
                    cluster.controller.kill()
                    cluster.controller = start_controller(cluster.api_url, library)
                    wait_until(lambda: cluster.status == {}, "the new controller begins its own report")
                    cluster.confirm()
                cluster.assert_exact()
                assert dump_learned(cluster.switches["n1"]) == learned
                assert new_connections(client, 3, 10) == {remembered: 10}


@sealed
def test_what_a_service_had_learned_goes_with_it_even_while_the_controller_is_away(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        client, *others = cluster.state.pods
        switch = cluster.switches["n1"]
        for number in (1, 2, 3):
            put(cluster, service(number, sessionAffinity="ClientIP"), over(number, others))
        with answering(others):
            remembered = {number: new_connections(client, number, 1).popitem()[0] for number in (1, 2, 3)}
            # Until cached decisions are revised, a connection that follows at once may be chosen for anew.
            cluster.revise_cached()
            assert len(dump_learned(switch)) == 3
            cluster.confirm(cluster.store.delete(SERVICE, "service-1"))
            assert len(dump_learned(switch)) == 2
            cluster.controller.kill()
            cluster.store.delete(SERVICE, "service-2")
            cluster.controller = start_controller(cluster.api_url, library)
            wait_until(lambda: cluster.status == {}, "the new controller begins its own report")
            cluster.confirm()
            assert len(dump_learned(switch)) == 1
            assert new_connections(client, 3, 5) == {remembered[3]: 5}
        assert switch.ofctl("dump-flows", BRIDGE, f"table={AFFINITY_LEARN.number}").count("learn(") == len(others)


@sealed
def test_changing_a_whole_group_disturbs_no_connection_and_new_ones_follow_at_once(library: str) -> None:
    """Not even the connections to an endpoint that takes no new ones."""
    with running_cluster(cluster_objects(2, 8), library) as cluster:
        client, kept, leaving, *others = cluster.state.pods
        put(cluster, service(1), service(2), over(1, [kept]), over(2, [leaving]))
        with answering(cluster.state.pods[1:]), Client(client, 1) as to_kept, Client(client, 2) as to_leaving:
            with asking(to_kept, to_leaving):
                for number in range(8):
                    chosen = others[number % len(others) :][:3]
                    put(cluster, over(1, [kept, *chosen]), not_ready(over(2, [*chosen, leaving]), leaving))
                    assert set(new_connections(client, 1, 12)) <= {pod.name for pod in (kept, *chosen)}
                    assert set(new_connections(client, 2, 12)) <= {pod.name for pod in chosen}
            assert (to_kept.ask(), to_leaving.ask()) == (kept.name, leaving.name)
            cluster.assert_exact()


def not_ready(wire: JsonObject, pod: PodNetwork) -> JsonObject:
    """The slice with this pod not ready."""
    for endpoint in wire["endpoints"]:
        if endpoint["addresses"] == [str(pod.pod_ip)]:
            endpoint["conditions"]["ready"] = False
    return wire


def udp_entries(cluster: Cluster, node_name: str, number: int) -> Counter[str]:
    """Tracked UDP connections to a Service by the endpoint they were given to."""
    dump = cluster.switches[node_name].appctl("dpctl/dump-conntrack")
    found: Counter[str] = Counter()
    for line in dump.splitlines():
        if line.startswith("udp,") and f"zone={DNAT_ZONE}" in line and f"dst={cluster_ip(number)}," in line:
            found[line.partition("reply=(src=")[2].partition(",")[0]] += 1
    return found


@sealed
def test_udp_clients_of_an_endpoint_that_goes_move_on(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        client, gone, *others = cluster.state.pods
        for number in (1, 2):
            put(cluster, service(number, "UDP"), over(number, [gone], "UDP"))
        with answering([gone, *others]), ExitStack() as closing:

            def clients(number: int, count: int) -> list[Client]:
                made = [Client(client, number, socket.SOCK_DGRAM) for _ in range(count)]
                return [closing.enter_context(one) for one in made]

            # As many as would not all be found in one pass.
            moving, at_other_service = clients(1, 500), clients(2, 30)
            assert {one.ask() for one in (*moving, *at_other_service)} == {gone.name}
            put(cluster, over(1, [gone, *others], "UDP"))
            staying = [one for one in clients(1, 200) if one.ask() != gone.name]
            assert {one.ask() for one in moving} == {gone.name}, "they keep their endpoint while they can"
            before = udp_entries(cluster, "n1", 1)

            put(cluster, over(1, others, "UDP"))
            after = udp_entries(cluster, "n1", 1)
            assert str(gone.pod_ip) not in after, "confirmed means flushed"
            assert before.pop(str(gone.pod_ip)) >= len(moving)
            assert after == before, "nobody else's is touched"
            assert udp_entries(cluster, "n1", 2) == {str(gone.pod_ip): len(at_other_service)}

            names = {pod.name for pod in others}
            assert {one.ask() for one in (*moving, *staying)} <= names
            assert {one.ask() for one in at_other_service} == {gone.name}


@sealed
def test_udp_clients_move_on_when_their_endpoint_went_while_the_controller_was_away(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        client, gone, *others = cluster.state.pods
        put(cluster, service(1, "UDP"), over(1, [gone], "UDP"))
        with answering([gone, *others]), ExitStack() as closing:
            clients = [closing.enter_context(Client(client, 1, socket.SOCK_DGRAM)) for _ in range(50)]
            assert {one.ask() for one in clients} == {gone.name}
            cluster.controller.kill()
            cluster.store.replace(over(1, others, "UDP"))
            cluster.controller = start_controller(cluster.api_url, library)
            wait_until(lambda: cluster.status == {}, "the new controller begins its own report")
            cluster.confirm()
            assert not udp_entries(cluster, "n1", 1)
            cluster.revise_cached()
            assert {one.ask() for one in clients} <= {pod.name for pod in others}


@sealed
def test_udp_clients_that_come_during_the_change_move_on_too(library: str) -> None:
    """A bridge's cached decisions may give a client to the endpoint that goes, even after the barrier."""
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        client, first, second, _ = cluster.state.pods
        put(cluster, service(1, "UDP"), over(1, [first], "UDP"))
        with sending(client, 1):
            for gone, stays in [(first, second), (second, first)] * 2:
                put(cluster, over(1, [gone, stays], "UDP"))
                wait_until(lambda gone=gone: udp_entries(cluster, "n1", 1)[str(gone.pod_ip)] > 500, "clients have come")
                put(cluster, over(1, [stays], "UDP"))
                wait_until(lambda gone=gone: not udp_entries(cluster, "n1", 1)[str(gone.pod_ip)], "all are gone", 5)


@contextmanager
def sending(pod: PodNetwork, number: int) -> Iterator[None]:
    """All the while new clients come to a UDP Service, each with a port of its own."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with Client(pod, number, socket.SOCK_DGRAM) as client:
                client.tell()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@sealed
def test_a_service_that_does_not_fit_stops_nothing_else(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        client, *others = cluster.state.pods
        many = [Endpoint(f"10.245.{number >> 8}.{number & 255}") for number in range(1200)]
        put(cluster, service(1), endpoint_slice(1, many), service(2), over(2, others))
        cluster.assert_exact()
        for name in cluster.switches:
            assert "Service default/service-1" in cluster.status[f"{name}.error"]
        with answering(others):
            assert new_connections(client, 2, 5).total() == 5
            put(cluster, over(1, others))
            wait_until(lambda: not any("error" in name for name in cluster.status), "the error is taken back")
            assert new_connections(client, 1, 5).total() == 5
        cluster.assert_exact()


@sealed
def test_a_service_that_a_bridge_refuses_stops_nothing_else(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        client, *others = cluster.state.pods
        put(cluster, service(1), over(1, others))
        cluster.assert_exact()
        switch = cluster.switches["n1"]
        flows = switch.ofctl("dump-flows", BRIDGE, f"table={SERVICE_LB.number}").count("actions=")
        # Room for one Service more: a flow for its port and one for its other ports.
        limit = ["--id=@full", "create", "Flow_Table", f"flow_limit={flows + 2}", "overflow_policy=refuse"]
        switch.vsctl(*limit, "--", "set", "Bridge", BRIDGE, f"flow_tables:{SERVICE_LB.number}=@full")
        wide = service(2)
        wide["spec"] |= {"type": "LoadBalancer"}
        wide["status"] = {"loadBalancer": {"ingress": [{"ip": "198.18.0.2"}]}}
        wide["spec"]["ports"][0]["nodePort"] = 30002
        put(cluster, wide, over(2, others), pod_of(cluster, "late"))
        error = cluster.status["n1.error"]
        assert "Service default/service-2, port 80: " in error and "TABLE_FULL" in error
        assert "n2.error" not in cluster.status
        assert "group_id=6," not in dump_groups(switch)
        assert str(cluster.state.pod_by_key["default/late"].pod_ip) in switch.ofctl("dump-flows", BRIDGE)
        with answering(others):
            assert new_connections(client, 1, 5).total() == 5


def pod_of(cluster: Cluster, name: str) -> JsonObject:
    return assign_pod(cluster.objects, pod_manifest(name, "n1"))
