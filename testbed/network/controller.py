"""The processes that program the cluster network: the OpenFlow controller, and the nodes' kernel Service proxies."""

from __future__ import annotations

from pathlib import Path

from testbed.network.api_process import ApiProcess
from testbed.network.wiring import CONTROLLER_ADDRESS

OPENFLOW_PORT = 6653
LOG = Path("/run/controller.log")
PROXY_LOG = Path("/run/proxy.log")


def controller_process(api_url: str) -> ApiProcess:
    """The controller, ready when switches can connect: one that is refused waits a second before it tries again."""
    listen = f"{CONTROLLER_ADDRESS}:{OPENFLOW_PORT}"
    return ApiProcess("the controller", "controllers.ryu_app", api_url, LOG, ("--listen", listen))


def proxy_process(api_url: str) -> ApiProcess:
    """The kernel proxies of all nodes; with ``proxy: openflow`` in the settings it keeps the kernels free of rules."""
    return ApiProcess("the Service proxy", "testbed.proxy", api_url, PROXY_LOG)
