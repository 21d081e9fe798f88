"""Services on whole clusters with packets that programs seldom send, for every proxy of this machine, in both modes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.cluster.values import MODES, Mode
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box
from tests.box.proxy_wires import kernel_proxies
from tests.box.service_packets import run_packet_cases
from tests.box.test_services import world_of

pytestmark = pytest.mark.box

_PODS = {"a": "n1", "b": "n1", "c": "n2", "d": "n3"}


def every_proxy(mode: Mode) -> None:
    plan = plan_of("single_switch", [pod(name, node) for name, node in _PODS.items()], nodes=3, ext=1)
    with cluster(plan) as testbed:
        testbed.set_mode(mode)
        for proxy in ("openflow", *kernel_proxies()):
            print(f"{mode}, {proxy}", flush=True)
            testbed.set_proxy(proxy)
            run_packet_cases(world_of(testbed, proxy))


def overlay() -> None:
    every_proxy("overlay")


def routed() -> None:
    every_proxy("routed")


@pytest.mark.parametrize("mode", MODES)
def test_returning_clients_errors_and_sctp(mode: Mode) -> None:
    body: Callable[[], None] = overlay if mode == "overlay" else routed
    print(run_in_box(body, USERS[0]))
