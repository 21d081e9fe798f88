"""Every probe with real packets: on a cluster in both modes, and on a bare wire where its timing can be checked."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import RunError
from testbed.measure import baseline, fidelity
from testbed.measure.placement import SwitchPlacement, measuring_processor
from testbed.measure.probes import run_probe
from testbed.measure.probes.base import ANSWER_LIMIT_S, ECHO_PORT, Context, Result
from testbed.measure.process import ProbeFailure, Servers, client_argv, run_program, server_sockets
from testbed.network import netns
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import EndpointRef, Target, parse_endpoint
from testbed.spec.images import container_argv
from testbed.spec.models import Probe
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box


def cell(network: Any, servers: Servers, target: Target, **fields: Any) -> Result:
    """Run one cell from the bare wire's client."""
    return run_probe(Context(network, servers, Probe.model_validate(fields), CLIENT, target))


def measured(
    network: Any, servers: Servers, source: EndpointRef, target: EndpointRef | Target, **fields: Any
) -> dict[str, list[float]]:
    """Run one short cell; the figures by metric, ``lost`` among them."""
    probe = Probe.model_validate({"duration_s": 0.15, "warmup_s": 0.05} | fields)
    aim = target if isinstance(target, Target) else Target(target, None, None)
    result: Result = run_probe(Context(network, servers, probe, source, aim, probe.payload_bytes[0], 23456))
    figures = {metric: list(values) for metric, values in result.values}
    return figures | ({} if result.lost is None else {"lost": [result.lost]})


# -- on a cluster ------------------------------------------------------------------------------------------------


def every_probe_measures_in_both_modes() -> None:
    pods = [pod("a", "n1"), pod("b", "n1"), pod("c", "n3")]
    ends = [(parse_endpoint(source), parse_endpoint(target)) for source, target in (("a", "b"), ("a", "c"))]
    ends.append((parse_endpoint("node/n1"), parse_endpoint("node/n3")))
    with cluster(plan_of("leaf_spine", pods)) as testbed, Servers(testbed) as servers, SwitchPlacement() as switches:
        switches.together()
        for mode in ("overlay", "routed"):
            testbed.set_mode(mode)  # the echo servers of the first mode go on serving in the second
            for source, target in ends:
                for kind, metric in (("udp_rr", "rtt_us"), ("tcp_rr", "rtt_us"), ("tcp_crr", "connect_rtt_us")):
                    figures = measured(testbed, servers, source, target, kind=kind)
                    assert len(figures[metric]) > 20, (mode, kind, figures)
                    assert 3 < statistics.median(figures[metric]) < 50_000, (mode, kind, figures)
                    assert figures["lost"] == [0]
                # Long enough for ping to have begun when it is told to end, on a busy machine too.
                figures = measured(testbed, servers, source, target, kind="icmp_rtt", duration_s=0.4)
                assert len(figures["rtt_us"]) > 20 and figures["lost"] == [0], figures
            first = measured(testbed, servers, *ends[1], kind="first_packet")
            warm = measured(testbed, servers, *ends[1], kind="udp_rr")
            # A packet that meets empty caches pays for them: address resolution on every hop, a miss in every switch.
            assert statistics.median(first["first_packet_us"]) > 1.5 * statistics.median(warm["rtt_us"]), (first, warm)
            assert min(first["first_connection_us"]) > 0
            flows = measured(testbed, servers, *ends[0], kind="flow_count")["flows"]
            assert flows == [float(count) for _, count in sorted(testbed.flow_counts().items())]
            assert min(flows) > 5
            switches.apart()
            for protocol in ("tcp", "udp"):
                figures = measured(testbed, servers, *ends[1], kind="throughput", protocol=protocol, duration_s=0.35)
                assert 2 <= len(figures["throughput_mbps"]) <= 10, figures
                # Not the median: on a loaded machine most intervals of a short run can be empty.
                assert 1 < max(figures["throughput_mbps"]) < 100_000
            switches.together()
        _mtu_arm(testbed, ends[1])


def _mtu_arm(testbed: Testbed, ends: tuple[EndpointRef, EndpointRef]) -> None:
    testbed.set_mode("routed", 1450)
    fidelity.check_pod_mtus(testbed, ends, 1450)
    with pytest.raises(RunError, match="MTU of 1450 bytes, not 1500"):
        fidelity.check_pod_mtus(testbed, ends, 1500)


@pytest.mark.parametrize("user", USERS[-1:])  # the stricter
def test_every_probe_measures_in_both_modes(user: str) -> None:
    run_in_box(every_probe_measures_in_both_modes, user)


# -- on a bare wire ----------------------------------------------------------------------------------------------

CLIENT, SERVER = baseline.FLOOR_CLIENT, baseline.FLOOR_SERVER


class Killed:
    """Kills a server, ``after_s`` from now."""

    def __init__(self, pid: int, after_s: float) -> None:
        self._timer = threading.Timer(after_s, os.kill, (pid, signal.SIGKILL))

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.join()


class Stall:
    """Stops the echo server for a while, ``after_s`` from now."""

    def __init__(self, servers: Servers, after_s: float, for_s: float) -> None:
        (process,) = servers.processes()
        self._pid, self._after_s, self._for_s = process.pid, after_s, for_s
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        time.sleep(self._after_s)
        os.kill(self._pid, signal.SIGSTOP)
        time.sleep(self._for_s)
        os.kill(self._pid, signal.SIGCONT)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


_STALLED_US = 20_000


def a_stall_counts_for_everything_that_it_delayed() -> None:
    for kind in ("udp_rr", "tcp_rr", "tcp_crr"):
        fields = {"kind": kind, "duration_s": 0.6, "warmup_s": 0.0}
        metric = "connect_rtt_us" if kind == "tcp_crr" else "rtt_us"
        with baseline.floor_network() as wire, Servers(wire) as servers:
            servers.echo(SERVER, "udp" if kind == "udp_rr" else "tcp", ECHO_PORT)
            # A busy machine stalls by itself, too: what more than one stall has delayed proves nothing.
            for _ in range(5):
                with Stall(servers, after_s=0.3, for_s=0.1):
                    closed = measured(wire, servers, CLIENT, SERVER, **fields)[metric]
                with Stall(servers, after_s=0.3, for_s=0.1):
                    open_loop = measured(wire, servers, CLIENT, SERVER, interval_ms=2, **fields)[metric]
                late = [value for value in open_loop if value > _STALLED_US]
                if sum(value > _STALLED_US for value in closed) == 1 and len(late) <= 60:
                    break
        # The closed loop waits and so sees the stall once; the open loop had a message due every 2 ms of it.
        assert sum(value > _STALLED_US for value in closed) == 1, (kind, sorted(closed)[-5:])
        assert 30 <= len(late) <= 60, (kind, len(late))
        assert len(open_loop) == 300
        if kind != "tcp_crr":
            assert statistics.median(a - b for a, b in itertools.pairwise(late)) == pytest.approx(2000, rel=0.2)


def test_a_stall_counts_for_everything_that_it_delayed() -> None:
    run_in_box(a_stall_counts_for_everything_that_it_delayed, USERS[0])


def lost_answers_are_counted() -> None:
    with baseline.floor_network() as wire, Servers(wire) as servers:
        servers.echo(SERVER, "udp", ECHO_PORT)
        fields = {"kind": "udp_rr", "duration_s": 0.3, "warmup_s": 0.0}
        with Stall(servers, after_s=0.2, for_s=1.5 * ANSWER_LIMIT_S):
            closed = measured(wire, servers, CLIENT, SERVER, **fields)
        assert closed["lost"] == [1]
        assert max(closed["rtt_us"]) < ANSWER_LIMIT_S * 1e6
        with Stall(servers, after_s=0.2, for_s=2 * ANSWER_LIMIT_S):
            open_loop = measured(wire, servers, CLIENT, SERVER, interval_ms=10, **fields)
        assert open_loop["lost"][0] + len(open_loop["rtt_us"]) == 30
        assert 5 <= open_loop["lost"][0] <= 25


def test_lost_answers_are_counted() -> None:
    run_in_box(lost_answers_are_counted, USERS[0])


class _Uncached:
    """A wire as a network with caches that need no emptying, but are asked to be; it counts how often."""

    def __init__(self, wire: baseline.Namespaces) -> None:
        self.address, self.namespace, self.popen = wire.address, wire.namespace, wire.popen
        self.cooled = 0

    def cool(self, *endpoints: EndpointRef) -> None:
        assert endpoints == (CLIENT, SERVER)
        self.cooled += 1


def first_packets_that_are_lost_are_counted() -> None:
    with baseline.floor_network() as wire, Servers(wire) as servers:
        network = _Uncached(wire)
        figures = measured(network, servers, CLIENT, SERVER, kind="first_packet")
        timed = len(figures["first_packet_us"]) + len(figures["first_connection_us"])
        assert timed == network.cooled > 2
        assert figures["lost"] == [0]
        udp, _ = servers.processes()
        os.kill(udp.pid, signal.SIGSTOP)
        figures = measured(network, servers, CLIENT, SERVER, kind="first_packet")
        os.kill(udp.pid, signal.SIGCONT)
    assert figures["lost"] == [1]
    assert "first_packet_us" not in figures and len(figures["first_connection_us"]) == 1


def test_first_packets_that_are_lost_are_counted() -> None:
    run_in_box(first_packets_that_are_lost_are_counted, USERS[0])


WHOAMI = container_argv({"name": "web", "image": "whoami"}) or []


def whoami_target() -> Target:
    return Target(SERVER, None, 8000)


def http_requests_are_timed_and_say_who_answered() -> None:
    with baseline.floor_network() as wire, Servers(wire) as servers:
        servers.ensure(SERVER, WHOAMI)
        name = socket.gethostname()
        for keep_alive in (True, False):
            fields = {"kind": "http", "keep_alive": keep_alive, "duration_s": 0.3, "warmup_s": 0.1}
            closed = cell(wire, servers, whoami_target(), **fields)
            figures = dict(closed.values)
            assert len(figures["request_us"]) > 20
            assert (figures["failed"], closed.lost) == ([0], 0)
            assert figures["requests_per_s"] == [pytest.approx(len(figures["request_us"]) / 0.3)]
            assert {request.pod for request in closed.requests} == {name}
            paced = cell(wire, servers, whoami_target(), rate_per_s=200.0, **fields)
            # 0.3 s at 200 a second, whatever the server takes for each.
            assert len(paced.requests) == 60
            due_ms = [request.due_ms for request in paced.requests]
            assert all(later - earlier == pytest.approx(5, abs=0.001) for earlier, later in itertools.pairwise(due_ms))
            assert "requests_per_s" not in dict(paced.values)


def test_http_requests_are_timed_and_say_who_answered() -> None:
    run_in_box(http_requests_are_timed_and_say_who_answered, USERS[0])


def http_counts_what_a_stall_delays_and_what_nobody_answers() -> None:
    with baseline.floor_network() as wire, Servers(wire) as servers:
        servers.ensure(SERVER, WHOAMI)
        fields = {"kind": "http", "duration_s": 0.6, "warmup_s": 0.0, "rate_per_s": 500.0, "late_ms": 20.0}
        with Stall(servers, after_s=0.3, for_s=0.1):
            stalled = dict(cell(wire, servers, whoami_target(), **fields).values)
        # A request was due every 2 ms of the stall, and the ones before its last 20 ms were late.
        assert 25 <= stalled["late"][0] <= 150, stalled["late"]
        assert stalled["failed"] == [0]
        with Stall(servers, after_s=0.3, for_s=2 * ANSWER_LIMIT_S):
            silent = cell(wire, servers, whoami_target(), **fields)
        assert silent.lost is not None and 100 <= silent.lost <= 260
        (process,) = servers.processes()
        with pytest.raises(ProbeFailure, match=r"no good answer from node/floor_server:8001 .*\(refused\)"):
            cell(wire, servers, Target(SERVER, None, 8001), **fields)
        # Late enough for a client that starts slowly on a busy machine, and early enough for many requests after it.
        with Killed(process.pid, after_s=1.0):
            dead = cell(wire, servers, whoami_target(), **{**fields, "duration_s": 1.5})
        assert dict(dead.values)["failed"][0] > 50
        assert "refused" in {request.problem for request in dead.requests}


def test_http_counts_what_a_stall_delays_and_what_nobody_answers() -> None:
    run_in_box(http_counts_what_a_stall_delays_and_what_nobody_answers, USERS[0])


def sockperf_agrees_with_our_client() -> None:
    """The same wire by our client, by sockperf's log, and by sockperf as a user would run it, with its own server."""
    with baseline.floor_network() as wire, Servers(wire) as servers:
        own = measured(wire, servers, CLIENT, SERVER, kind="udp_rr")
        by_log = measured(wire, servers, CLIENT, SERVER, kind="udp_rr", tool="sockperf")
        by_summary = measured(
            wire,
            servers,
            CLIENT,
            SERVER,
            kind="command",
            server_argv=["sockperf", "server", "-i", "{target}", "-p", "18000"],
            argv=["sockperf", "ping-pong", "-i", "{target}", "-p", "18000", "-t", "1"],
            pattern=r"percentile 50\.000 =\s+([\d.]+)",
            scale=2,  # what sockperf prints is half of the round trip
            metric="rtt_us",
        )
    medians = [statistics.median(figures["rtt_us"]) for figures in (own, by_log, by_summary)]
    assert by_log["lost"] == [0] and len(by_log["rtt_us"]) > 100
    assert len(by_summary["rtt_us"]) == 1
    # Processors may be shared with other tests, which moves each of them; half or double they must not be.
    assert max(medians[0], medians[1]) < 4 * min(medians[0], medians[1]), medians
    assert medians[2] < 10 * medians[1], medians


def test_sockperf_agrees_with_our_client() -> None:
    run_in_box(sockperf_agrees_with_our_client, USERS[0])


def failures_name_their_cause() -> None:
    with baseline.floor_network() as wire, Servers(wire) as servers:
        with pytest.raises(ProbeFailure, match=r"exchange\.py ended with status 1: .*refused"):
            run_program(wire, CLIENT, client_argv("exchange.py", "tcp_rr", "198.18.4.2", 9, 0, 64, 1, 0, 0, 1), 10)
        with pytest.raises(ProbeFailure, match=r"server echo\.py ended at node/floor_server: .*assign"):
            servers.ensure(SERVER, client_argv("echo.py", "udp", "192.0.2.1", ECHO_PORT))
        with pytest.raises(ProbeFailure, match="cannot be started"):
            servers.ensure(SERVER, ["/no/such/program"])
        with pytest.raises(ProbeFailure, match=r"gave no result within 0\.2 s"):
            run_program(wire, CLIENT, ["sleep", "5"], 0.2)
        servers.echo(SERVER, "udp", ECHO_PORT)
        (process,) = servers.processes()
        assert len(server_sockets("floor_server")) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert measured(wire, servers, CLIENT, SERVER, kind="udp_rr")["lost"] == [0]  # started anew
    assert servers.processes() == []


def test_failures_name_their_cause() -> None:
    run_in_box(failures_name_their_cause, USERS[0])


def floors_are_measured() -> None:
    figures = baseline.measure()
    assert 2 < figures["tool_floor_us"] < 5000
    assert 2 < figures["sockperf_floor_us"] < 5000
    assert figures["tool_floor_us"] < figures["http_floor_us"] < 50_000
    # Encapsulation is work: the kernel's own overlay is never the shorter way.
    assert 1.0 < figures["kernel_path"]["ratio"] < 5
    assert baseline.measure() is figures
    assert not any(file.name.startswith(("floor_", "kernel_")) for file in netns.DIRECTORY.iterdir())


@pytest.mark.parametrize("user", USERS)
def test_floors_are_measured(user: str) -> None:
    run_in_box(floors_are_measured, user)


def switches_are_moved_and_come_back() -> None:
    with cluster(plan_of("single_switch", [pod("a"), pod("b")])) as testbed:
        threads = [int(task.name) for pid in _switch_pids(testbed) for task in Path(f"/proc/{pid}/task").iterdir()]
        everywhere = os.sched_getaffinity(0)
        with SwitchPlacement() as switches:
            switches.together()
            assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {
                frozenset({measuring_processor()})
            }
        assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {frozenset(everywhere)}


def _switch_pids(testbed: Testbed) -> list[int]:
    return [int((switch.directory / "vswitchd.pid").read_text()) for switch in testbed.switches.values()]


def test_switches_are_moved_and_come_back() -> None:
    run_in_box(switches_are_moved_and_come_back, USERS[0])
