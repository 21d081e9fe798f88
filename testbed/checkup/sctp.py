"""SCTP Services on Open vSwitch's userspace datapath, which translates SCTP's addresses and not its ports.

Found with Open vSwitch 3.1 (docs/services.md); the kernel's datapath and the kernels' proxies translate both.
"""

from __future__ import annotations

from collections.abc import Iterable

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.cluster.values import ServicePort

_REMEDY = "use {ports}, or a kernel proxy (testbed up --set proxies=[nftables]), or the kernel's datapath"


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each SCTP port that reaches its endpoints at another port than theirs."""
    ports = [port for port in cluster.state.service_ports if port.protocol == "SCTP"]
    if not ports or cluster.state.config.proxy != "openflow" or not cluster.nodes:
        return []
    datapath = cluster.switches[cluster.nodes[0].name].appctl("dpif/show")
    return judge(ports) if is_userspace(datapath) else []


def is_userspace(text: str) -> bool:
    """From what ``dpif/show`` prints: ``netdev@ovs-netdev: ...``, for the kernel's ``system@ovs-system: ...``."""
    return text.startswith("netdev@")


def judge(ports: Iterable[ServicePort]) -> list[Finding]:
    """From the SCTP ports of Services that bridges on a userspace datapath balance."""
    found = []
    for port in ports:
        targets = sorted({endpoint.target_port for endpoint in port.cluster_endpoints} - {port.service_port})
        evidence = "SCTP's ports are not translated by the userspace datapath"
        if targets:
            what = f"Service {port.service_key} port {port.service_port}: nothing answers at the cluster IP"
            what += f", because its targetPort is {', '.join(map(str, targets))}"
            remedy = _REMEDY.format(ports="the same number as port and targetPort")
            found.append(Finding("sctp", "fault", what, evidence, remedy))
        if port.node_port is not None:
            what = f"Service {port.service_key}: nothing answers at node port {port.node_port}"
            remedy = _REMEDY.format(ports="the cluster IP")
            found.append(Finding("sctp", "fault", what, evidence, remedy))
    return found or [Finding("sctp", "ok", "SCTP ports that need no translation")]
