"""The rules of kube-proxy's mode ipvs: virtual servers of the kernel's load balancer, with a scheduler.

Structure after kube-proxy's ``pkg/proxy/ipvs``: all addresses of Services on the dummy interface ``kube-ipvs0``, so
that packets to them reach IPVS; a virtual server for each address and port; sets (ipset) of what is to be masqueraded
or refused, and a handful of iptables rules, whatever number of Services there is, that look there.

What IPVS cannot do, here as in kube-proxy: tell clients apart. With a Local traffic policy, pods and nodes too are
given the node's own endpoints while it has any. A Service's port without endpoints has no virtual server and is refused
by the rules (in kube-proxy an empty virtual server refuses it). An endpoint that is gone is given up at once, with the
connections to it; kube-proxy would let those of TCP come to their end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal

from testbed.cluster.values import IPAddress, NetworkConfig, NodeNetwork, ServiceEndpoint, ServicePort
from testbed.proxy import iptables
from testbed.proxy.iptables import MASQUERADE_CHAINS, Chain
from testbed.proxy.names import endpoint_text
from testbed.proxy.rules import Change, Command, Pieces

Scheduler = Literal["rr", "lc", "sh"]  # round robin, fewest connections, hash of the client's address
SCHEDULERS: tuple[Scheduler, ...] = ("rr", "lc", "sh")

_INTERFACE = "kube-ipvs0"
_SETS = {
    "KUBE-CLUSTER-IP": "hash:ip,port",
    "KUBE-EXTERNAL": "hash:ip,port",  # NodePorts and load balancers' addresses, Cluster policy
    "KUBE-EXTERNAL-LOCAL": "hash:ip,port",  # Local policy
    "KUBE-NOT-HERE": "hash:ip,port",  # Local policy and no endpoint on this node: pods and this node only
    "KUBE-DROP": "hash:ip,port",
    "KUBE-LOOP-BACK": "hash:ip,port,ip",  # endpoints, which may call themselves
    "KUBE-IPVS-IPS": "hash:ip",
}
_LOOP_BACK = "KUBE-LOOP-BACK"
_MAX_ELEMENTS = 1 << 20

# IPVS tells conntrack of what it does, which masquerading needs; connections to a server that is gone are given up.
_SYSCTLS = """net.ipv4.vs.conntrack = 1
net.ipv4.vs.expire_nodest_conn = 1
net.ipv4.vs.expire_quiescent_template = 1
"""

_NEW = "-m conntrack --ctstate NEW"
_JUMPS = (
    ("filter", "INPUT", f'{_NEW} -m comment --comment "kubernetes ipvs access filter"', "IPVS-FILTER"),
    ("nat", "PREROUTING", '-m comment --comment "kubernetes service portals"', "SERVICES"),
    ("nat", "OUTPUT", '-m comment --comment "kubernetes service portals"', "SERVICES"),
    ("nat", "POSTROUTING", '-m comment --comment "kubernetes postrouting rules"', "POSTROUTING"),
)


@dataclass(frozen=True)
class VirtualServer:
    """``key`` is how ipvsadm names it (``-t 10.96.0.1:80``); ``servers`` are the endpoints as ``address:port``."""

    key: str
    options: str
    servers: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """What one port of a Service brings. ``members`` are by set."""

    virtual: Mapping[str, VirtualServer] = field(default_factory=dict)
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()


class IpvsRules:
    """See :class:`testbed.proxy.rules.Rules`."""

    def __init__(self, scheduler: Scheduler = "rr") -> None:
        self._scheduler = scheduler

    def depends_on_node(self, port: ServicePort) -> bool:
        return port.internal_local or port.external_local or port.node_port is not None

    def piece(self, config: NetworkConfig, node: NodeNetwork, port: ServicePort) -> Piece:
        return _PortRules(node, port, self._scheduler).piece()

    def address_pieces(self, ports: Iterable[ServicePort]) -> Pieces:
        found = {port.cluster_ip for port in ports}
        found |= {port.load_balancer_ip for port in ports if port.load_balancer_ip is not None}
        return {f"address {address}": _address_piece(str(address)) for address in found}

    def base(self, config: NetworkConfig, node: NodeNetwork) -> dict[Chain, tuple[str, ...]]:
        return _chains(config, node)

    def install(self, base: dict[Chain, tuple[str, ...]], pieces: Iterable[Piece]) -> tuple[Command, ...]:
        sets = [f"create {name} {kind} maxelem {_MAX_ELEMENTS}" for name, kind in _SETS.items()]
        return (
            Command(("ip", "-batch", "-"), f"link add {_INTERFACE} type dummy\n"),
            Command(("ipset", "restore"), "\n".join(sets) + "\n"),
            *iptables.install_chains(base, _JUMPS),
            *_commands([Change(None, piece) for piece in pieces]),
            # Only now, for the module that has these settings is loaded by the first use of ipvsadm.
            Command(("sysctl", "-q", "-p", "-"), _SYSCTLS),
        )

    def update(
        self,
        base: dict[Chain, tuple[str, ...]],
        changes: Iterable[Change],
        pieces: Callable[[], Iterable[Piece]],
    ) -> tuple[Command, ...]:
        return tuple(_commands(list(changes)))

    def remove(self, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        return (
            Command(("ipvsadm", "-C"), ""),
            *iptables.remove_chains(_CHAIN_NAMES, _JUMPS),
            Command(("ipset", "restore"), "".join(f"destroy {name}\n" for name in _SETS)),
            Command(("ip", "-batch", "-"), f"link delete {_INTERFACE}\n"),
        )

    def listing(self) -> Command | None:
        return iptables.LISTING

    def purge(self, listing: str) -> tuple[Command, ...]:
        return (
            Command(("ipvsadm", "-C"), ""),
            *iptables.purge_chains(listing),
            *(Command(("ipset", "destroy", name), "") for name in _SETS),
            Command(("ip", "-batch", "-"), f"link delete {_INTERFACE}\n"),
        )

    def replace(self, listing: str, base: dict[Chain, tuple[str, ...]], pieces: Iterable[Piece]) -> tuple[Command, ...]:
        return ()  # four programs' work is no transaction


_SERVICES: Chain = ("nat", "KUBE-SERVICES")
_LOCAL: Chain = ("nat", "KUBE-EXTERNAL-LOCAL")
_FILTER: Chain = ("filter", "KUBE-IPVS-FILTER")
_NOT_HERE: Chain = ("filter", "KUBE-NOT-HERE")
_CHAIN_NAMES = (_SERVICES, _LOCAL, _FILTER, _NOT_HERE, *MASQUERADE_CHAINS)


@lru_cache(maxsize=1024)
def _chains(config: NetworkConfig, node: NodeNetwork) -> dict[Chain, tuple[str, ...]]:
    cluster = config.cluster_cidr
    returned = ("KUBE-CLUSTER-IP", "KUBE-EXTERNAL", "KUBE-EXTERNAL-LOCAL")
    postrouting = MASQUERADE_CHAINS["nat", "KUBE-POSTROUTING"]
    hairpin = '-m comment --comment "endpoints that call themselves"'
    return {
        **MASQUERADE_CHAINS,
        ("nat", "KUBE-POSTROUTING"): (
            f"{hairpin} -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE",
            *postrouting,
        ),
        _SERVICES: (
            f"! -s {cluster} -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
            "-m set --match-set KUBE-EXTERNAL dst,dst -j KUBE-MARK-MASQ",
            "-m set --match-set KUBE-EXTERNAL-LOCAL dst,dst -j KUBE-EXTERNAL-LOCAL",
        ),
        # Pods of other nodes are masqueraded, or the endpoint would answer them past this node.
        _LOCAL: (
            f"-s {node.pod_cidr} -j RETURN",
            f"-s {cluster} -j KUBE-MARK-MASQ",
            "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        ),
        _FILTER: (
            "-m set --match-set KUBE-DROP dst,dst -j DROP",
            "-m set --match-set KUBE-NOT-HERE dst,dst -j KUBE-NOT-HERE",
            *(f"-m set --match-set {name} dst,dst -j RETURN" for name in returned),
            "-m set --match-set KUBE-IPVS-IPS dst -p tcp -j REJECT --reject-with tcp-reset",
            "-m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable",
        ),
        _NOT_HERE: (f"-s {cluster} -j RETURN", "-m addrtype --src-type LOCAL -j RETURN", "-j DROP"),
    }


@cache
def _address_piece(address: str) -> Piece:
    return Piece(members={"KUBE-IPVS-IPS": frozenset({address})}, addresses=frozenset({address}))


def _commands(changes: list[Change]) -> Iterator[Command]:
    """Addresses and sets before the virtual servers that rely on them, and away after those."""
    added, deleted = _Difference(), _Difference()
    servers: list[str] = []
    for old, new in changes:
        before, after = old or Piece(), new or Piece()
        added.note(after, before)
        deleted.note(before, after)
        for key, wanted in after.virtual.items():
            present = before.virtual.get(key)
            if present is None:
                servers.append(f"-A {key} {wanted.options}")
            elif present.options != wanted.options:
                servers.append(f"-E {key} {wanted.options}")
            there = set(present.servers) if present else set()
            servers += [f"-a {key} -r {server} -m" for server in wanted.servers if server not in there]
            servers += [f"-d {key} -r {server}" for server in sorted(there - set(wanted.servers))]
        servers += [f"-D {key}" for key in before.virtual.keys() - after.virtual.keys()]
    yield from _batches(
        ("ip", "-batch", "-"), (f"address add {entry}/32 dev {_INTERFACE}" for entry in added.addresses)
    )
    yield from _batches(("ipset", "-exist", "restore"), (f"add {entry}" for entry in added.members))
    yield from _batches(("ipvsadm", "-R"), servers)
    yield from _batches(("ipset", "restore"), (f"del {entry}" for entry in deleted.stale_members()))
    gone = (f"address delete {entry}/32 dev {_INTERFACE}" for entry in deleted.addresses)
    yield from _batches(("ip", "-batch", "-"), gone)


def _batches(argv: tuple[str, ...], lines: Iterable[str]) -> Iterator[Command]:
    text = "".join(f"{line}\n" for line in lines)
    if text:
        yield Command(argv, text)


@dataclass
class _Difference:
    """What some pieces have that others have not."""

    addresses: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)

    def note(self, of: Piece, without: Piece) -> None:
        self.addresses += sorted(of.addresses - without.addresses)
        for name, members in of.members.items():
            self.members += [f"{name} {member}" for member in sorted(members - without.members.get(name, frozenset()))]

    def stale_members(self) -> Iterator[str]:
        """The members to delete. Several Services may have an endpoint in KUBE-LOOP-BACK; one too many does no harm."""
        return (member for member in self.members if not member.startswith(_LOOP_BACK))


@dataclass(frozen=True)
class _PortRules:
    """Renders one port of a Service on one node."""

    node: NodeNetwork
    port: ServicePort
    scheduler: Scheduler

    def piece(self) -> Piece:
        port = self.port
        everywhere = port.cluster_endpoints
        if not everywhere:
            return Piece()
        here = port.local_endpoints(self.node.name)
        virtual: dict[str, VirtualServer] = {}
        members: dict[str, set[str]] = {}

        def add(address: IPAddress, number: int, endpoints: tuple[ServiceEndpoint, ...], sets: Iterable[str]) -> None:
            if endpoints:
                server = self._virtual_server(address, number, endpoints)
                virtual[server.key] = server
            for name in sets:
                members.setdefault(name, set()).add(f"{address},{port.protocol.lower()}:{number}")

        if port.internal_local and not here:
            add(port.cluster_ip, port.service_port, (), ("KUBE-DROP",))
        else:
            inside = here if port.internal_local else everywhere
            add(port.cluster_ip, port.service_port, inside, ("KUBE-CLUSTER-IP",))
        outside = here or everywhere if port.external_local else everywhere
        treatment = ["KUBE-EXTERNAL-LOCAL" if port.external_local else "KUBE-EXTERNAL"]
        if port.external_local and not here:
            treatment = ["KUBE-EXTERNAL", "KUBE-NOT-HERE"]
        if port.load_balancer_ip is not None:
            add(port.load_balancer_ip, port.service_port, outside, treatment)
        if port.node_port is not None:
            for address in (self.node.node_ip, self.node.gateway_ip):
                add(address, port.node_port, outside, treatment)
        members[_LOOP_BACK] = {
            f"{endpoint.endpoint_ip},{port.protocol.lower()}:{endpoint.target_port},{endpoint.endpoint_ip}"
            for endpoint in everywhere
        }
        return Piece(virtual, {name: frozenset(entries) for name, entries in members.items()})

    def _virtual_server(self, address: IPAddress, number: int, endpoints: tuple[ServiceEndpoint, ...]) -> VirtualServer:
        kind = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[self.port.protocol]
        persistence = "" if self.port.affinity_timeout_s is None else f" -p {self.port.affinity_timeout_s}"
        return VirtualServer(
            f"{kind} {address}:{number}",
            f"-s {self.scheduler}{persistence}",
            tuple(endpoint_text(endpoint) for endpoint in endpoints),
        )
