"""Cluster states with Services for the tests of the kernel proxies, and readers of what the proxies write.

The readers do what iptables-restore and nft do with the text, as far as the proxies use them, and fail on everything
else: on a line that they cannot read, on a chain that is not there, on one that is deleted while it is in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as st

from testbed.cluster.values import ClusterState, NetworkConfig, Protocol, ServiceEndpoint, ServicePort
from testbed.proxy.rules import Command
from tests.unit.pipeline_states import node

NODES = (node(1, IPv4Network("10.244.0.0/24")), node(2, IPv4Network("10.244.1.0/24")))
CONFIG = NetworkConfig(mode="routed", cluster_cidr=IPv4Network("10.244.0.0/16"))


def endpoint(text: str, **conditions: bool) -> ServiceEndpoint:
    """``10.244.1.2:8080`` on the node that has the address in its pod CIDR."""
    address, _, target_port = text.partition(":")
    endpoint_ip = IPv4Address(address)
    node_name = next((node.name for node in NODES if endpoint_ip in node.pod_cidr), "")
    return ServiceEndpoint(endpoint_ip, int(target_port), node_name, **conditions)


def port(name: str, cluster_ip: str, *endpoints: str, number: int = 80, protocol: Protocol = "TCP") -> ServicePort:
    """The port ``http`` of a Service in the namespace ``default``, with ready endpoints."""
    found = tuple(sorted(endpoint(text) for text in endpoints))
    return ServicePort("default", name, "http", protocol, IPv4Address(cluster_ip), number, 0, found)


def state(*ports: ServicePort) -> ClusterState:
    return ClusterState(CONFIG, NODES, (), tuple(sorted(ports, key=lambda entry: entry.key)))


def one_of_each() -> ClusterState:
    """Services that differ in what they ask of a proxy: see the golden files."""
    local, remote = "10.244.0.2:8080", "10.244.1.2:8080"
    ending = endpoint("10.244.1.3:53", ready=False, serving=True, terminating=True)
    away = endpoint("10.244.1.4:53", ready=False, serving=False)
    return state(
        port("plain", "10.96.0.20", local, remote, "10.244.1.3:8080"),
        replace(port("dns", "10.96.0.21", number=53, protocol="UDP"), endpoints=(ending, away)),
        replace(port("sticky", "10.96.0.22", local, remote), affinity_timeout_s=10800),
        replace(port("empty", "10.96.0.23"), node_port=30023, load_balancer_ip=IPv4Address("198.18.0.3")),
        replace(port("open", "10.96.0.24", remote), node_port=30024, load_balancer_ip=IPv4Address("198.18.0.4")),
        replace(
            port("kept", "10.96.0.25", local),
            node_port=30025,
            load_balancer_ip=IPv4Address("198.18.0.5"),
            external_local=True,
        ),
        replace(port("inside", "10.96.0.26", remote, protocol="SCTP"), internal_local=True),
    )


@st.composite
def service_ports(draw: st.DrawFn, number: int) -> ServicePort:
    """Any port of a Service; the number decides its name and addresses, which nobody else may have."""
    hosts = draw(st.sets(st.sampled_from([f"10.244.{subnet}.{host}" for subnet in (0, 1) for host in (2, 3)])))
    endpoints = []
    for host in sorted(hosts):
        ready = draw(st.booleans())
        serving = ready or draw(st.booleans())
        endpoints.append(endpoint(f"{host}:8080", ready=ready, serving=serving, terminating=not ready))
    external = draw(st.booleans())
    return ServicePort(
        "default",
        f"svc-{number}",
        draw(st.sampled_from(("", "http"))),
        draw(st.sampled_from(("TCP", "UDP", "SCTP"))),
        IPv4Address("10.96.0.20") + number,
        draw(st.sampled_from((80, 443))),
        number,
        tuple(endpoints),
        node_port=30000 + number if external else None,
        load_balancer_ip=IPv4Address("198.18.0.1") + number if external and draw(st.booleans()) else None,
        affinity_timeout_s=draw(st.sampled_from((None, 10, 20))),
        internal_local=draw(st.booleans()),
        external_local=external and draw(st.booleans()),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[ClusterState]:
    """States that follow each other: Services come, go and change."""
    states = []
    for _ in range(draw(st.integers(1, 5))):
        numbers = draw(st.sets(st.integers(0, 4)))
        states.append(state(*(draw(service_ports(number)) for number in sorted(numbers))))
    return states


class Iptables:
    """The tables of one namespace: ``chains`` by table and name."""

    def __init__(self) -> None:
        built_in = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
        self.chains: dict[tuple[str, str], list[str]] = {
            (table, chain): [] for table in ("nat", "filter") for chain in built_in
        }

    def run(self, commands: Iterable[Command]) -> None:
        for command in commands:
            assert command.argv == ("iptables-restore", "--noflush", "--wait"), command
            self.restore(command.text)

    def restore(self, text: str) -> None:
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                assert not table, "a table in a table"
                table = line[1:]
            elif line == "COMMIT":
                self._check(table)
                table = ""
            elif declared := re.fullmatch(r":(KUBE-[A-Z0-9-]+) - \[0:0\]", line):
                assert len(declared[1]) <= 28, f"too long for iptables: {declared[1]}"
                self.chains[table, declared[1]] = []
            elif appended := re.fullmatch(r"-A (\S+) (.+)", line):
                self.chains[table, appended[1]].append(appended[2])
            elif inserted := re.fullmatch(r"-I (\S+) 1 (.+)", line):
                self.chains[table, inserted[1]].insert(0, inserted[2])
            elif deleted := re.fullmatch(r"-D (\S+) (.+)", line):
                self.chains[table, deleted[1]].remove(deleted[2])
            elif dropped := re.fullmatch(r"-X (\S+)", line):
                assert not self.chains.pop((table, dropped[1])), f"{dropped[1]} has rules"
            else:
                raise AssertionError(f"unreadable: {line}")
        assert not table, "without COMMIT"

    def _check(self, table: str) -> None:
        for (where, chain), rules in self.chains.items():
            for rule in rules:
                target = re.search(r"-j (KUBE-\S+)", rule)
                assert where != table or not target or (table, target[1]) in self.chains, f"{chain}: {rule}"


_NFT_LINES = {
    "table": r"(add|delete) table ip kube-proxy(?: \{.*\})?",
    "set": r"add (set|map) ip kube-proxy (\S+) (\{ .* \})",
    "drop_set": r"delete (set|map) ip kube-proxy (\S+)",
    "chain": r"add chain ip kube-proxy (\S+)( \{ type .* \})?",
    "flush": r"flush chain ip kube-proxy (\S+)",
    "drop_chain": r"delete chain ip kube-proxy (\S+)",
    "rule": r"add rule ip kube-proxy (\S+) (.+)",
    "elements": r"(add|delete) element ip kube-proxy (\S+) \{ (.+) \}",
}


class Nftables:
    """The table ``ip kube-proxy`` of one namespace: chains, declarations of sets, elements of sets."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.sets: dict[str, str] = {}
        self.elements: dict[str, dict[str, str]] = {}

    def run(self, commands: Iterable[Command]) -> None:
        for command in commands:
            assert command.argv == ("nft", "-f", "-"), command
            for line in command.text.splitlines():
                self._line(line)
            self._check()

    def _line(self, line: str) -> None:
        name, found = next(
            ((name, found) for name, pattern in _NFT_LINES.items() if (found := re.fullmatch(pattern, line))),
            ("", None),
        )
        assert found is not None, f"unreadable: {line}"
        if name == "table":
            if found[1] == "delete":
                self.__init__()  # type: ignore[misc]
        elif name == "set":
            assert found[2] not in self.sets and len(found[2]) < 256
            self.sets[found[2]], self.elements[found[2]] = f"{found[1]} {found[3]}", {}
        elif name == "drop_set":
            assert not self._users(f"@{found[2]}"), f"{found[2]} is in use"
            del self.sets[found[2]], self.elements[found[2]]
        elif name == "chain":
            assert len(found[1]) < 256
            self.chains.setdefault(found[1], [])
        elif name == "flush":
            self.chains[found[1]] = []
        elif name == "drop_chain":
            assert not self._users(found[1]), f"{found[1]} is in use: {self._users(found[1])}"
            assert not self.chains.pop(found[1])
        elif name == "rule":
            self.chains[found[1]].append(found[2])
            self._check_used(found[2])
        else:
            self._change_elements(found[1], self.elements[found[2]], found[3])

    def _change_elements(self, verb: str, elements: dict[str, str], text: str) -> None:
        for entry in text.split(" , "):
            key, _, verdict = entry.partition(" : ")
            if verb == "delete":
                del elements[key]
            else:
                assert key not in elements, f"{key} is there already"
                elements[key] = verdict
                self._check_used(verdict)

    def _check_used(self, text: str) -> None:
        for used in re.findall(r"(?:goto|jump) (\S+)", text):
            assert used in self.chains, f"{text}: no chain {used}"
        for used in re.findall(r"@(\S+)", text):
            assert used in self.sets, f"{text}: no set {used}"

    def _users(self, name: str) -> list[str]:
        rules = [f"{chain}: {rule}" for chain, rules in self.chains.items() for rule in rules if name in rule.split()]
        entries = [f"{key}: {verdict}" for keys in self.elements.values() for key, verdict in keys.items()]
        return rules + [entry for entry in entries if name in entry.split()]

    def _check(self) -> None:
        for rules in self.chains.values():
            for rule in rules:
                self._check_used(rule)


def golden_text(commands: Sequence[Command]) -> str:
    """What a node is given, readable: each program and its input."""
    return "".join(f"$ {' '.join(command.argv)}\n{command.text}\n" for command in commands)
