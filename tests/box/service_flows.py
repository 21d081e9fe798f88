"""A cluster of bridges with compiled Services and no controller: tests of the flows themselves with real packets."""

from __future__ import annotations

import selectors
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from controllers.pipeline import (
    NOTHING,
    Compiler,
    Group,
    Program,
    compile_program,
    diff_programs,
    flow_text,
    group_text,
    parse_dump,
    parse_group_dump,
)
from controllers.pipeline.text import match_words
from testbed.cluster.identity import BRIDGE, GATEWAY_INTERFACE, VIRTUAL_NEXT_HOP, pod_namespace
from testbed.cluster.values import ClusterState, Mode, NodeNetwork, PodNetwork, ProxyName, ServiceEndpoint, ServicePort
from testbed.cluster.view import cluster_state
from testbed.network import netns
from testbed.network.node_services import install_refusals, prepare_node, steer_node_ports
from testbed.network.openvswitch import VSwitch, revise_cached_decisions
from tests.box.ovs_harness import _ip, _no_offload, cluster_objects, dump_flows, start_bridges, start_networks

OUTSIDE_NAMESPACE = "outside"
OUTSIDE_IP = IPv4Address("192.168.1.200")
ANSWER_S = 3.0
SILENCE_S = 1.0  # what is not refused within this is not refused at once


@dataclass
class FlowCluster:
    """Nodes, their pods, an outside host on the nodes' network, and bridges that hold ``state``'s programs."""

    state: ClusterState
    switches: dict[str, VSwitch]
    _compiler: Compiler = field(default_factory=Compiler)
    _programs: Mapping[str, Program] = field(default_factory=dict)

    def program(self, ports: Iterable[ServicePort]) -> None:
        """Put the flows and groups of these Services, and no other, on all bridges."""
        self.state = replace(self.state, service_ports=tuple(ports))
        programs = self._compiler.compile(self.state)
        for name, switch in self.switches.items():
            update(switch, self._programs.get(name, NOTHING), programs[name])
        self._programs = programs

    def assert_exact(self) -> None:
        """Every bridge holds exactly what was compiled."""
        for name, switch in self.switches.items():
            program = compile_program(self.state, name)
            assert parse_dump(dump_flows(switch, "--no-names")) == program.flows()
            assert parse_group_dump(switch.ofctl("dump-groups", BRIDGE)) == program.groups()

    def pod(self, number: int) -> PodNetwork:
        return self.state.pod_by_key[f"default/pod-{number}"]

    def node(self, name: str) -> NodeNetwork:
        return self.state.node_by_name[name]

    def endpoint(self, number: int, target_port: int) -> ServiceEndpoint:
        """The pod as an endpoint."""
        pod = self.pod(number)
        return ServiceEndpoint(pod.pod_ip, target_port, pod.node_name)


def update(switch: VSwitch, old: Program, new: Program) -> None:
    """Bring a bridge from one program to another, in one atomic bundle in the order that ProgramDiff tells."""
    diff = diff_programs(old, new)
    parts = (diff.common, diff.own)
    lines = [f"group add {_group(group)}" for part in parts for group in part.added_groups]
    lines += [f"group mod {_group(group)}" for part in parts for group in part.modified_groups]
    for flow in (flow for part in parts for flow in part.removed_flows):
        words = [f"table={flow.table.number}", f"priority={flow.priority}", *match_words(flow.match)]
        lines.append(f"flow delete_strict {','.join(words)}")
    lines += [f"flow add {flow_text(flow)}" for part in parts for flow in part.added_flows]
    lines += [f"group delete group_id={group.group_id}" for part in parts for group in part.removed_groups]
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        switch.ofctl("bundle", BRIDGE, file.name)
    revise_cached_decisions([switch])


def _group(group: Group) -> str:
    return group_text(group).replace("weight:", "weight=")


@contextmanager
def flow_cluster(mode: Mode, nodes: int, pods: int, proxy: ProxyName = "openflow") -> Iterator[FlowCluster]:
    """Pods are spread evenly: ``default/pod-0`` on n1, ``pod-1`` on n2, ..."""
    state = cluster_state(cluster_objects(nodes, pods, mode))
    state = replace(state, config=replace(state.config, proxy=proxy))
    start_networks()
    switches = start_bridges(state)
    _ip(
        [
            f"netns add {OUTSIDE_NAMESPACE}",
            f"link add outside type veth peer name eth0 netns {OUTSIDE_NAMESPACE}",
            "link set outside master underlay up",
        ]
    )
    _ip(["link set lo up", f"addr add {OUTSIDE_IP}/24 dev eth0", "link set eth0 up"], OUTSIDE_NAMESPACE)
    _no_offload(OUTSIDE_NAMESPACE, "eth0")
    for node in state.nodes:
        with netns.entered(node.name):
            prepare_node(node)
        ways = [state.config.service_cidr, state.config.load_balancer_cidr]
        _ip(
            [f"route add {cidr} via {VIRTUAL_NEXT_HOP} dev {GATEWAY_INTERFACE} onlink" for cidr in ways],
            node.name,
        )
    if proxy == "openflow":
        steer_node_ports(state.nodes, steered=True)
    install_refusals(state.nodes)
    cluster = FlowCluster(state, switches)
    cluster.program(())
    yield cluster


class Servers:
    """TCP and UDP servers in pods, all in one thread. Each says who it is and whose address it sees."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def add(self, pod: PodNetwork, kind: socket.SocketKind, target_port: int) -> None:
        """Have the pod serve at a port."""
        self.add_in(namespace(pod), pod.name, kind, target_port)

    def add_in(self, place: str, who: str, kind: socket.SocketKind, target_port: int) -> None:
        """Have a network namespace serve at a port, as ``who``."""
        name = f"{who}:{target_port}"
        with netns.entered(place):
            server = socket.socket(socket.AF_INET, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", target_port))
        if kind is socket.SOCK_STREAM:
            server.listen(512)
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ, name)

    def __enter__(self) -> Servers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._wake.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                server = key.fileobj
                if server is self._woken:
                    return
                assert isinstance(server, socket.socket)
                if server.type is socket.SOCK_STREAM:
                    connection, (client_ip, _) = server.accept()
                    connection.sendall(f"{key.data} {client_ip}".encode())
                    connection.close()
                else:
                    request, client = server.recvfrom(65536)
                    # As long as the request, so that a fragmented one has a fragmented answer.
                    server.sendto(f"{key.data} {client[0]}".ljust(len(request)).encode(), client)


def ask(
    namespace: str, kind: socket.SocketKind, address: IPv4Address, number: int, patience_s: float = ANSWER_S
) -> tuple[str, str]:
    """Connect from a namespace: (who answered, whose address it saw). Raises OSError as the socket does."""
    with netns.entered(namespace):
        client = socket.socket(socket.AF_INET, kind)
    with client:
        client.settimeout(patience_s)
        client.connect((str(address), number))
        if kind is socket.SOCK_DGRAM:
            client.send(b"?")
        answer = client.recv(2048).decode()
    who, client_ip = answer.split()
    return who, client_ip


def refused(namespace: str, kind: socket.SocketKind, address: IPv4Address, number: int) -> bool:
    """Whether an attempt is refused at once; False if it is met with silence. Fails if somebody answers."""
    try:
        answer = ask(namespace, kind, address, number, SILENCE_S)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    raise AssertionError(f"{answer} answered")


def namespace(pod: PodNetwork) -> str:
    return pod_namespace(pod.namespace, pod.name)
