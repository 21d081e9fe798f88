"""``hostPort``: a port of the node that leads to a pod on it, by the node's kernel, whatever balances Services.

As the CNI plugin portmap does (https://www.cni.dev/plugins/current/meta/portmap/): the destination is rewritten, the
client's address is kept, but for clients whose answers would not come back by way of the node: pods (a real cluster's
pods leave for a node's address under their own node's), and the node's localhost.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from testbed.cluster import identity
from testbed.cluster.objects import JsonObject, uses_host_network
from testbed.cluster.values import IPNetwork
from testbed.errors import RunError
from testbed.network import netns

_TABLE = "testbed_host_ports"
_NFT_S = 30


@dataclass(frozen=True, order=True)
class HostPort:
    """A node's port that leads to a pod's; ``host_ip`` is empty for all of the node's addresses."""

    protocol: str
    host_ip: str
    host_port: int
    pod_ip: str
    container_port: int


def host_ports(pod: JsonObject) -> list[HostPort]:
    """The ports of its node that a pod asks for. One on its node's network has its ports there anyway.

    A ``hostIP`` that is no address leads nowhere: it would spoil the rules of all other pods of the node.
    """
    if uses_host_network(pod):
        return []
    return [
        HostPort(
            (entry.get("protocol") or "TCP").lower(),
            "" if entry.get("hostIP") in (None, "", "0.0.0.0") else str(entry["hostIP"]),
            int(entry["hostPort"]),
            str(pod["status"]["podIP"]),
            int(entry["containerPort"]),
        )
        for container in (*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ()))
        for entry in container.get("ports") or ()
        if entry.get("hostPort") and _is_address(entry.get("hostIP") or "0.0.0.0")
    ]


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def rules(ports: Iterable[HostPort], cluster_cidr: IPNetwork) -> str:
    """What nft(8) is told to replace a node's table. Pure."""
    ports = sorted(ports)
    forget = f"add table ip {_TABLE}\ndelete table ip {_TABLE}\n"
    if not ports:
        return forget
    translations = []
    for port in ports:
        address = f"ip daddr {port.host_ip} " if port.host_ip else ""
        to = f"{port.pod_ip}:{port.container_port}"
        translations.append(f"    {address}{port.protocol} dport {port.host_port} dnat to {to}")
    clients = f"{{ 127.0.0.0/8, {cluster_cidr} }}"
    addresses = ", ".join(dict.fromkeys(port.pod_ip for port in ports))
    return (
        f"{forget}table ip {_TABLE} {{\n"
        "  chain arriving {\n    type nat hook prerouting priority -105;\n"
        "    fib daddr type local goto ports\n  }\n"
        "  chain own {\n    type nat hook output priority -105;\n    fib daddr type local goto ports\n  }\n"
        "  chain ports {\n" + "\n".join(translations) + "\n  }\n"
        "  chain leaving {\n    type nat hook postrouting priority 95;\n"
        f"    ct status dnat ip saddr {clients} ip daddr {{ {addresses} }} masquerade\n  }}\n}}\n"
    )


def apply_host_ports(node: str, ports: Sequence[HostPort], cluster_cidr: IPNetwork) -> None:
    """Make these the ports of a node that lead to pods. Raises RunError."""
    with netns.entered(node):
        if ports:
            Path("/proc/sys/net/ipv4/conf", identity.GATEWAY_INTERFACE, "route_localnet").write_text("1")
        done = subprocess.run(
            ["nft", "-f", "-"], input=rules(ports, cluster_cidr), capture_output=True, text=True, timeout=_NFT_S
        )
    if done.returncode:
        raise RunError(f"nft: {node}: {done.stderr.strip()}")
