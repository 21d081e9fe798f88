"""``testbed trace`` beside real packets: it says what they do, where they end, and it disturbs nothing."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controllers.pipeline import compile_all
from controllers.pipeline.cluster_tracer import ClusterTracer, Ports
from controllers.pipeline.cluster_tracer import Trace as PlannedTrace
from controllers.pipeline.flow import Conntrack, Group
from controllers.pipeline.groups import bucket_shares
from controllers.pipeline.tables import L3_FORWARDING
from controllers.pipeline.tracer import Choice
from controllers.pipeline.tracer import Packet as PlannedPacket
from testbed.cluster.identity import BRIDGE, TUNNEL_INTERFACE, switch_namespace
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import MODES, IPAddress, Mode, ProxyName, ServicePort
from testbed.network import netns
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from testbed.trace import Cluster, Request, Trace, trace
from testbed.trace.conntrack import parse_connections
from testbed.trace.request import ASSUMED_SOURCE_PORT
from testbed.trace.text import trace_as_data, trace_as_text
from testbed.trace.values import Way
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box
from tests.box.test_command_line import command, folder, running, told

pytestmark = pytest.mark.box

__all__ = ["folder"]  # a fixture

_SERVER = {
    "name": "main",
    "image": "whoami",
    "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
}
_ANSWER_S = 5


def server(name: str, node: str, **spec: Any) -> JsonObject:
    """A pod behind the Services; it runs whoami unless ``containers`` says otherwise."""
    wire = pod(name, node, **{"containers": [_SERVER], **spec})
    wire["metadata"]["labels"] = {"app": "web"}
    return wire


def service(name: str, **spec: Any) -> JsonObject:
    body = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": body}


def traced(testbed: Testbed, source: str, target: str, **options: Any) -> Trace:
    """A trace, whose text and data must be printable whatever it shows."""
    found = trace(Cluster.of_store(testbed.store), Request(source, target, **options))
    print(trace_as_text(found))
    json.dumps(trace_as_data(found))
    return found


def pings(testbed: Testbed, source: str, address: str) -> bool:
    process = testbed.popen(parse_endpoint(source), ["ping", "-c", "1", "-W", "1", address], stdout=subprocess.DEVNULL)
    return process.wait(timeout=20) == 0


# -- the same flows ---------------------------------------------------------------------------------------------------

# A flow as a dump names it: table, priority, match, cookie.
_Flow = tuple[str, int, str, str]


def counted_flows(testbed: Testbed) -> dict[tuple[str, _Flow], int]:
    """How many packets each flow of each bridge has taken so far."""
    found = {}
    for name, switch in testbed.switches.items():
        switch.appctl("revalidator/purge")  # what the datapath has counted is added to the flows
        for line in switch.ofctl("--names", "dump-flows", BRIDGE).splitlines():
            read = re.match(
                r" cookie=(?P<cookie>\w+), .* table=(?P<table>\w+), n_packets=(?P<count>\d+), .*?"
                r"priority=(?P<priority>\d+)(?:,(?P<match>\S+))? actions=",
                line,
            )
            if read is not None:
                match = (read["match"] or "any").replace('"', "")
                found[name, (read["table"], int(read["priority"]), match, read["cookie"])] = int(read["count"])
    return found


def traced_flows(way: Way) -> set[tuple[str, _Flow]]:
    return {
        (
            hop.place.partition(",")[0].removeprefix("bridge of "),
            (data["table"], data["priority"], data["match"], data["cookie"]),
        )
        for hop in way.hops
        for step in hop.steps
        if step.kind == "flow" and (data := step.data)
    }


def real_packets_take_the_same_flows() -> None:
    pods = [pod("a", "n1"), pod("b", "n1"), pod("c", "n3"), pod("d", "n4")]
    with cluster(plan_of("leaf_spine", pods, ext=1)) as testbed:
        for mode in MODES:
            testbed.set_mode(mode)
            for source, target in (
                ("a", "b"),
                ("a", "c"),
                ("d", "a"),
                ("a", "node/n1"),
                ("a", "node/n3"),
                ("node/n1", "a"),
                ("node/n1", "d"),
                ("a", "ext/ext1"),
                ("ext/ext1", "node/n3"),
            ):
                address = address_of(testbed, target)
                answered = pings(testbed, source, address)  # from then on nobody has to ask for a MAC any more
                # In overlay mode nobody outside knows the way back to a pod.
                assert answered == (mode == "routed" or (source, target) != ("a", "ext/ext1"))
                before = counted_flows(testbed)
                assert pings(testbed, source, address) == answered
                after = counted_flows(testbed)
                taken = {key for key, count in after.items() if count > before[key] and "arp" not in key[1][2]}
                found = traced(testbed, source, target)
                assert found.succeeded == answered, (source, target)
                assert found.reply is not None
                assert traced_flows(found.request) | traced_flows(found.reply) == taken, (mode, source, target)


def test_real_packets_take_the_flows_that_are_traced() -> None:
    run_in_box(real_packets_take_the_same_flows, USERS[0], timeout_s=300)


# -- agreement with the pipeline's own tracer --------------------------------------------------------------------------

# A flow in both tracers' words: table, and priority and cookie where one matched.
_Matched = tuple[str, int | None, str | None]


def matched_in_open_vswitch(way: Way) -> list[tuple[str, list[_Matched]]]:
    """The bridges that a packet passes, each with the flows that match."""
    found: list[tuple[str, list[_Matched]]] = []
    for hop in way.hops:
        flows: list[_Matched] = [
            (step.data["table"], step.data["priority"], step.data["cookie"])
            for step in hop.steps
            if step.kind == "flow"
        ]
        if flows:
            found.append((hop.place.partition(",")[0].removeprefix("bridge of "), flows))
    return found


def matched_in_the_plan(planned: PlannedTrace) -> list[tuple[str, list[_Matched]]]:
    found: list[tuple[str, list[_Matched]]] = []
    for hop in planned.hops:
        if hop.place.endswith(" bridge"):
            flows: list[_Matched] = [
                (step.table.name, step.flow.priority, f"{step.flow.cookie:#x}")
                if step.flow
                else (step.table.name, None, None)
                for step in hop.steps
            ]
            found.append((hop.place.removesuffix(" bridge"), flows))
    return found


def both_tracers_agree() -> None:
    pods = [pod("a", "n1"), server("w1", "n1"), server("w2", "n3"), server("w3", "n4")]
    with cluster(plan_of("leaf_spine", pods)) as testbed:
        testbed.apply([service("web")])
        testbed.wait_pods_ready()
        testbed.wait_settled()
        for mode in MODES:
            testbed.set_mode(mode)
            state = testbed.state
            programs = compile_all(state)
            (entry,) = (one for one in state.service_ports if one.name == "web")
            for source in ("a", "w1", "node/n2"):
                for target in state.pods:
                    if target.name != source:
                        agree(testbed, ClusterTracer(state, programs), source, target.pod_ip, 8000)
                for endpoint in entry.cluster_endpoints:
                    ours = ClusterTracer(state, programs, choose=bucket_of(endpoint.endpoint_ip))
                    agree(testbed, ours, source, entry.cluster_ip, 80, endpoint=str(endpoint.endpoint_ip))


def bucket_of(endpoint_ip: IPAddress) -> Choice:
    """Chooses the bucket that leads to an endpoint."""

    def choose(group: Group, _: PlannedPacket) -> int:
        for number, bucket in enumerate(group.buckets):
            for action in bucket.actions:
                if isinstance(action, Conntrack) and action.nat is not None and action.nat.address == endpoint_ip:
                    return number
        raise AssertionError(f"{group} has no bucket for {endpoint_ip}")

    return choose


def agree(
    testbed: Testbed, ours: ClusterTracer, source: str, address: IPAddress, number: int, endpoint: str | None = None
) -> None:
    found = traced(testbed, source, f"{address}:{number}", endpoint=endpoint)
    assert found.succeeded
    ports = Ports("TCP", ASSUMED_SOURCE_PORT, number)
    if source.startswith("node/"):
        planned = ours.from_node(source.removeprefix("node/"), address, ports)
    else:
        planned = ours.from_pod(f"default/{source}", address, ports)
    assert matched_in_open_vswitch(found.request) == matched_in_the_plan(planned)
    (delivery,) = planned.deliveries
    assert found.request.delivered is not None
    assert f"pod/default/{found.request.delivered.place.removeprefix('pod ')}" == delivery.receiver
    assert int(found.request.delivered.packet.tuple.source) == delivery.packet["ipv4_src"]
    assert found.reply is not None
    assert matched_in_open_vswitch(found.reply) == matched_in_the_plan(ours.answer(delivery))


def test_it_agrees_with_the_pipelines_own_tracer() -> None:
    run_in_box(both_tracers_agree, USERS[0], timeout_s=300)


# -- what stops a packet ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """Something that keeps pings from ``a`` (on n1) to ``b`` (on n3) from arriving, and how the trace must name it."""

    name: str
    place: str
    reason: str
    mode: Mode
    do: Callable[[Testbed], list[str]]
    undo: Callable[[Testbed], list[str]]
    namespace: str = ""  # of a command; "": the commands are ovs-ofctl's on the bridge of n3

    def apply(self, testbed: Testbed, work: Callable[[Testbed], list[str]]) -> None:
        arguments = work(testbed)
        if not self.namespace:
            testbed.switches["n3"].ofctl(*arguments)
            return
        with netns.entered(self.namespace):
            subprocess.run(arguments, check=True, timeout=20)


def address_of(testbed: Testbed, name: str) -> str:
    return str(testbed.address(parse_endpoint(name)))


def foreign_flow(testbed: Testbed) -> str:
    """A flow for packets to pod b that goes before all others, without its actions."""
    return f"table={L3_FORWARDING.number},cookie=0x5ec,priority=1000,ip,nw_dst={address_of(testbed, 'b')}"


def uplink_of_n3(testbed: Testbed) -> str:
    return next(end.interface for end in testbed.fabric.ends_by_element["n3"] if end.address is not None)


DAMAGES = (
    Damage(
        "a flow that drops",
        "bridge of n3",
        r"table L3Forwarding, priority 1000, match ip,nw_dst=10\.244\.2\.2, cookie 0x5ec \(a cookie of nothing",
        "overlay",
        lambda testbed: [
            "add-flow",
            BRIDGE,
            f"{foreign_flow(testbed)},actions=drop",
        ],
        lambda testbed: ["del-flows", BRIDGE, f"table={L3_FORWARDING.number},cookie=0x5ec/-1"],
    ),
    Damage(
        "a frame for somebody else",
        "pod b",
        r"the frame is for 0a:58:00:00:00:77, and eth0 is 0a:58:0a:f4:02:02",
        "overlay",
        lambda testbed: [
            "add-flow",
            BRIDGE,
            f"{foreign_flow(testbed)},"
            "actions=set_field:0a:58:00:00:00:77->eth_dst,"
            f"output:{testbed.state.pod_by_key['default/b'].of_port}",
        ],
        lambda testbed: ["del-flows", BRIDGE, f"table={L3_FORWARDING.number},cookie=0x5ec/-1"],
    ),
    Damage(
        "an unknown tunnel end",
        "tunnel device vxlan0",
        r"its forwarding table has no tunnel end for n3's tunnel end",
        "overlay",
        lambda testbed: [*fdb("del", testbed)],
        lambda testbed: [*fdb("append", testbed), "dst", address_of(testbed, "node/n3"), "permanent"],
        switch_namespace("n1"),
    ),
    Damage(
        "a black hole",
        "router spine",
        r"route blackhole 192\.168\.2\.1 \(table main\)",
        "overlay",
        lambda testbed: ["ip", "route", "add", "blackhole", f"{address_of(testbed, 'node/n3')}/32"],
        lambda testbed: ["ip", "route", "del", "blackhole", f"{address_of(testbed, 'node/n3')}/32"],
        "spine1",
    ),
    Damage(
        "a rule of the node's kernel",
        "node n3",
        r"nftables table ip trouble, chain c: ip daddr 10\.244\.2\.2 drop",
        "routed",
        lambda testbed: [
            "nft",
            "add table ip trouble; add chain ip trouble c { type filter hook forward priority 0 ; };"
            f" add rule ip trouble c ip daddr {address_of(testbed, 'b')} drop",
        ],
        lambda testbed: ["nft", "delete table ip trouble"],
        "n3",
    ),
    Damage(
        "a kernel that does not forward",
        "node n3",
        r"the kernel forwards nothing that comes in by n3-eth0",
        "routed",
        lambda testbed: ["sysctl", "-qw", "net.ipv4.ip_forward=0"],
        lambda testbed: ["sysctl", "-qw", "net.ipv4.ip_forward=1"],
        "n3",
    ),
    Damage(
        "a wire that is down",
        "router leaf2",
        r"interface leaf2-eth\d is without carrier|no route to|nobody answers",
        "routed",
        lambda testbed: ["ip", "link", "set", uplink_of_n3(testbed), "down"],
        lambda testbed: ["ip", "link", "set", uplink_of_n3(testbed), "up"],
        "n3",
    ),
)


def fdb(verb: str, testbed: Testbed) -> list[str]:
    return ["bridge", "fdb", verb, testbed.state.node_by_name["n3"].vtep_mac, "dev", TUNNEL_INTERFACE]


def what_stops_a_packet_is_named() -> None:
    with cluster(plan_of("leaf_spine", [pod("a", "n1"), pod("b", "n3")], spines=1)) as testbed:
        target = address_of(testbed, "b")
        for damage in DAMAGES:
            testbed.set_mode(damage.mode)
            assert pings(testbed, "a", target), f"before {damage.name}"
            damage.apply(testbed, damage.do)
            found = traced(testbed, "a", "b")
            assert not pings(testbed, "a", target), damage.name
            assert not found.succeeded
            (end,) = found.request.ends
            assert end.fate == "dropped", damage.name
            assert end.place.startswith(damage.place), (damage.name, end)
            assert re.search(damage.reason, end.reason), (damage.name, end)
            if damage is not DAMAGES[-1]:  # with a wire the kernel forgets the routes that use it
                damage.apply(testbed, damage.undo)


def test_it_names_what_stops_a_packet() -> None:
    run_in_box(what_stops_a_packet_is_named, USERS[0], timeout_s=200)


# -- Services --------------------------------------------------------------------------------------------------------


@contextmanager
def connected(namespace: str, address: str, number: int, source_port: int) -> Iterator[tuple[str, str]]:
    """A connection that is kept open; gives the pod that answers on it, and the client that it sees."""
    with netns.entered(namespace):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with client:
        client.settimeout(_ANSWER_S)
        client.bind(("", source_port))
        client.connect((address, number))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while b"client " not in said or not said.endswith(b"\n"):
            more = client.recv(4096)
            assert more, said
            said += more
        name, seen = said.decode().split("\r\n\r\n")[1].splitlines()[:2]
        yield name, seen.removeprefix("client ")


def services_as_real_connections(proxy: ProxyName) -> None:
    pods = [pod("a", "n1"), server("w1", "n1"), server("w2", "n2"), server("w3", "n3")]
    with cluster(plan_of("leaf_spine", pods, ext=1)) as testbed:
        testbed.apply([service("web"), service("np", type="NodePort"), service("lb", type="LoadBalancer")])
        testbed.apply([service("sticky", sessionAffinity="ClientIP"), service("none", selector={"app": "nobody"})])
        testbed.wait_pods_ready()
        testbed.wait_settled()
        testbed.set_proxy(proxy)
        source_port = 21000
        ports = {entry.name: entry for entry in testbed.state.service_ports}
        for mode in MODES:
            testbed.set_mode(mode)
            for source, target, address, number in ways_in(testbed, ports):
                source_port += 1
                compare_with_a_connection(testbed, source, target, address, number, source_port)
            for source in ("a", "node/n2"):
                refused = traced(testbed, source, "service/none:80").request
                assert [end.fate for end in refused.ends] == ["refused"], refused.ends
                assert_refused(testbed, source, str(ports["none"].cluster_ip))


def ways_in(testbed: Testbed, ports: dict[str, ServicePort]) -> Iterator[tuple[str, str, str, int]]:
    """(from, to, the same as address and port) of connections to Services, of every kind."""
    cluster_ip, balanced = str(ports["web"].cluster_ip), str(ports["lb"].load_balancer_ip)
    node_port, node_ip = ports["np"].node_port or 0, address_of(testbed, "node/n1")
    # From every pod with an endpoint, so that at some time one of them reaches itself.
    for source in ("a", "w1", "w2", "w3", "node/n1", "node/n4"):
        for _ in range(2):
            yield source, "service/web:80", cluster_ip, 80
    for source in ("ext/ext1", "a", "w2", "node/n1", "node/n4"):
        yield source, f"node/n1:{node_port}", node_ip, node_port
    for source in ("ext/ext1", "a"):
        yield source, "loadbalancer/lb:80", balanced, 80
    for _ in range(2):
        yield "a", "service/sticky:80", str(ports["sticky"].cluster_ip), 80


def compare_with_a_connection(
    testbed: Testbed, source: str, target: str, address: str, number: int, source_port: int
) -> None:
    """A connection that is there is traced to the very pod that answers on it, with the address that this pod sees."""
    namespace = testbed.namespace(parse_endpoint(source))
    with connected(namespace, address, number, source_port) as (name, client):
        found = traced(testbed, source, target, source_port=source_port)
        assert found.succeeded, (found.request.ends, found.reply and found.reply.ends)
        end = found.request.delivered
        assert end is not None
        # From outside to a load balancer the fabric chooses the node, by a hash that a TCP socket makes for itself.
        if not (source.startswith("ext/") and target.startswith("loadbalancer/")):
            assert end.place == f"pod {name}"
            assert f"{end.packet.tuple.source}:{end.packet.tuple.source_port}" == client
            # Nothing had to be assumed of the choice.
            assert not [text for text in found.assumptions if "endpoints of group" in text]
        # The client gets its answer from where it asked.
        assert found.reply is not None and found.reply.delivered is not None
        answer = found.reply.delivered.packet.tuple
        assert (str(answer.source), answer.source_port, answer.destination_port) == (address, number, source_port)


def assert_refused(testbed: Testbed, source: str, address: str) -> None:
    with netns.entered(testbed.namespace(parse_endpoint(source))):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with client, pytest.raises(ConnectionRefusedError):
        client.settimeout(_ANSWER_S)
        client.connect((address, 80))


def services_by_flows() -> None:
    services_as_real_connections("openflow")


def services_by_nftables() -> None:
    services_as_real_connections("nftables")


def services_by_iptables() -> None:
    services_as_real_connections("iptables")


@pytest.mark.parametrize(
    ("body", "user"),
    [(services_by_flows, USERS[0]), (services_by_nftables, USERS[-1]), (services_by_iptables, USERS[0])],
)
def test_a_service_is_traced_as_real_connections_go(body: Callable[[], None], user: str) -> None:
    run_in_box(body, user, timeout_s=300)


def choices_and_no_trace_left() -> None:
    silent = {"name": "main", "image": "pause"}  # nothing asks it whether it is ready
    pods = [pod("a", "n1"), *(server(f"w{number}", f"n{number % 2 + 1}", containers=[silent]) for number in range(7))]
    with cluster(plan_of("single_switch", pods, nodes=2)) as testbed:
        testbed.apply([service("web")])
        testbed.wait_pods_ready()
        testbed.wait_settled()
        before = everything(testbed)
        (entry,) = (one for one in testbed.state.service_ports if one.name == "web")
        endpoints = entry.cluster_endpoints
        assert len(endpoints) == 7
        for endpoint in endpoints:
            # A trace can be told to follow any of them.
            found = traced(testbed, "a", "service/web:80", endpoint=str(endpoint.endpoint_ip))
            assert found.request.delivered is not None
            assert found.request.delivered.packet.tuple.destination == endpoint.endpoint_ip
            (choice,) = (step for hop in found.request.hops for step in hop.steps if step.kind == "group")
            shares = sorted(choice.data["candidates"].values())
            assert shares == pytest.approx(sorted(map(float, bucket_shares(7))))
        after = everything(testbed)
        assert {name: text for name, text in after.items() if text != before[name]} == {}


def choices_are_foretold() -> None:
    """Where Open vSwitch scores the buckets for each connection itself, a trace says which endpoint it will get."""
    with cluster(plan_of("single_switch", [pod("a", "n1")], nodes=2)) as testbed:
        for name, protocol, count in (("many", "TCP", 45), ("few", "UDP", 3)):
            addresses = [f"10.244.1.{100 + number}" for number in range(count)]
            labels = {"kubernetes.io/service-name": name}
            slice_ = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-1", "namespace": "default", "labels": labels},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
                "ports": [{"name": "p", "port": 8000, "protocol": protocol}],
            }
            ports = [{"name": "p", "port": 80, "targetPort": 8000, "protocol": protocol}]
            (made, _) = testbed.apply([service(name, selector=None, ports=ports), slice_])
            testbed.wait_settled()
            foretold = {}
            for source_port in range(22000, 22012):
                found = traced(testbed, "a", f"service/{name}:80", source_port=source_port)
                (choice,) = (step for hop in found.request.hops for step in hop.steps if step.kind == "group")
                assert set(choice.data["candidates"]) == {f"{address}:8000" for address in addresses}
                foretold[source_port] = choice.data["chosen"]
            assert len(set(foretold.values())) > 1
            assert given_endpoints(testbed, protocol, made["spec"]["clusterIP"], list(foretold)) == foretold


def given_endpoints(testbed: Testbed, protocol: str, cluster_ip: str, source_ports: Sequence[int]) -> dict[int, str]:
    """The endpoint that a real connection of pod ``a`` from each port is given; nobody answers them."""
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    switch = testbed.switches["n1"]
    with ExitStack() as opened:
        with netns.entered(testbed.namespace(parse_endpoint("a"))):
            clients = [opened.enter_context(socket.socket(socket.AF_INET, kind)) for _ in source_ports]
        for client, source_port in zip(clients, source_ports, strict=True):
            client.setblocking(False)
            client.bind(("", source_port))
            client.connect_ex((cluster_ip, 80))
            if protocol == "UDP":
                client.send(b"x")
        given: dict[int, str] = {}
        deadline = time.monotonic() + _ANSWER_S
        while len(given) < len(source_ports) and time.monotonic() < deadline:
            for entry in parse_connections(switch.appctl("dpctl/dump-conntrack")):
                if str(entry.original.destination) == cluster_ip:
                    target = entry.reply.reversed
                    given[entry.original.source_port] = f"{target.destination}:{target.destination_port}"
        return given


def test_it_foretells_what_open_vswitch_itself_chooses() -> None:
    run_in_box(choices_are_foretold, USERS[0])


def everything(testbed: Testbed) -> dict[str, str]:
    """What tracing must not change: flows with their counters, connections, neighbours."""
    found = {}
    for name, switch in testbed.switches.items():
        flows = switch.ofctl("dump-flows", BRIDGE)
        counted = [re.sub(r"duration=[\d.]+s, |idle_age=\d+, ", "", line) for line in flows.splitlines()[1:]]
        found[f"flows of {name}"] = "\n".join(sorted(counted))
        found[f"connections of {name}"] = switch.appctl("dpctl/dump-conntrack")
    for namespace in sorted(path.name for path in netns.DIRECTORY.iterdir()):
        with netns.entered(namespace):
            done = subprocess.run(["ip", "-4", "neigh"], capture_output=True, text=True, timeout=20, check=True)
        # A known neighbour grows stale by itself.
        found[f"neighbours of {namespace}"] = re.sub(r"(REACHABLE|STALE|DELAY|PROBE)", "", done.stdout)
    return found


def test_it_shows_every_choice_and_changes_nothing() -> None:
    run_in_box(choices_and_no_trace_left, USERS[0], timeout_s=120)


# -- the command -----------------------------------------------------------------------------------------------------

_MANIFESTS = """\
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: n1, containers: [{name: c, image: pause}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: n2, containers: [{name: c, image: whoami}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
"""


@pytest.mark.parametrize("user", USERS)
def test_the_command_traces_in_a_running_cluster(user: str, folder: Path) -> None:
    (folder / "pods.yaml").write_text(_MANIFESTS)
    with running(user, folder, "single_switch,nodes=2,ext=1", "-f", "pods.yaml"):
        done = command(user, folder, "trace", "client", "service/web:80")
        assert done.returncode == 0, told(done)
        assert "=>  DELIVERED to pod web" in done.stdout
        assert "translated to tcp 10.244.0.2:45678 -> 10.244.1.2:8000" in done.stdout
        assert done.stdout.endswith("(--source-port), of a new connection.\n")
        as_json = command(user, folder, "trace", "ext/ext1", "node/n2", "-o", "json")
        assert as_json.returncode == 0, told(as_json)
        data = json.loads(as_json.stdout)
        assert (data["format"], data["succeeded"]) == ("testbed-trace/v1", True)
        assert [hop["place"] for hop in data["request"]["hops"]] == [
            "host ext1",
            "switch sw1, in by sw1-eth3",
            "node n2, in by n2-eth0",
        ]
        dropped = command(user, folder, "trace", "client", "10.244.0.99")
        assert dropped.returncode == 1, told(dropped)
        assert "=>  DROPPED at" in dropped.stdout
        for words, message in (
            (("cleint", "web"), 'there is no cleint (did you mean "client"?)'),
            (("client", "service/wep:80"), 'no Service default/wep with an address (did you mean "default/web"?)'),
            (("client", "service/web"), "TO: cannot be read"),
            (("client", "web", "--protocol", "udp"), "udp needs a port"),
        ):
            wrong = command(user, folder, "trace", *words)
            assert (wrong.returncode, message in wrong.stderr) == (2, True), told(wrong)
    gone = command(user, folder, "trace", "client", "web")
    assert (gone.returncode, "no cluster is running" in gone.stderr) == (2, True), told(gone)
