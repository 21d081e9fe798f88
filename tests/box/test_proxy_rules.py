"""The kernel proxies with real packets on wires of their own; with the bridges of whole clusters: test_services.py."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from testbed.cluster.kinds import ENDPOINT_SLICE, SERVICE
from testbed.cluster.objects import object_name
from tests.box.harness import USERS, run_in_box
from tests.box.proxy_wires import kernel_proxies, proxy_process, proxy_world, set_proxy
from tests.box.service_cases import World, ready, run_cases, serve, service_wire, slice_wire
from tests.box.service_traffic import ask, servers

pytestmark = pytest.mark.box

_SERVICES = 80


def every_case_with_every_proxy() -> None:
    with proxy_world("openflow") as (world, url), servers() as running, proxy_process(url):
        serve(world, running)
        for proxy in kernel_proxies():
            print(proxy, flush=True)
            set_proxy(world, proxy)
            run_cases(replace(world, proxy=proxy))
            many_services(world)


def many_services(world: World) -> None:
    """More rules at once than an ordinary user's transaction holds: over 2,000 with iptables, of up to 950 bytes."""
    config = {"clientIP": {"timeoutSeconds": 600}}
    affinity: dict[str, Any] = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    services = [world.store.create(service_wire(f"many-{number}", **affinity)) for number in range(_SERVICES)]
    slices = [world.store.create(slice_wire(world, service, ready(*world.pods))) for service in services]
    world.confirm([*services, *slices])
    addresses = [service["spec"]["clusterIP"] for service in services]
    assert all(ask("n1", address, 80, protocol) for address in addresses for protocol in ("TCP", "UDP"))

    fewer = [world.store.replace(slice_wire(world, service, ready("a"))) for service in services]
    world.confirm(fewer)
    assert {ask("n2", address, 80).server for address in addresses} == {"a"}
    for kind, objects in ((ENDPOINT_SLICE, slices), (SERVICE, services)):
        gone = [world.store.delete(kind, object_name(each), "default") for each in objects]
    world.confirm(gone)
    for namespace in world.nodes:
        rules = subprocess.run(
            ["ip", "netns", "exec", namespace, "nft", "list", "ruleset"],
            capture_output=True, text=True, check=True, timeout=20,
        ).stdout  # fmt: skip
        assert "many-" not in rules, rules


@pytest.mark.parametrize("user", USERS)
def test_services_behave(user: str) -> None:
    print(run_in_box(every_case_with_every_proxy, user))
