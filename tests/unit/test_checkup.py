"""What the checks of a running cluster conclude from what they have seen."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from controllers.pipeline import bridge_names, compile_program, flows_text, groups_text
from testbed.checkup import (
    bridges,
    dns,
    endpoints,
    ingresses,
    latency,
    links,
    mtu,
    nodes,
    policy,
    proxy,
    reach,
    routes,
    sctp,
    tunnel,
    workloads,
)
from testbed.checkup.findings import Finding, as_data, as_text
from testbed.checkup.pings import Ping, parse_ping
from testbed.checkup.service_answers import Answer
from testbed.checkup.service_answers import judge as judge_answers
from testbed.cluster.assign import assign
from testbed.cluster.ingress.translation import Sources
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import MODES, ClusterState, Mode, NetworkConfig, ServiceEndpoint, ServicePort
from testbed.cluster.view import cluster_state
from testbed.trace.kernel import Interface
from tests.unit.cluster_objects import edge_nodes, pod

ANSWERED, LOST = Ping(True, 0.5, ""), Ping(False, None, "1 packets transmitted, 0 received")


def state(mode: Mode = "overlay") -> ClusterState:
    return cluster_state(assign(edge_nodes(2), NetworkConfig(mode=mode), 24, [pod("web", nodeName="n2")]))


def said(found: list[Finding]) -> list[str]:
    return [f"{one.what} [{one.evidence}]" for one in found if one.state == "fault"]


def test_text_has_a_line_for_each_finding_and_data_the_same() -> None:
    found = [Finding("mtu", "ok", "fine"), Finding("dns", "fault", "no server", "none ready", "start one")]
    assert as_text(found) == "ok     mtu  fine\nFAULT  dns  no server [none ready] => start one\n1 fault found\n"
    assert as_text(found[:1]).endswith("nothing found\n")
    assert as_data(found)["faults"] == 1
    assert as_data(found)["findings"][1]["remedy"] == "start one"


def test_a_bridge_is_compared_flow_by_flow_and_group_by_group() -> None:
    known = state()
    program, names = compile_program(known, "n1"), bridge_names(known, "n1")
    flows, groups = flows_text(program.flows()), groups_text(program.groups())
    assert not bridges.compare(program, flows, groups, names)
    first, *others = flows.splitlines()
    changed = others[-1].partition(" actions=")[0] + " actions=drop"
    strange = " cookie=0x5, priority=7,sctp actions=NORMAL"
    dump = "\n".join([*others[:-1], changed, strange])
    found = bridges.compare(program, dump, " group_id=9,type=select,bucket=actions=drop", names)
    assert (len(found.missing), len(found.foreign), len(found.changed)) == (1, 2, 1)
    assert first.split("actions=")[0].split("priority=")[1].split(",")[0].strip() in found.missing[0]
    assert "NORMAL" in found.foreign[0] and "group_id=9" in found.foreign[1]
    (fault,) = said(bridges.judge([bridges.BridgeFacts("n1", difference=found)], "lab"))
    assert "1 flows or groups missing, 2 flows or groups that nobody asked for, 1 flows or groups that do" in fault


def test_a_controller_is_seen_by_its_connection() -> None:
    line = "0 0 172.31.0.2:39944 172.31.0.1:{}\n"
    assert bridges.has_controller(line.format(6653))
    assert not bridges.has_controller(line.format(66530))
    facts = bridges.BridgeFacts("n1", connected=False, reported="table full")
    assert len(said(bridges.judge([facts], "lab"))) == 2


def test_a_tunnel_must_be_there_up_in_its_network_and_know_the_others() -> None:
    known = state()
    n2 = known.nodes[1]
    ways = {n2.vtep_mac: str(n2.node_ip)}

    def judged(*facts: tunnel.TunnelFacts) -> list[str]:
        return said(tunnel.judge(list(facts), known.nodes, 1, "lab"))

    assert judged(tunnel.TunnelFacts("n1", True, True, 1, ways, 5)) == []
    assert "is not there" in judged(tunnel.TunnelFacts("n1", False))[0]
    assert "is down" in judged(tunnel.TunnelFacts("n1", True, False, 1, ways, 5))[0]
    assert "VNI 2 not 1" in judged(tunnel.TunnelFacts("n1", True, True, 2, ways, 5))[0]
    assert "the way to n2" in judged(tunnel.TunnelFacts("n1", True, True, 1, {n2.vtep_mac: "192.0.2.1"}, 5))[0]


@pytest.mark.parametrize("mode", MODES)
def test_each_route_that_the_mode_needs_is_looked_for(mode: Mode) -> None:
    known = state(mode)
    by_bridge = {"gateway": "169.254.0.253", "dev": "gw"}
    config = known.config
    bridged = [config.service_cidr, config.load_balancer_cidr, *([config.cluster_cidr] if mode == "overlay" else [])]
    table: list[dict[str, Any]] = [{"dst": str(one), **by_bridge} for one in bridged]
    if mode == "routed":
        table.append({"dst": str(known.nodes[1].pod_cidr), "gateway": "192.168.1.12", "dev": "n1-eth0"})
    assert said(routes.judge(known, {"n1": table}, "lab")) == []
    for number, route in enumerate(table):
        without = [*table[:number], *table[number + 1 :]]
        assert f"n1 does not route {route['dst']}" in said(routes.judge(known, {"n1": without}, "lab"))[0]
        assert (
            len(said(routes.judge(known, {"n1": [*without, {"dst": route["dst"], "type": "blackhole"}]}, "lab"))) == 1
        )
    # A router carries pods' packets in routed mode only.
    assert len(said(routes.judge(known, {"leaf1": []}, "lab"))) == (2 if mode == "routed" else 0)


def test_a_missing_route_is_brought_back_by_the_way_to_the_node() -> None:
    known = state("routed")
    pods = known.nodes[1].pod_cidr
    default = {"dst": "default", "nexthops": [{"gateway": "192.0.2.1", "dev": "n1-eth0"}, {"gateway": "192.0.2.3"}]}
    for table, way in (
        ([default], "via 192.0.2.1 dev n1-eth0"),
        ([default, {"dst": "192.168.1.0/24", "dev": "n1-eth0"}], "via 192.168.1.12 dev n1-eth0"),
        ([{"dst": "203.0.113.7", "dev": "x"}], "via 192.168.1.12"),
    ):
        remedies = [one.remedy for one in routes.judge(known, {"n1": table}, "lab")]
        assert f"testbed exec --name lab node/n1 -- ip route replace {pods} {way}" in remedies


def test_unreachable_pods_are_told_from_an_unreachable_node() -> None:
    def judged(node: Ping, between: Ping) -> list[str]:
        return said(reach.judge({"a -> b": node}, {"a -> b": between}, {"a -> b": "dropped"}, {"a -> b": "trace"}))

    assert judged(ANSWERED, ANSWERED) == []
    assert judged(ANSWERED, LOST) == ["a -> b: unreachable across nodes [dropped]"]
    assert "over the fabric" in judged(LOST, LOST)[0]


def test_ping_is_read() -> None:
    text = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n--- 10.0.0.1 ping statistics ---\n"
    good = (
        f"{text}1 packets transmitted, 1 received, 0% packet loss, time 0ms\nrtt min/avg/max/mdev = 0.1/0.25/0.4/0 ms\n"
    )
    assert parse_ping(good, 0).average_ms == 0.25
    bad = parse_ping(f"{text}ping: local error: message too long, mtu: 1400\n", 1)
    assert not bad.answered and bad.words == "ping: local error: message too long, mtu: 1400"


def test_interfaces_and_full_packets_must_fit_the_mode() -> None:
    ends = [mtu.End("web", "p_default_web", "eth0", 1400, 1450), mtu.End("node/n1", "n1", "gw", 1450, 1450)]
    found = mtu.judge(ends, {"a -> b": LOST}, 1450, "lab")
    assert len(found) == 2
    assert found[0].remedy == "testbed exec --name lab web -- ip link set eth0 mtu 1450"
    assert "ping -M do -s 1422" in found[1].evidence


def test_listening_sockets_are_read_with_their_addresses() -> None:
    sockets = endpoints.parse_sockets(
        "tcp LISTEN 0 5 0.0.0.0:8000 0.0.0.0:*\nudp UNCONN 0 0 10.0.0.1%eth0:53 0.0.0.0:*\n"
        "tcp LISTEN 0 5 [::]:80 [::]:*\ntcp LISTEN 0 5 127.0.0.1:9 0.0.0.0:*\n"
    )
    address = IPv4Address("10.0.0.1")
    listening = [(kind, number) for kind in ("TCP", "UDP") for number in (8000, 53, 80, 9)]
    assert [one for one in listening if endpoints.listens(sockets, one[0], address, one[1])] == [
        ("TCP", 8000),
        ("TCP", 80),
        ("UDP", 53),
    ]


def test_a_proxy_must_run_and_confirm() -> None:
    def judged(running: bool, status: dict[str, str]) -> list[str]:
        return said(proxy.judge("nftables", running, ["n1"], status, {"Service": 7}))

    assert judged(True, {"n1": "Service=7"}) == []
    assert judged(True, {"n1": "Service=6"}) == [
        "the nftables rules of n1 are not confirmed [versions: Service 6 of 7]"
    ]
    assert judged(True, {"n1": "Service=7", "n1.error": "no nft"})[0].endswith("[no nft]")
    assert "does not run" in judged(False, {"n1": "Service=7"})[0]


def test_nodes_from_which_a_service_fails_alike_are_named_together() -> None:
    answers = [Answer(node, "service/default/web:80", "timed out", "dropped") for node in ("n1", "n2")]
    (fault,) = said(judge_answers([*answers, Answer("n3", "service/default/web:80")], "lab"))
    assert fault == "service/default/web:80 does not answer from n1, n2: timed out [dropped]"


def test_dns_needs_a_server_an_answer_and_pods_that_ask_it() -> None:
    good = ";; ->>HEADER<<- opcode: QUERY; status: NOERROR; id: 1\n;; ANSWER SECTION:\nx. 5 IN A 10.96.0.10\n"
    asks = {"default/a": "nameserver 10.96.0.10\nsearch x\n"}
    assert said(dns.judge([True], {"default/a": good}, asks, "10.96.0.10", "lab")) == []
    assert "no DNS server is ready" in said(dns.judge([False], {}, asks, "10.96.0.10", "lab"))[0]
    refused = good.replace("NOERROR", "SERVFAIL")
    assert said(dns.judge([True], {"default/a": refused}, {}, "10.96.0.10", "lab"))[0].endswith("SERVFAIL]")
    silent = ";; WARNING: response timeout for 10.96.0.10@53(UDP)\n"
    assert said(dns.judge([True], {"default/a": silent}, {}, "10.96.0.10", "lab"))[0].endswith("no answer]")
    other = {"default/a": "nameserver 8.8.8.8\n"}
    assert "nameserver 8.8.8.8, not" in said(dns.judge([True], {}, other, "10.96.0.10", "lab"))[0]


def test_lost_nodes_and_policies_are_named() -> None:
    condition = {"type": "Ready", "status": "Unknown", "message": "no news"}
    lost = {"metadata": {"name": "n1"}, "status": {"conditions": [condition]}}
    assert said(nodes.judge([lost])) == ["node n1 is not Ready [Ready is Unknown: no news]"]
    assert said(nodes.judge([{"metadata": {"name": "n2"}}])) == []
    wire = {"metadata": {"name": "deny", "namespace": "default"}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}}
    chosen = {"metadata": {"name": "x", "namespace": "default", "labels": {"a": "b"}}}
    elsewhere = {"metadata": {"name": "x", "namespace": "prod", "labels": {"a": "b"}}}
    (fault,) = said(policy.judge([wire], {"default/x": chosen, "prod/x": elsewhere}))
    assert "it selects 1 pods" in fault


def test_latency_is_information_and_says_what_else_there_is() -> None:
    (overlay,) = latency.judge("a -> b", Ping(True, 0.6, ""), Ping(True, 0.1, ""), "overlay")
    assert overlay.state == "info" and "routed" in overlay.remedy and "VXLAN" in overlay.evidence
    (routed,) = latency.judge("a -> b", Ping(True, 0.6, ""), Ping(True, 0.1, ""), "routed")
    assert "VXLAN" not in routed.evidence
    assert latency.judge("a -> b", LOST, ANSWERED, "overlay") == []


def test_sctp_to_another_port_is_a_fault_where_only_addresses_are_translated() -> None:
    endpoint = ServiceEndpoint(IPv4Address("10.244.0.2"), 38412, "n1")
    known = ServicePort("default", "amf", "", "SCTP", IPv4Address("10.96.0.20"), 38412, 1, (endpoint,))
    assert said(sctp.judge([known])) == []
    (fault,) = said(sctp.judge([replace(known, service_port=80)]))
    assert fault.startswith("Service default/amf port 80: nothing answers at the cluster IP, because its targetPort is")
    (fault,) = said(sctp.judge([replace(known, node_port=30080)]))
    assert fault.startswith("Service default/amf: nothing answers at node port 30080")
    assert sctp.is_userspace("netdev@ovs-netdev: hit:2 missed:1\n  br-pods:\n")
    assert not sctp.is_userspace("system@ovs-system: hit:2 missed:1\n")


def test_a_link_that_is_down_is_brought_up_where_it_is() -> None:
    def veth(namespace: str, name: str, up: bool) -> Interface:
        return Interface(namespace, name, 2, "", 1500, up, up, "veth", (), 3, 0, "")

    ends = [("node n1", veth("n1", "n1-eth0", True)), ("node n2", veth("n2", "n2-eth0", False))]
    assert said(links.judge(ends[:1], frozenset({"n1"}), "lab")) == []
    (node, router) = links.judge([*ends, ("router r1", veth("r1", "r1-eth0", False))], frozenset({"n1", "n2"}), "lab")
    assert node.what == "n2-eth0 of node n2 is down"
    assert node.remedy == "testbed exec --name lab node/n2 -- ip link set n2-eth0 up"
    assert router.remedy == "ip link set r1-eth0 up in r1"


def unready(name: str, *conditions: JsonObject, owner: str = "", **containers: JsonObject) -> JsonObject:
    statuses = [{"name": each, "restartCount": 2, **status} for each, status in containers.items()]
    metadata: JsonObject = {"name": name, "namespace": "default", "uid": name}
    if owner:
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n1"},
        "status": {"conditions": list(conditions), "containerStatuses": statuses},
    }


def of_pods(*pods: JsonObject, events: list[JsonObject] | None = None) -> list[Finding]:
    return workloads.judge({f"default/{wire['metadata']['name']}": wire for wire in pods}, events or [])


def test_a_pod_that_is_not_ready_is_told_with_the_reason_that_it_has() -> None:
    ready = unready("fine", {"type": "Ready", "status": "True"})
    assert [one.state for one in of_pods(ready)] == ["ok"]
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    assert [one.state for one in of_pods(ready, unready("new", main=creating))] == ["info"]
    pending = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "2 Insufficient cpu."}
    assert said(of_pods(unready("big", pending))) == [
        "pod default/big is not Ready: Unschedulable [Pending: 2 Insufficient cpu.]"
    ]
    lost = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
    assert said(of_pods(unready("far", lost))) == [
        "pod default/far is not Ready: NodeNotReady [its node n1 is not Ready]"
    ]
    absent = {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "x" not found'}}}
    assert said(of_pods(unready("a", main=absent))) == [
        'pod default/a is not Ready: CreateContainerConfigError (container main) [configmap "x" not found]'
    ]


def test_a_container_that_ends_again_and_again_is_told_with_how_it_ended() -> None:
    looping = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}
    failed = {**looping, "lastState": {"terminated": {"reason": "Error", "exitCode": 3}}}
    killed = {**looping, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    crash, big = of_pods(unready("crash", main=failed), unready("big", sidecar=killed))
    assert crash.what == "pod default/crash is not Ready: CrashLoopBackOff (container main)"
    assert crash.evidence == "back-off 40s; Error, exit code 3, 2 restarts"
    assert crash.remedy == "kubectl -n default logs crash -c main --previous"
    assert big.what == "pod default/big is not Ready: OOMKilled (container sidecar)"
    assert "limits.memory" in big.remedy and "exit code 137" in big.evidence


def test_pods_of_one_owner_that_wait_for_the_same_are_one_finding_and_a_long_message_is_cut() -> None:
    pulling = {"state": {"waiting": {"reason": "ErrImagePull", "message": "x" * 500}}}
    pods = [unready(name, owner="web-1", main=pulling) for name in ("a", "b", "c")]
    one, other = of_pods(*pods, unready("d", owner="web-2", main=pulling))
    assert one.what == "pod default/a and 2 like it are not Ready: ErrImagePull (container main)"
    assert other.what.startswith("pod default/d is not Ready") and len(one.evidence) < 210


def test_a_failing_probe_is_told_in_the_words_of_its_newest_event() -> None:
    running = {"state": {"running": {}}}
    events = [
        {"type": "Warning", "reason": "Unhealthy", "message": message, "lastTimestamp": at, "involvedObject": about}
        for message, at, about in (
            ("refused", "2024-01-01T00:00:02Z", {"kind": "Pod", "uid": "web"}),
            ("timed out", "2024-01-01T00:00:01Z", {"kind": "Pod", "uid": "web"}),
            ("of another", "2024-01-01T00:00:03Z", {"kind": "Pod", "uid": "other"}),
        )
    ]
    assert said(of_pods(unready("web", main=running), events=events)) == [
        "pod default/web is not Ready: Unhealthy [refused]"
    ]
    assert [one.state for one in of_pods(unready("new", main=running), events=events)] == ["info"]


def test_an_ingress_is_told_with_what_keeps_it_from_working() -> None:
    def ingress(name: str, service: str = "web", **spec: object) -> JsonObject:
        backend = {"service": {"name": service, "port": {"number": 80}}}
        rules = [{"host": "x.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
        metadata = {"name": name, "namespace": "default", "uid": name}
        return {"metadata": metadata, "spec": {"ingressClassName": "nginx", "rules": rules, **spec}}

    classes = [{"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}]
    web = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}

    def judged(*wires: JsonObject, events: tuple[JsonObject, ...] = (), ready: bool = True) -> list[str]:
        services = {("default", "web"): web}
        sources = Sources(wires, classes, services.get, lambda key: f"Secret {key[1]} does not exist")
        return said(ingresses.judge(sources, events, has_controller=ready))

    assert judged(ingress("good")) == []
    assert judged(ingress("good"), ready=False) == ["no Ingress controller is ready for 1 Ingresses [default/good]"]
    assert "there is no IngressClass traefik [NotServed]" in judged(ingress("a", ingressClassName="traefik"))[0]
    assert "no IngressClass is the default [NotServed]" in judged(ingress("a", ingressClassName=None))[0]
    assert judged(ingress("a", "wbe")) == ["Ingress default/a: Service default/wbe does not exist [ServiceNotFound]"]
    assert "Secret cert does not exist" in judged(ingress("a", tls=[{"secretName": "cert"}]))[0]
    refused = {"type": "Warning", "reason": "InvalidIngress", "message": "nginx: no", "involvedObject": {"uid": "a"}}
    assert judged(ingress("a"), events=(refused,)) == ["Ingress default/a: nginx: no [InvalidIngress]"]
    mended = {**ingress("a"), "status": {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}}
    assert judged(mended, events=(refused,)) == []
