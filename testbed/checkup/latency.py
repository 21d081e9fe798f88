"""How long a packet takes between pods, beside the fabric alone, and what the difference consists of. Information."""

from __future__ import annotations

from testbed.checkup.findings import Finding
from testbed.checkup.pings import Ping, pairs, ping_all
from testbed.checkup.running import RunningCluster
from testbed.cluster.values import VXLAN_OVERHEAD_BYTES, Mode

_SHORT = ("-c", "20", "-i", "0.01", "-w", "1")
_BRIDGES = "two bridges (each: the flow pipeline, and a veth into it and out of it)"


def check(cluster: RunningCluster) -> list[Finding]:
    """One line about the first pair of nodes whose pods reach each other."""
    for first, second in pairs(cluster):
        found = ping_all({"pods": (first.namespace, second.address)}, *_SHORT)
        if found["pods"].answered:
            fabric = ping_all({"fabric": (first.node.name, second.node.node_ip)}, *_SHORT)["fabric"]
            return judge(f"{first.name} -> {second.name}", found["pods"], fabric, cluster.state.config.mode)
    return []


def judge(pair: str, pods: Ping, fabric: Ping, mode: Mode) -> list[Finding]:
    """From the round trips between two pods and between their nodes."""
    if pods.average_ms is None or fabric.average_ms is None:
        return []
    what = f"{pair}: round trip {pods.average_ms:.2f} ms in mode {mode}, {fabric.average_ms:.2f} ms of it the fabric"
    if mode == "overlay":
        evidence = f"the rest: {_BRIDGES}, VXLAN ({VXLAN_OVERHEAD_BYTES} bytes more, two more kernel look-ups)"
        remedy = "if that is high, try it routed: testbed up TOPOLOGY --set modes=[routed]; testbed run measures both"
    else:
        evidence = f"the rest: {_BRIDGES}, the nodes' kernels as routers"
        remedy = "if that is high, look at links with delay, and at what else this machine does"
    return [Finding("latency", "info", what, evidence, remedy)]
