"""Services on whole clusters: the same cases for every proxy that this machine has, in both modes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from testbed.cluster.kinds import SERVICE
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import MODES, Mode, ProxyName
from testbed.network.netns import entered
from testbed.network.openvswitch import revise_cached_decisions
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import EndpointRef
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box
from tests.box.proxy_wires import kernel_proxies
from tests.box.service_cases import Pod, World, run_cases, serve
from tests.box.service_traffic import servers

pytestmark = pytest.mark.box

# Two pods on the first node, one on each other.
_PODS = {"a": "n1", "b": "n1", "c": "n2", "d": "n3"}


def world_of(testbed: Testbed, proxy: ProxyName) -> World:
    """The cluster as the cases see it."""
    pods = {
        each.name: Pod(
            each.name, each.node_name, each.pod_ip, testbed.namespace(EndpointRef("pod", each.namespace, each.name))
        )
        for each in testbed.state.pods
    }
    outside = testbed.fabric.of_kind("ext")[0].name

    def forget() -> None:
        # What a bridge has confirmed holds for new decisions; those that it has cached follow when they are revised.
        if proxy == "openflow":
            revise_cached_decisions(testbed.switches.values())

    return World(
        testbed.store,
        testbed.state.node_by_name,
        pods,
        outside,
        str(testbed.fabric.address(outside).ip),
        lambda changed: testbed.wait_programmed(),
        forget,
        proxy,
    )


def _deployment(replicas: int) -> JsonObject:
    container = {"name": "main", "image": "whoami", "ports": [{"name": "http", "containerPort": 8000}]}
    container["readinessProbe"] = {"tcpSocket": {"port": "http"}, "periodSeconds": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "whoami", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "whoami"}},
            "template": {"metadata": {"labels": {"app": "whoami"}}, "spec": {"containers": [container]}},
        },
    }


def _who_answers(world: World, address: str, times: int) -> set[str]:
    """The pods that answer HTTP requests to a Service, each request on a connection of its own."""
    client = next(iter(world.pods.values())).namespace
    found = set()
    for _ in range(times):
        with entered(client):
            sock = socket.socket()
        with sock:
            sock.settimeout(3)
            sock.connect((address, 80))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with sock.makefile("rb") as answer:
                found.add(answer.read().partition(b"\r\n\r\n")[2].split()[0].decode())
    return found


def pods_are_followed(testbed: Testbed, world: World) -> None:
    """A Deployment behind a Service with a named target port: who is scaled up serves, who is scaled down does not."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "whoami", "namespace": "default"},
        "spec": {"selector": {"app": "whoami"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    stored, _ = testbed.apply([service, _deployment(2)])
    address = stored["spec"]["clusterIP"]
    for replicas in (2, 4, 1):
        testbed.scale("default", "whoami", replicas)
        testbed.wait_settled()
        testbed.wait_pods_ready()
        testbed.wait_settled()
        serving = {pod.name for pod in testbed.state.pods if pod.name.startswith("whoami-")}
        assert len(serving) == replicas
        assert _who_answers(world, address, 20 * replicas) == serving
    testbed.store.delete(SERVICE, "whoami", "default")
    testbed.scale("default", "whoami", 0)
    testbed.wait_settled()


def all_cases(
    mode: Mode, proxies: Sequence[ProxyName], datapath: str = "auto", *more: Callable[[Testbed, World], None]
) -> None:
    """All cases, and ``more``, with each of the proxies in turn, on one cluster."""
    plan = plan_of("single_switch", [pod(name, node) for name, node in _PODS.items()], nodes=3, ext=1)
    failures = []
    with cluster(plan, datapath) as testbed, servers() as running:
        serve(world_of(testbed, "openflow"), running)
        testbed.set_mode(mode)
        for proxy in proxies:
            print(f"{mode}, {proxy}", flush=True)
            testbed.set_proxy(proxy)
            world = world_of(testbed, proxy)
            for check in (run_cases, *(partial(each, testbed) for each in (pods_are_followed, *more))):
                try:
                    check(world)
                except Exception as error:
                    failures.append(f"-- {mode}, {proxy}\n{type(error).__name__}: {error}")
        assert not failures, "\n".join(failures)


def overlay() -> None:
    all_cases("overlay", ["openflow", *kernel_proxies()])


def routed() -> None:
    all_cases("routed", ["openflow", *kernel_proxies()])


@pytest.mark.parametrize("mode", MODES)
def test_services_behave_alike_by_every_proxy(mode: Mode) -> None:
    body: Callable[[], None] = overlay if mode == "overlay" else routed
    print(run_in_box(body, USERS[0], timeout_s=200))
