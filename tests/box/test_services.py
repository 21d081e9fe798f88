"""Services on whole clusters: the same cases for every proxy that this machine has, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.cluster.values import MODES, Mode, ProxyName
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
            with ThreadPoolExecutor(len(testbed.switches)) as pool:
                list(pool.map(lambda switch: switch.appctl("revalidator/wait"), testbed.switches.values()))

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


def every_proxy(mode: Mode) -> None:
    plan = plan_of("single_switch", [pod(name, node) for name, node in _PODS.items()], nodes=3, ext=1)
    failures = []
    with cluster(plan) as testbed, servers() as running:
        serve(world_of(testbed, "openflow"), running)
        testbed.set_mode(mode)
        proxies: list[ProxyName] = ["openflow", *kernel_proxies()]
        for proxy in proxies:
            print(f"{mode}, {proxy}", flush=True)
            testbed.set_proxy(proxy)
            try:
                run_cases(world_of(testbed, proxy))
            except AssertionError as error:
                failures.append(f"-- {mode}, {proxy}\n{error}")
        assert not failures, "\n".join(failures)


def overlay() -> None:
    every_proxy("overlay")


def routed() -> None:
    every_proxy("routed")


@pytest.mark.parametrize("mode", MODES)
def test_services_behave_alike_by_every_proxy(mode: Mode) -> None:
    body: Callable[[], None] = overlay if mode == "overlay" else routed
    print(run_in_box(body, USERS[0], timeout_s=200))
