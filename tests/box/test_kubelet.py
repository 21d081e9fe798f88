"""Pods that come and go in a running cluster: made and ended completely, and ready only when they are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster import identity
from testbed.cluster.kinds import POD
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.values import MODES
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box


def _reaches(testbed: Testbed, source: str, target: str) -> bool:
    address = str(testbed.address(parse_endpoint(target)))
    ping = testbed.popen(parse_endpoint(source), ["ping", "-n", "-q", "-c", "2", "-i", "0.1", "-W", "2", address])
    return ping.wait(20) == 0


def _deployment(replicas: int, **container: object) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "pause", **container}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def _web_pods(testbed: Testbed) -> list[str]:
    names = [wire["metadata"]["name"] for wire in testbed.store.list(POD).items]
    return [name for name in names if name.startswith("web-")]


def pods_come_and_go() -> None:
    with cluster(plan_of("single_switch", [pod("client", "n1")], nodes=2)) as testbed:
        testbed.apply([_deployment(4)])
        testbed.wait_settled()
        testbed.wait_pods_ready()
        names = _web_pods(testbed)
        assert len(names) == 4
        assert {testbed.store.get(POD, name)["spec"]["nodeName"] for name in names} == {"n1", "n2"}
        for mode in MODES:
            testbed.set_mode(mode)
            assert all(_reaches(testbed, "client", name) for name in names)
        assert testbed.net.get(names[0]).cmd("hostname").strip() == names[0], "a late pod is a Mininet host too"
        ports = sum(len(switch.ports) for switch in testbed.switches.values())

        removed = {name: str(testbed.address(parse_endpoint(name))) for name in names}
        testbed.scale("default", "web", 1)
        testbed.wait_settled()
        kept = _web_pods(testbed)
        assert len(kept) == 1
        assert sum(len(switch.ports) for switch in testbed.switches.values()) == ports - 3
        for name in set(names) - set(kept):
            assert not Path("/run/netns", identity.pod_namespace("default", name)).exists()
            assert not Path("/run/places", identity.pod_namespace("default", name)).exists()
            assert name not in testbed.net
        # What the ended pods had is free for new ones, and works for them.
        testbed.scale("default", "web", 4)
        testbed.wait_settled()
        again = {name: str(testbed.address(parse_endpoint(name))) for name in _web_pods(testbed)}
        assert set(again.values()) == set(removed.values())
        assert all(_reaches(testbed, "client", name) for name in again)


@pytest.mark.parametrize("user", USERS[-1:])  # the stricter
def test_a_deployments_pods_come_and_go_without_a_trace(user: str) -> None:
    run_in_box(pods_come_and_go, user)


def readiness_follows_the_program() -> None:
    with cluster(plan_of("single_switch", [pod("client", "n1")], nodes=2)) as testbed:
        said = Path("/run/said/web-is-ready")
        said.parent.mkdir()
        probe = {"exec": {"command": ["test", "-e", str(said)]}, "failureThreshold": 1, "periodSeconds": 1}
        mount = {"name": "said", "mountPath": str(said.parent)}
        web = _deployment(2, readinessProbe=probe, volumeMounts=[mount])
        volume = {"name": "said", "hostPath": {"path": str(said.parent)}}
        web["spec"]["template"]["spec"]["volumes"] = [volume]
        testbed.apply([web])
        testbed.wait_settled()
        assert not any(is_ready(testbed.store.get(POD, name)) for name in _web_pods(testbed))
        said.touch()
        testbed.wait_pods_ready()
        with testbed.store.watch(POD) as watch:
            said.unlink()
            changed = {event.object["metadata"]["name"] for event in watch.next(10)}
        assert changed <= set(_web_pods(testbed))
        assert changed


def test_a_pod_is_ready_when_its_probe_says_so() -> None:
    run_in_box(readiness_follows_the_program, "root")


def one_bad_pod_stops_nobody() -> None:
    with cluster(plan_of("single_switch", [pod("client", "n1")], nodes=2)) as testbed:
        bad = pod("bad", "n2", containers=[{"name": "main", "image": "pause", "command": ["/no/such/program"]}])
        testbed.apply([bad, pod("good", "n2")])
        testbed.wait_settled()
        assert testbed.store.get(POD, "good")["status"]["phase"] == "Running"
        assert _reaches(testbed, "client", "good")
        assert "/no/such/program" in str(testbed.store.get(POD, "bad")["status"]["containerStatuses"][0])
        for name in ("bad", "good"):
            testbed.store.delete(POD, name)
        testbed.wait_settled()
        assert [wire["metadata"]["name"] for wire in testbed.store.list(POD).items] == ["client"]
        links = subprocess.run(["ip", "-netns", "s-n2", "-o", "link"], capture_output=True, text=True).stdout
        assert "good-" not in links
        assert "bad-" not in links


def a_pod_takes_the_place_of_another() -> None:
    stubborn = {"name": "main", "image": "pause", "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]}
    with cluster(plan_of("single_switch", [pod("client", "n1")], nodes=2)) as testbed:
        testbed.apply([pod("same", "n2", containers=[stubborn])])
        testbed.wait_settled()
        address = testbed.address(parse_endpoint("same"))
        # At once: its name and its address are free, but its program is still being ended.
        testbed.store.delete(POD, "same", grace_period_s=0)
        testbed.apply([pod("same", "n2"), pod("other", "n2")])
        testbed.wait_settled()
        assert address in {testbed.address(parse_endpoint(name)) for name in ("same", "other")}
        assert _reaches(testbed, "client", "same")
        assert _reaches(testbed, "client", "other")


def test_a_pod_may_take_name_and_address_of_one_that_is_still_ending() -> None:
    run_in_box(a_pod_takes_the_place_of_another, "root")


def test_a_pod_whose_program_does_not_start_stops_nobody() -> None:
    run_in_box(one_bad_pod_stops_nobody, "root")
