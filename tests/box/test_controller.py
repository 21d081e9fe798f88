"""The real controller, with Ryu and with os-ken, and real bridges: exact tables, kept exact whatever happens."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controllers.pipeline import compile_flows, parse_dump, plan_text
from controllers.pipeline.tables import L3_FORWARDING
from controllers.ryu_app.library import PACKAGES
from testbed.cluster.assign import assign_pod
from testbed.cluster.identity import BRIDGE
from testbed.cluster.kinds import POD
from testbed.cluster.values import MODES, Mode, PodNetwork
from tests.box.ovs_harness import (
    Cluster,
    cluster_objects,
    dump_flows,
    in_pod,
    name_tables,
    pod_manifest,
    running_cluster,
    sealed,
    set_routes,
    start_controller,
    wait_until,
)

pytestmark = [pytest.mark.box, pytest.mark.parametrize("library", PACKAGES)]

# A packet every 2 ms. A break of the data path of a few milliseconds costs at least one.
_PING_INTERVAL_S = 0.002


@contextmanager
def pinging(source: PodNetwork, target: PodNetwork) -> Iterator[list[str]]:
    """Pings all the while; fails if a packet was lost, delivered twice or answered by an error. Yields the answers.

    Only what was still under way at the end may be missing; the answers are complete once the context is left. One ping
    goes ahead to warm the way: first packets that wait for a neighbour or a flow are let go all at once, and a kernel
    that tracks connections has been seen to drop one of them (NETFILTER_DROP). What is tested here is the switch.
    """
    ahead = in_pod(source, "ping", "-n", "-q", "-c", "1", "-W", "5", str(target.pod_ip))
    assert subprocess.run(ahead, stdout=subprocess.DEVNULL, timeout=20).returncode == 0
    argv = in_pod(source, "ping", "-n", "-i", str(_PING_INTERVAL_S), str(target.pod_ip))
    answers: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the heading
        answers += [process.stdout.readline() for _ in range(20)]
        yield answers
        process.send_signal(signal.SIGINT)
        answers += iter(process.stdout.readline, "\n")
    sequence = [int(answer.partition("icmp_seq=")[2].split()[0]) for answer in answers]
    assert sorted(sequence) == list(range(1, len(answers) + 1)), "lost or doubled"


def pods_of(cluster: Cluster) -> tuple[PodNetwork, PodNetwork, PodNetwork]:
    """A pod, another on its node, and one on another node."""
    pods = cluster.state.pods
    source = pods[0]
    near = next(pod for pod in pods[1:] if pod.node_name == source.node_name)
    far = next(pod for pod in pods if pod.node_name != source.node_name)
    return source, near, far


@pytest.mark.parametrize("mode", MODES)
@sealed
def test_the_dump_is_the_plan(library: str, mode: Mode) -> None:
    with running_cluster(cluster_objects(2, 5, mode), library) as cluster:
        cluster.assert_exact()
        for name, switch in cluster.switches.items():
            name_tables(switch)
            plan = plan_text(cluster.state, name)
            assert sorted(dump_flows(switch, "--names").splitlines()) == sorted(plan.splitlines())


@sealed
def test_every_change_of_objects_changes_the_bridges(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        new = cluster.store.create(assign_pod(cluster.objects, pod_manifest("late", "n2")))
        cluster.confirm(new)
        assert "default/late" in cluster.state.pod_by_key
        cluster.assert_exact()
        cluster.confirm(cluster.store.delete(POD, "late", grace_period_s=0))
        assert "default/late" not in cluster.state.pod_by_key
        cluster.assert_exact()


@sealed
def test_modes_are_switched_without_losing_a_packet(library: str) -> None:
    with running_cluster(cluster_objects(2, 4, "routed"), library) as cluster:
        source, near, far = pods_of(cluster)
        with pinging(source, far) as answers, pinging(far, near), pinging(source, near):
            for _ in range(5):
                for mode in MODES:
                    cluster.confirm(cluster.set_mode(mode))
                    cluster.assert_exact()
        # The answers tell which way they came: one hop in the overlay, two when routed.
        assert {answer.partition("ttl=")[2].split()[0] for answer in answers} == {"63", "62"}


@sealed
def test_packets_take_the_way_of_the_mode(library: str) -> None:
    with running_cluster(cluster_objects(2, 3, "overlay"), library) as cluster:
        source, _, far = pods_of(cluster)
        for mode in MODES:
            cluster.confirm(cluster.set_mode(mode))
            for node in cluster.state.nodes:
                set_routes(cluster.state, node, mode)
            # A first packet may wait for addresses to be resolved, or be lost on a cold kernel datapath.
            subprocess.run(in_pod(source, "ping", "-n", "-q", "-c", "2", str(far.pod_ip)), stdout=subprocess.DEVNULL)
            before = {name: switch.counters() for name, switch in cluster.switches.items()}
            argv = in_pod(source, "ping", "-n", "-q", "-c", "10", "-i", "0.01", str(far.pod_ip))
            assert subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=20).returncode == 0
            for name, switch in cluster.switches.items():
                sent = switch.counters()["tunnel_tx_packets"] - before[name]["tunnel_tx_packets"]
                assert sent == (10 if mode == "overlay" else 0)


@sealed
def test_restarting_the_controller_interrupts_nothing(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        source, near, far = pods_of(cluster)
        with pinging(source, far), pinging(source, near):
            cluster.controller.kill()
            cluster.assert_exact()
            cluster.controller = start_controller(cluster.api_url, library)
            wait_until(lambda: cluster.status == {}, "the new controller begins its own report")
            cluster.confirm()
            cluster.assert_exact()


@sealed
def test_whatever_was_changed_while_the_controller_was_away_is_put_right(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        cluster.controller.kill()
        switch = cluster.switches["n1"]
        switch.ofctl("del-flows", BRIDGE, f"table={L3_FORWARDING.number}")
        switch.ofctl("add-flow", BRIDGE, "table=200,priority=7,tcp,tp_dst=80 actions=NORMAL")
        switch.ofctl("add-flow", BRIDGE, "table=0,priority=60000 actions=drop")
        cluster.controller = start_controller(cluster.api_url, library)
        cluster.confirm(cluster.set_mode("routed"))
        cluster.assert_exact()


@sealed
def test_a_bridge_that_reconnects_is_brought_back_to_the_exact_state(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        switch = cluster.switches["n2"]
        controller = switch.vsctl("get-controller", BRIDGE).strip()
        switch.vsctl("del-controller", BRIDGE)
        wait_until(lambda: cluster.status.get("n2.error") == "disconnected", "the loss is reported")
        assert "n1.error" not in cluster.status
        switch.ofctl("del-flows", BRIDGE)
        cluster.set_mode("routed")
        switch.vsctl("set-controller", BRIDGE, controller)
        cluster.confirm()
        cluster.assert_exact()
        wait_until(lambda: "n2.error" not in cluster.status, "the error is taken back")


@sealed
def test_what_the_switch_refuses_is_left_out_whole_and_reported(library: str) -> None:
    """The rest of the change is programmed, and nothing of what is refused is half done."""
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        switch = cluster.switches["n1"]
        before = dump_flows(switch, "--no-names")
        l3_flows = sum(flow.table is L3_FORWARDING for flow in compile_flows(cluster.state, "n1"))
        limit = ["--id=@full", "create", "Flow_Table", f"flow_limit={l3_flows}", "overflow_policy=refuse"]
        switch.vsctl(*limit, "--", "set", "Bridge", BRIDGE, f"flow_tables:{L3_FORWARDING.number}=@full")
        new = cluster.store.create(assign_pod(cluster.objects, pod_manifest("one-too-many", "n1")))
        wait_until(lambda: "n1.error" in cluster.status, "the refusal is reported")
        assert cluster.status["n1.error"].startswith("pod default/one-too-many: ")
        assert "TABLE_FULL" in cluster.status["n1.error"]
        cluster.confirm(new)
        assert dump_flows(switch, "--no-names") == before
        switch.vsctl("clear", "Bridge", BRIDGE, "flow_tables")
        gone = cluster.store.delete(POD, "one-too-many", grace_period_s=0)
        cluster.confirm(new, gone)
        cluster.assert_exact()
        wait_until(lambda: "n1.error" not in cluster.status, "the error is taken back")


@sealed
def test_a_pod_cannot_send_as_another(library: str) -> None:
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        source, near, far = pods_of(cluster)
        forged = cluster.state.node_by_name[source.node_name].pod_cidr[200]
        assert subprocess.run(in_pod(source, "ip", "addr", "add", f"{forged}/24", "dev", "eth0")).returncode == 0
        for target in (near, far):
            honest = in_pod(source, "ping", "-n", "-q", "-c", "1", "-W", "1", str(target.pod_ip))
            assert subprocess.run(honest, stdout=subprocess.DEVNULL).returncode == 0
            arrived = _received(target)
            lying = in_pod(source, "ping", "-n", "-q", "-c", "2", "-i", "0.01", "-W", "0.2", "-I", str(forged))
            assert subprocess.run([*lying, str(target.pod_ip)], stdout=subprocess.DEVNULL).returncode != 0
            assert _received(target) == arrived


def _received(pod: PodNetwork) -> int:
    """ICMP messages that the pod's kernel has received."""
    text = subprocess.run(in_pod(pod, "cat", "/proc/net/snmp"), capture_output=True, text=True).stdout
    names, numbers = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
    return int(numbers[names.index("InMsgs")])


@sealed
def test_the_parser_reads_what_this_open_vswitch_prints(library: str) -> None:
    """With statistics, with names, after packets: always the same flows."""
    with running_cluster(cluster_objects(2, 4), library) as cluster:
        source, _, far = pods_of(cluster)
        assert subprocess.run(in_pod(source, "ping", "-q", "-c", "2", str(far.pod_ip)), stdout=subprocess.DEVNULL)
        switch = cluster.switches["n1"]
        interfaces = switch.ports
        for options in (["--no-names"], ["--names"]):
            dump = switch.ofctl("dump-flows", *options, BRIDGE)
            assert "n_packets=0" in dump
            assert parse_dump(dump, interfaces) == compile_flows(cluster.state, "n1")
