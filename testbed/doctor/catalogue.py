"""The programs and Python packages the testbed uses, with the Debian package that brings each and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """A program. ``always``: no experiment runs without it; the others are needed by those that use them."""

    name: str
    package: str
    purpose: str
    version_arguments: tuple[str, ...] = ("--version",)
    always: bool = False


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("ovs-vswitchd", "openvswitch-switch", "the nodes' bridges", always=True),
        Tool("ovsdb-server", "openvswitch-switch", "the bridges' settings", always=True),
        Tool("ovs-vsctl", "openvswitch-switch", "the bridges' settings", always=True),
        Tool("ovsdb-tool", "openvswitch-switch", "the bridges' settings", always=True),
        Tool("ovs-ofctl", "openvswitch-switch", "reading flow tables back", always=True),
        Tool("mnexec", "mininet", "processes in Mininet hosts", (), always=True),
        Tool("ip", "iproute2", "interfaces and routes", ("-V",), always=True),
        Tool("tc", "iproute2", "link properties", ("-V",), always=True),
        Tool("nsenter", "util-linux", "processes in nodes and pods", always=True),
        Tool("sockperf", "sockperf", "probe udp_rr with tool: sockperf"),
        Tool("ping", "iputils-ping", "probe icmp_rtt", ("-V",)),
        Tool("iperf3", "iperf3", "probe throughput"),
        Tool("busybox", "busybox", "image busybox", ()),
        Tool("nginx", "nginx-light", "image nginx", ("-v",)),
        Tool("knotd", "knot", "image cluster-dns"),
        Tool("nft", "nftables", "refusing connections to Services without endpoints", always=True),
        Tool("iptables-restore", "iptables", "proxy: iptables, proxy: ipvs"),
        Tool("ipset", "ipset", "proxy: ipvs"),
        Tool("ipvsadm", "ipvsadm", "proxy: ipvs", ()),
        Tool("sysctl", "procps", "proxy: ipvs"),
        Tool("ethtool", "ethtool", "looking at offloads by hand"),
        Tool("kubectl", "kubernetes-client", "driving a running cluster", ("version", "--client")),
    )
}


@dataclass(frozen=True)
class PythonPackage:
    name: str
    purpose: str


# Any one of OPENFLOW_LIBRARIES is enough.
PYTHON_PACKAGES = (PythonPackage("mininet", "the emulator"),)
OPENFLOW_LIBRARIES = (PythonPackage("ryu", "OpenFlow controller"), PythonPackage("os-ken", "OpenFlow controller"))

SETUP_COMMAND = "make setup"


def install_command(packages: set[str]) -> str:
    """One command for all missing Debian packages."""
    return "sudo apt-get install -y " + " ".join(sorted(packages))
