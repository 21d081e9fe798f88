"""Ask the kernels: interfaces, wires, routes, rules, neighbours, sockets of the box's network namespaces. Read only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from typing import Any

from testbed.errors import RunError
from testbed.network import netns
from testbed.trace.values import FiveTuple

_TIMEOUT_S = 20
# States of a neighbour entry whose address is of no use (ip-neighbour(8)).
_UNUSABLE = {"FAILED", "INCOMPLETE", "NONE"}

# Kinds of routes that stop a packet (ip-route(8)); a throw route only ends the look-up in its table.
_NOWHERE = ("blackhole", "unreachable", "prohibit")


@dataclass(frozen=True)
class Interface:
    """A network interface. ``peer_index`` and ``peer_nsid`` tell where its other end is (of a VXLAN device: where its
    socket is). ``vxlan`` is its configuration if it is one; ``master`` the kernel bridge it is a port of, if any."""

    namespace: str
    name: str
    index: int
    mac: str
    mtu_bytes: int
    up: bool
    carrier: bool
    kind: str
    addresses: tuple[IPv4Interface, ...]
    peer_index: int | None
    peer_nsid: int | None
    master: str
    vxlan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """A routing decision. ``kind`` is unicast, local, or what the route says (blackhole, unreachable, ...).

    ``table`` is the routing table's name, ``prefix`` the route that matched, ``next_hops`` its (gateway, interface)s.
    """

    kind: str
    device: str
    gateway: IPv4Address | None
    source: IPv4Address | None
    table: str
    prefix: str
    next_hops: tuple[tuple[str, str], ...] = ()
    mtu_bytes: int | None = None


class NoRoute(Exception):
    """The kernel does not route the packet; its words say why."""


class Kernel:
    """What the kernels of the namespaces say. Answers about interfaces are kept, so make a new one for each trace."""

    def __init__(self) -> None:
        self._interfaces: dict[str, dict[str, Interface]] = {}
        self._names_by_nsid: dict[str, dict[int, str]] = {}

    def interfaces(self, namespace: str) -> Mapping[str, Interface]:
        """A namespace's interfaces by name."""
        if namespace not in self._interfaces:
            shown = self._json(namespace, ["ip", "-j", "-d", "address", "show"])
            self._interfaces[namespace] = {entry["ifname"]: _interface(namespace, entry) for entry in shown if entry}
        return self._interfaces[namespace]

    def other_end(self, interface: Interface) -> Interface | None:
        """Where a wire leads; None when it leads nowhere. Of a VXLAN device: any interface beside its socket."""
        namespace = self.peer_namespace(interface)
        if namespace is None:
            return None
        return next((one for one in self.interfaces(namespace).values() if one.index == interface.peer_index), None)

    def peer_namespace(self, interface: Interface) -> str | None:
        """The namespace of the other end; None when there is none, or it has no name."""
        if interface.peer_index is None and interface.peer_nsid is None:
            return None
        if interface.peer_nsid is None:
            return interface.namespace
        if interface.namespace not in self._names_by_nsid:
            listed = self._json(interface.namespace, ["ip", "-j", "netns", "list-id"])
            names = {entry["nsid"]: entry["name"] for entry in listed if "name" in entry}
            self._names_by_nsid[interface.namespace] = names
        return self._names_by_nsid[interface.namespace].get(interface.peer_nsid)

    def holds(self, namespace: str, address: IPv4Address) -> bool:
        """Whether an address is one of the namespace's own."""
        return any(
            one.ip == address for interface in self.interfaces(namespace).values() for one in interface.addresses
        )

    def route(self, namespace: str, packet: FiveTuple, *, source_known: bool, iif: str = "", mark: int = 0) -> Decision:
        """The kernel's routing decision for a packet: one of its own, or one that came in by ``iif``.

        Raises NoRoute.
        """
        argv = [str(packet.destination)]
        argv += ["from", str(packet.source)] if source_known or iif else []
        argv += ["iif", iif] if iif else []
        argv += ["mark", str(mark)] if mark else []
        argv += ["ipproto", packet.protocol]
        if packet.protocol != "icmp":
            argv += ["sport", str(packet.source_port)] if packet.source_port else []
            argv += ["dport", str(packet.destination_port)]
        try:
            chosen = self._route(namespace, argv)
            matched = self._route(namespace, ["fibmatch", *argv])
        except NoRoute:
            # Asked for a route that leads nowhere, the kernel gives no more than an error.
            nowhere = self._route_to_nowhere(namespace, packet.destination)
            if nowhere is None:
                raise
            chosen = matched = nowhere
        kind = chosen.get("type", "unicast")
        return Decision(
            kind,
            chosen.get("dev", ""),
            _gateway(chosen),
            IPv4Address(chosen["prefsrc"]) if "prefsrc" in chosen else None,
            str(matched.get("table", chosen.get("table", "local" if kind == "local" else "main"))),
            matched.get("dst", "default"),
            tuple((hop.get("gateway", ""), hop["dev"]) for hop in matched.get("nexthops", ())),
            next((int(entry["mtu"]) for entry in chosen.get("metrics", ()) if "mtu" in entry), None),
        )

    def rules(self, namespace: str) -> list[dict[str, Any]]:
        """The policy rules in the order in which they are asked."""
        found: list[dict[str, Any]] = self._json(namespace, ["ip", "-j", "-d", "rule", "show"])
        return found

    def neighbour(self, namespace: str, address: IPv4Address, device: str) -> str | None:
        """The MAC that the kernel has for an address; None if it must ask."""
        shown = self._json(namespace, ["ip", "-j", "neigh", "show", str(address), "dev", device])
        for entry in shown:
            if "lladdr" in entry and not _UNUSABLE & set(entry.get("state", ())):
                return str(entry["lladdr"])
        return None

    def forwarding(self, interface: Interface, mac: str) -> list[dict[str, Any]]:
        """The forwarding entries for a MAC, of a VXLAN device or of the kernel bridge that ``interface`` is."""
        device = ["br", interface.name] if interface.kind == "bridge" else ["dev", interface.name]
        shown = self._json(interface.namespace, ["bridge", "-j", "fdb", "show", *device])
        return [entry for entry in shown if entry.get("mac") == mac]

    def forwards(self, namespace: str, device: str = "all") -> bool:
        """Whether the kernel passes on packets for others that come in by an interface."""
        with netns.entered(namespace):
            return Path("/proc/sys/net/ipv4/conf", device, "forwarding").read_text().strip() == "1"

    def listens(self, namespace: str, protocol: str, address: IPv4Address, number: int) -> bool:
        """Whether a socket takes what is sent to this address and port."""
        text = self._text(namespace, ["ss", "-H", "-l", "-n", "-t" if protocol == "tcp" else "-u"])
        for line in text.splitlines():
            # State, two queues, then the local address and port: 127.0.0.1:80, *:80, [::]:80, 10.0.0.1%eth0:80.
            host, _, bound = line.split()[3].rpartition(":")
            if bound == str(number) and host.partition("%")[0] in ("*", "0.0.0.0", "[::]", str(address)):
                return True
        return False

    def ruleset(self, namespace: str) -> list[dict[str, Any]]:
        """The nftables rule set as nft prints it in JSON (libnftables-json(5)); empty where nothing is set up."""
        found: list[dict[str, Any]] = self._json(namespace, ["nft", "-j", "list", "ruleset"])["nftables"]
        return found

    def ruleset_text(self, namespace: str) -> str:
        """The same as people write it, with each rule's handle."""
        return self._text(namespace, ["nft", "-a", "list", "ruleset"])

    def iptables(self, namespace: str) -> str:
        """What ``iptables-save`` prints; "" where iptables is not installed."""
        return self._text(namespace, ["iptables-save"]) if shutil.which("iptables-save") else ""

    def recent(self, namespace: str, name: str) -> frozenset[str]:
        """The addresses in a list of iptables' match ``recent``; how old each entry is cannot be told from outside."""
        with netns.entered(namespace):
            file = Path("/proc/thread-self/net/xt_recent", name)
            text = file.read_text() if file.exists() else ""
        return frozenset(re.findall(r"^src=(\S+)", text, re.MULTILINE))

    def connections(self, namespace: str) -> str:
        """The kernel's connections as ``conntrack -L`` prints them; "" where it is not installed."""
        return self._text(namespace, ["conntrack", "-L"]) if shutil.which("conntrack") else ""

    @cached_property
    def namespaces(self) -> tuple[str, ...]:
        """All named network namespaces."""
        return tuple(sorted(entry.name for entry in netns.DIRECTORY.iterdir()))

    def _route_to_nowhere(self, namespace: str, destination: IPv4Address) -> dict[str, Any] | None:
        """The most specific route for an address, of all tables, if it is a blackhole or the like."""
        shown = self._json(namespace, ["ip", "-j", "route", "show", "table", "all", "match", str(destination)])
        found: dict[str, Any] = max(shown, key=_prefix_length, default={})
        return found if found.get("type") in _NOWHERE else None

    def _route(self, namespace: str, argv: Sequence[str]) -> dict[str, Any]:
        done = self._run(namespace, ["ip", "-j", "route", "get", *argv])
        if done.returncode:
            raise NoRoute(done.stderr.strip().removeprefix("RTNETLINK answers: "))
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def _json(self, namespace: str, argv: Sequence[str]) -> Any:
        text = self._text(namespace, argv)
        return json.loads(text) if text.strip() else []

    def _text(self, namespace: str, argv: Sequence[str]) -> str:
        done = self._run(namespace, argv)
        if done.returncode:
            raise RunError(f"{namespace}: {' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    @staticmethod
    def _run(namespace: str, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            with netns.entered(namespace):
                return subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except FileNotFoundError as error:
            raise RunError(f"{namespace}: {error}") from None


def _interface(namespace: str, entry: Mapping[str, Any]) -> Interface:
    link = entry.get("linkinfo", {})
    flags = entry["flags"]
    return Interface(
        namespace,
        entry["ifname"],
        entry["ifindex"],
        entry.get("address", ""),
        entry["mtu"],
        "UP" in flags,
        "LOWER_UP" in flags,
        link.get("info_kind", ""),
        tuple(
            IPv4Interface(f"{one['local']}/{one['prefixlen']}")
            for one in entry.get("addr_info", ())
            if one.get("family") == "inet"
        ),
        entry.get("link_index"),
        entry.get("link_netnsid"),
        entry.get("master", ""),
        link.get("info_data", {}) if link.get("info_kind") == "vxlan" else {},
    )


def _prefix_length(route: Mapping[str, Any]) -> int:
    destination = str(route["dst"])
    return 0 if destination == "default" else int(destination.partition("/")[2] or 32)


def _gateway(route: Mapping[str, Any]) -> IPv4Address | None:
    text = route.get("gateway") or (route.get("via") or {}).get("host")
    if not text:
        return None
    found = ip_address(text)
    return found if isinstance(found, IPv4Address) else None


def parse_of_ports(text: str) -> dict[int, tuple[int, str]]:
    """From ``dpif/show``: the datapath's number of each port to its OpenFlow number and its interface's name."""
    return {
        int(number): (int(of_port), name)
        for name, of_port, number in re.findall(r"^\s+(\S+) (\d+)/(\d+): \(", text, re.MULTILINE)
    }
