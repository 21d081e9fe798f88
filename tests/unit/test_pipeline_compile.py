"""From cluster state to programs: golden tables, nothing ambiguous, incremental equals full, and fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.pipeline import (
    NOTHING,
    Compiler,
    Flow,
    Program,
    bridge_names,
    compile_all,
    compile_flows,
    compile_groups,
    compile_program,
    diff_programs,
    flows_text,
    groups_text,
    plan_text,
)
from controllers.pipeline.flow import sort_key
from controllers.pipeline.groups import most_endpoints
from controllers.pipeline.program import apply_program_diff
from controllers.pipeline.tables import ENDPOINT_REPLY
from testbed.cluster.values import MODES, PROXIES, ClusterState, Mode, ServiceEndpoint, ServicePort
from tests.unit.pipeline_states import (
    large,
    many_services,
    one_service,
    service_clusters,
    service_ports,
    two_nodes,
    with_services,
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("node_name", ["n1", "n2"])
def test_flow_tables_are_as_reviewed(golden: Callable[[str, str], None], mode: Mode, node_name: str) -> None:
    golden(f"flows/{mode}_{node_name}.txt", plan_text(two_nodes(mode), node_name))


@pytest.mark.parametrize("mode", MODES)
def test_flow_tables_without_names_are_as_reviewed(golden: Callable[[str, str], None], mode: Mode) -> None:
    golden(f"flows/{mode}_n1_numbers.txt", flows_text(compile_flows(two_nodes(mode), "n1")))


def test_what_a_service_adds_is_as_reviewed(golden: Callable[[str, str], None]) -> None:
    """One of each kind: without and with affinity, TCP and UDP, every traffic policy, a load balancer, no endpoints."""
    plain = two_nodes("overlay")
    behind = one_service("overlay").service_ports[0].endpoints
    shared: dict[str, object] = {"node_port": 30080, "affinity_timeout_s": 600, "external_local": True}
    ports = [
        ServicePort("default", "web", "http", "TCP", IPv4Address("10.96.0.20"), 80, 0, behind, node_port=30081),
        ServicePort("default", "sticky", "", "UDP", IPv4Address("10.96.0.21"), 53, 1, behind, **shared),  # type: ignore[arg-type]
        ServicePort("default", "near", "", "SCTP", IPv4Address("10.96.0.22"), 9, 2, behind, internal_local=True),
        ServicePort(
            "default", "none", "", "TCP", IPv4Address("10.96.0.23"), 80, 3, load_balancer_ip=IPv4Address("198.18.0.1")
        ),
    ]
    cluster = with_services(plain, ports)
    known = set(compile_flows(plain, "n1"))
    names = bridge_names(cluster, "n1")
    added = [flow for flow in compile_flows(cluster, "n1") if flow not in known]
    golden("flows/services_n1.txt", flows_text(added, names) + groups_text(compile_groups(cluster, "n1"), names))


@pytest.mark.parametrize("proxy", PROXIES)
def test_kernels_proxies_differ_in_nothing_for_the_bridge(proxy: str) -> None:
    """With any of them a bridge has no group, and the same flows, which depend on where endpoints are."""
    if proxy == "openflow":
        assert compile_groups(one_service("overlay"), "n1")
        return
    cluster = one_service("overlay", proxy)  # type: ignore[arg-type]
    assert compile_groups(cluster, "n1") == ()
    assert compile_flows(cluster, "n1") == compile_flows(one_service("overlay", "iptables"), "n1")
    assert not any(flow.table.name in ("ServiceLB", "SNAT", "Reject") for flow in compile_flows(cluster, "n1"))


def test_kernel_proxy_flows_are_as_reviewed(golden: Callable[[str, str], None]) -> None:
    golden("flows/iptables_n1.txt", plan_text(one_service("overlay", "iptables"), "n1"))


def test_modes_differ_only_in_what_leads_to_other_nodes() -> None:
    overlay, routed = (set(compile_flows(one_service(mode), "n1")) for mode in MODES)
    differing = {flow.table.name for flow in overlay ^ routed}
    assert differing == {"L3Forwarding"}
    assert len(overlay - routed) == 2  # one per other node, and one that drops what belongs to no node
    assert len(routed - overlay) == 1


@given(service_clusters())
@settings(max_examples=30, deadline=None)
def test_tables_are_sorted_and_no_two_flows_or_groups_share_a_key(cluster: ClusterState) -> None:
    for program in compile_all(cluster).values():
        flows, groups = program.flows(), program.groups()
        assert list(flows) == sorted(flows, key=sort_key)
        assert len({flow.key for flow in flows}) == len(flows)
        assert len({group.group_id for group in groups}) == len(groups)


@given(service_clusters())
@settings(max_examples=30, deadline=None)
def test_every_table_is_used_as_declared_and_every_group_is_there(cluster: ClusterState) -> None:
    for program in compile_all(cluster).values():
        wanted = {
            action.group_id for flow in program.flows() for action in flow.actions if type(action).__name__ == "ToGroup"
        }
        assert wanted == {group.group_id for group in program.groups()}


@given(service_clusters(), service_clusters())
@settings(max_examples=40, deadline=None)
def test_difference_applied_is_the_new_program(before: ClusterState, after: ClusterState) -> None:
    old, new = compile_all(before), compile_all(after)
    for name in new:
        assert_leads_to(old.get(name, NOTHING), new[name])


def assert_leads_to(old: Program, new: Program) -> None:
    flows = {flow.key: flow for flow in old.flows()}
    groups = {group.group_id: group for group in old.groups()}
    flows, groups = apply_program_diff(flows, groups, diff_programs(old, new))
    assert sorted(flows.values(), key=sort_key) == list(new.flows())
    assert [groups[number] for number in sorted(groups)] == list(new.groups())
    assert not diff_programs(new, new)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_incremental_equals_full(data: st.DataObject) -> None:
    """A compiler that saw many states gives the same programs as one that sees only the last, and so do its diffs."""
    first = data.draw(service_clusters())
    compiler = Compiler()
    programs = compiler.compile(first)
    current = first
    for kind in data.draw(
        st.lists(st.sampled_from(["pod", "mode", "node", "proxy", "first", "services", "port"]), max_size=8)
    ):
        current = changed(data, current, first, kind)
        before, programs = programs, compiler.compile(current)
        full = compile_all(current)
        assert programs.keys() == full.keys()
        for name, program in programs.items():
            assert program.flows() == full[name].flows()
            assert program.groups() == full[name].groups()
            assert_leads_to(before.get(name, NOTHING), program)


def changed(data: st.DataObject, current: ClusterState, first: ClusterState, kind: str) -> ClusterState:
    """The state after one change of a kind, if it is possible."""
    if kind == "pod" and current.pods:
        gone = data.draw(st.sampled_from(current.pods))
        return replace(current, pods=tuple(pod for pod in current.pods if pod is not gone))
    if kind == "node" and len(current.nodes) > 1:
        left = data.draw(st.sampled_from(current.nodes))
        return replace(
            current,
            nodes=tuple(node for node in current.nodes if node is not left),
            pods=tuple(pod for pod in current.pods if pod.node_name != left.name),
        )
    if kind == "mode":
        return replace(current, config=replace(current.config, mode=data.draw(st.sampled_from(MODES))))
    if kind == "proxy":
        return replace(current, config=replace(current.config, proxy=data.draw(st.sampled_from(PROXIES))))
    if kind == "services":
        return replace(current, service_ports=data.draw(service_ports(current)))
    if kind == "port" and current.service_ports:
        port = data.draw(st.sampled_from(current.service_ports))
        fewer = replace(port, endpoints=port.endpoints[1:])
        return replace(
            current, service_ports=tuple(fewer if other is port else other for other in current.service_ports)
        )
    return first


def test_an_unchanged_node_keeps_its_very_program() -> None:
    cluster = one_service("overlay")
    compiler = Compiler()
    before = compiler.compile(cluster)
    assert compiler.compile(replace(cluster)) == before
    fewer = replace(cluster, pods=tuple(pod for pod in cluster.pods if pod.name != "web-0"))
    after = compiler.compile(fewer)
    assert after["n2"] is before["n2"]
    assert after["n1"].common is before["n1"].common
    assert len(after["n1"].flows()) == len(before["n1"].flows()) - 6


def test_an_endpoint_that_two_services_share_stays_until_the_last_is_gone() -> None:
    cluster = one_service("overlay")
    (web,) = cluster.service_ports
    twin = replace(web, name="twin", cluster_ip=IPv4Address("10.96.0.21"), group_number=1, node_port=None)
    compiler = Compiler()
    reply = [len(replies(compiler.compile(with_services(cluster, ports))["n1"])) for ports in ([web, twin], [twin], [])]
    assert reply == [2, 2, 0]


def replies(program: Program) -> list[Flow]:
    return [flow for flow in program.flows() if flow.table is ENDPOINT_REPLY and "tcp_src" in str(flow.match)]


def test_a_service_with_more_endpoints_than_a_group_holds_is_refused_and_named_and_no_other_is_touched() -> None:
    cluster = one_service("overlay")
    (web,) = cluster.service_ports
    behind = tuple(
        ServiceEndpoint(IPv4Address("10.200.0.0") + number, 80) for number in range(most_endpoints(False) + 1)
    )
    huge = replace(
        web, name="huge", cluster_ip=IPv4Address("10.96.0.21"), group_number=1, node_port=None, endpoints=behind
    )
    compiler = Compiler()
    program = compiler.compile(with_services(cluster, [web, huge]))["n1"]
    assert [problem.partition(" has ")[0] for problem in compiler.problems] == [
        "Service default/huge: spec.ports[http]"
    ]
    assert program.groups() == compile_program(cluster, "n1").groups()
    to_huge = [flow for flow in program.flows() if flow.table.name == "ServiceLB" and "tcp_dst" in str(flow.match)]
    assert {str(flow.actions) for flow in to_huge if str(int(huge.cluster_ip)) in str(flow.match)} == {
        "(GotoTable(table='Reject'),)"
    }
    compiler.compile(cluster)
    assert compiler.problems == ()


def test_compiling_a_large_cluster_takes_a_fraction_of_its_push() -> None:
    cluster = large("overlay", 20, 1000)
    times = []
    for _ in range(3):
        started = time.process_time()
        programs = compile_all(cluster)
        times.append(time.process_time() - started)
    # A node: 41 flows of its own, 19 to the other nodes, 1 for the cluster CIDR; a pod: one in each of 6 places.
    assert sum(len(program.flows()) for program in programs.values()) == 20 * (41 + 19 + 1) + 1000 * 6
    assert min(times) < 0.4


def test_one_endpoint_among_a_thousand_services_on_twenty_nodes_is_compiled_and_compared_in_milliseconds() -> None:
    cluster = many_services("overlay", 20, 1000, 10)
    compiler = Compiler()
    before = compiler.compile(cluster)
    times = []
    for number in range(10):
        ports = list(cluster.service_ports)
        ports[number] = replace(ports[number], endpoints=ports[number].endpoints[1:])
        cluster = replace(cluster, service_ports=tuple(ports))
        started = time.perf_counter()
        after = compiler.compile(cluster)
        diffs = [diff_programs(before[name], program) for name, program in after.items()]
        times.append(time.perf_counter() - started)
        before = after
        assert len({id(diff.common) for diff in diffs}) == 1
        assert len(diffs[0].common.modified_groups) == 1
        assert len(diffs[0].common.removed_flows) == 1
        assert not any(diff.own for diff in diffs)
    assert min(times) < 0.006
