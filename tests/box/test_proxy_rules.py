"""The kernel proxies with real packets on wires of their own; with the bridges of whole clusters: test_services.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.box.harness import USERS, run_in_box
from tests.box.proxy_wires import kernel_proxies, proxy_process, proxy_world, set_proxy
from tests.box.service_cases import run_cases, serve
from tests.box.service_traffic import servers

pytestmark = pytest.mark.box


def every_case_with_every_proxy() -> None:
    with proxy_world("openflow") as (world, url), servers() as running, proxy_process(url):
        serve(world, running)
        for proxy in kernel_proxies():
            print(proxy, flush=True)
            set_proxy(world, proxy)
            run_cases(replace(world, proxy=proxy))


@pytest.mark.parametrize("user", USERS)
def test_services_behave(user: str) -> None:
    print(run_in_box(every_case_with_every_proxy, user))
