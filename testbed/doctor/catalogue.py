"""The programs and Python packages the testbed uses, with the Debian package that brings each and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """A program. ``always``: no experiment runs without it; the others are needed by those that use them.

    ``file`` is where it is, for a part of a program that is no program itself.
    """

    name: str
    package: str
    purpose: str
    version_arguments: tuple[str, ...] = ("--version",)
    always: bool = False
    file: str = ""


_NGINX_MODULES = "/usr/lib/nginx/modules/"
LUA_MODULE = "ngx_http_lua_module.so"

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
        Tool("nginx", "nginx-light", "images nginx and ingress-nginx/controller", ("-v",)),
        Tool(LUA_MODULE, "libnginx-mod-http-lua", "image ingress-nginx/controller", file=_NGINX_MODULES + LUA_MODULE),
        Tool("redis-server", "redis-server", "image redis"),
        Tool("curl", "curl", "image curl, and the walk-throughs"),
        Tool("knotd", "knot", "image cluster-dns"),
        Tool("kdig", "knot-dnsutils", "image dnsutils, and testbed doctor --cluster"),
        Tool("conntrack", "conntrack", "testbed trace through the nodes' kernels"),
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
