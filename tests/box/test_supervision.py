"""Each component is killed while packets flow: it is told, mended, and nothing that does not need it is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from testbed.cluster.identity import BRIDGE
from testbed.cluster.kinds import EVENT, SERVICE
from testbed.network.openvswitch import DAEMON_PID_FILE, DATABASE_PID_FILE, VSwitch
from testbed.network.supervisor import DIED, RESTARTED, supervised
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

_INTERVAL_S = 0.01
_RESTART_S = 15.0
# What Open vSwitch needs to start, find its ports and get its flows; here it is some 0.2 s.
_SWITCH_GONE_S = 3.0

_LABELS = {"app": "web"}
_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": _LABELS, "ports": [{"port": 80, "targetPort": 8000}]},
}
# One request after the other to a Service, each on a connection of its own; a line for each.
_REQUESTS = """
import http.client, sys
while True:
    connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=5)
    try:
        connection.request("GET", "/")
        print(connection.getresponse().status, flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    connection.close()
"""


class Pinging:
    """A ping every 10 ms from one pod to another, until it is stopped."""

    def __init__(self, testbed: Testbed, source: str, target: str) -> None:
        address = str(testbed.address(parse_endpoint(target)))
        argv = ["ping", "-n", "-i", str(_INTERVAL_S), "-W", "3", address]
        self._process = testbed.popen(parse_endpoint(source), argv, stdout=subprocess.PIPE, text=True)
        self._answered: list[int] = []

    def wait_answers(self, number: int) -> None:
        """Return when so many further answers have come."""
        wanted = len(self._answered) + number
        assert self._process.stdout is not None
        while len(self._answered) < wanted:
            line = self._process.stdout.readline()
            assert line, "ping has ended"
            self._note(line)

    def longest_gap_s(self) -> float:
        """Stop; returns how long no ping was answered that had been sent, at the longest."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        summary = self._process.stdout.read()
        self._process.wait()
        for line in summary.splitlines():
            self._note(line)
        assert not re.search(r"[1-9]\d* duplicates", summary), summary
        answered = sorted(self._answered)
        return _INTERVAL_S * max(later - earlier - 1 for earlier, later in pairwise(answered))

    def _note(self, line: str) -> None:
        if found := re.search(r"icmp_seq=(\d+) ttl", line):
            self._answered.append(int(found[1]))


@contextmanager
def requests(testbed: Testbed, source: str, address: str) -> Iterator[list[str]]:
    """Requests to a Service meanwhile; afterwards the list has a line for each."""
    argv = [sys.executable, "-c", _REQUESTS, address]
    process = testbed.popen(parse_endpoint(source), argv, stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stdout is not None
    lines.append(process.stdout.readline().strip())
    yield lines
    process.send_signal(signal.SIGTERM)
    lines += process.stdout.read().split()
    process.wait()


def events_of(testbed: Testbed, name: str) -> list[str]:
    """The reasons of what was told of a component."""
    return [event["reason"] for event in testbed.store.list(EVENT).items if name in event["message"]]


def kill_and_wait(testbed: Testbed, name: str, pid: int, meanwhile: Callable[[], object] = bool) -> float:
    """Kill a component and return how long it took until it was told that it runs again, in s.

    ``meanwhile`` is called as soon as it is dead.
    """
    with testbed.store.watch(EVENT) as watch:
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        meanwhile()
        reasons: list[str] = []
        while RESTARTED not in reasons:
            events = watch.next(max(0.0, began + _RESTART_S - time.monotonic()))
            assert events, f"{name} was not started again; told: {reasons}"
            reasons += [event.object["reason"] for event in events if name in event.object["message"]]
        assert reasons == [DIED, RESTARTED]
        return time.monotonic() - began


def a_new_pod_is_reached(testbed: Testbed, name: str, pinging: Pinging) -> str:
    """Everything works again: kubelet, Open vSwitch with its database, and the controller. Returns how long it took."""
    began = time.monotonic()
    testbed.apply([{**pod(name, "n2"), "metadata": {"name": name, "namespace": "default"}}])
    testbed.wait_pods_ready()
    testbed.wait_settled()
    fresh = Pinging(testbed, "client", name)
    fresh.wait_answers(3)
    fresh.longest_gap_s()
    pinging.wait_answers(3)
    return f"a new pod was reached after {time.monotonic() - began:.2f} s"


def ports(switch: VSwitch) -> dict[str, int]:
    """The bridge's ports with their OpenFlow numbers."""
    text = switch.ofctl("dump-ports-desc", BRIDGE)
    return {name: int(number) for number, name in re.findall(r"^ (\d+)\(([^)]+)\): addr", text, re.MULTILINE)}


def each_component_is_mended() -> None:
    server = {"labels": _LABELS}
    whoami = [{"name": "main", "image": "whoami", "ports": [{"containerPort": 8000}]}]
    pods = [pod("client", "n1"), pod("near", "n1", containers=whoami), pod("web", "n2", containers=whoami)]
    for one in pods[1:]:
        one["metadata"] |= server
    took: dict[str, str] = {}
    with cluster(plan_of("single_switch", [*pods, _SERVICE], nodes=2)) as testbed, supervised(testbed):
        testbed.wait_pods_ready()
        testbed.wait_settled()
        service = testbed.store.get(SERVICE, "web", "default")["spec"]["clusterIP"]
        switch = testbed.switches["n2"]

        # The controller: bridges keep their flows, so nothing is lost, neither between pods nor to Services.
        across = Pinging(testbed, "client", "web")
        across.wait_answers(5)
        with requests(testbed, "client", service) as answers:
            restart_s = kill_and_wait(testbed, "the controller", testbed.controller.pid)
            back = a_new_pod_is_reached(testbed, "after-controller", across)
        assert set(answers) == {"200"} and len(answers) > 20, answers
        gap_s = across.longest_gap_s()
        assert gap_s == 0
        took["controller"] = (
            f"restarted in {restart_s:.3f} s, {back}, gap {gap_s:.2f} s, {len(answers)} requests answered"
        )

        # One node's ovs-vswitchd: only its own pods are away, until it has its ports and flows again.
        before = ports(switch)
        across, beside = Pinging(testbed, "client", "web"), Pinging(testbed, "client", "near")
        across.wait_answers(5)
        restart_s = kill_and_wait(testbed, "ovs-vswitchd of n2", _pid(switch, DAEMON_PID_FILE))
        across.wait_answers(20)
        assert ports(switch) == before
        back = a_new_pod_is_reached(testbed, "after-vswitchd", across)
        gap_s = across.longest_gap_s()
        assert 0 < gap_s < _SWITCH_GONE_S
        assert beside.longest_gap_s() == 0
        took["ovs-vswitchd"] = f"restarted in {restart_s:.3f} s, {back}, gap {gap_s:.2f} s"

        # Its database: packets of the node may wait for it, but none is lost.
        across = Pinging(testbed, "client", "web")
        across.wait_answers(5)
        database = _pid(switch, DATABASE_PID_FILE)
        restart_s = kill_and_wait(testbed, "ovsdb-server of n2", database, lambda: switch.vsctl("list-br"))
        back = a_new_pod_is_reached(testbed, "after-ovsdb", across)
        gap_s = across.longest_gap_s()
        assert gap_s == 0
        took["ovsdb-server"] = f"restarted in {restart_s:.3f} s, {back}, gap {gap_s:.2f} s"

        # The kernels' Service proxies: the rules stay.
        testbed.set_proxy("nftables")
        across = Pinging(testbed, "client", "web")
        with requests(testbed, "client", service) as answers:
            restart_s = kill_and_wait(testbed, "the Service proxy", testbed.proxy.pid)
            back = a_new_pod_is_reached(testbed, "after-proxy", across)
        assert set(answers) == {"200"} and len(answers) > 20, answers
        assert across.longest_gap_s() == 0
        took["Service proxy"] = f"restarted in {restart_s:.3f} s, {back}, {len(answers)} requests answered"

        testbed.set_proxy("openflow")
        took["all at once, twice"] = everything_is_mended(testbed, switch)

        # One that is stopped on purpose has not died.
        testbed.proxy.stop()
        testbed.wait_settled()
        assert sorted(events_of(testbed, "the Service proxy")) == [DIED, RESTARTED]
    for name, text in took.items():
        print(f"{name}: {text}")


def everything_is_mended(testbed: Testbed, switch: VSwitch) -> str:
    """Several die at once, and again as soon as they are back; what needs none of them goes on."""
    began = time.monotonic()
    names = {"the controller", "ovs-vswitchd of n2", "the parent of the pods' processes"}
    nodes = Pinging(testbed, "node/n1", "node/n2")
    nodes.wait_answers(5)
    for _ in range(2):
        parent = testbed.containers.parent_pid
        assert parent is not None
        with testbed.store.watch(EVENT) as watch:
            for pid in (testbed.controller.pid, _pid(switch, DAEMON_PID_FILE), parent):
                os.kill(pid, signal.SIGKILL)
            told: set[tuple[str, str]] = set()
            deadline = time.monotonic() + _RESTART_S
            while not told >= {(name, reason) for name in names for reason in (DIED, RESTARTED)}:
                events = watch.next(max(0.0, deadline - time.monotonic()))
                assert events, told
                said = [(event.object["message"], event.object["reason"]) for event in events]
                told |= {(name, reason) for text, reason in said for name in names if text.startswith(name)}
    testbed.wait_pods_ready()
    testbed.wait_settled()
    across = Pinging(testbed, "client", "web")
    across.wait_answers(3)
    across.longest_gap_s()
    assert nodes.longest_gap_s() == 0
    return f"everything works again {time.monotonic() - began:.2f} s after the first death"


def _pid(switch: VSwitch, file: str) -> int:
    return int((switch.directory / file).read_text())


def test_each_component_that_is_killed_is_told_and_mended() -> None:
    print(run_in_box(each_component_is_mended, USERS[-1]))
