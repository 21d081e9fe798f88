"""The rules of kube-proxy's mode iptables: chains for Services and endpoints, joined by a random choice.

Structure after kube-proxy's ``pkg/proxy/iptables``: every connection is compared with the rule of each Service in turn
(``KUBE-SERVICES``); the Service's chain picks an endpoint's chain (``statistic``, or ``recent`` with session affinity);
that one translates. Marks say what POSTROUTING is to masquerade.

Different from kube-proxy: any packet to the Service range that was not translated is refused (kube-proxy refuses only
Services without endpoints), TCP by a reset; and nothing drops packets of invalid connections, for here a node's kernel
may see answers of connections that did not begin there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from testbed.cluster.values import NetworkConfig, NodeNetwork, ServiceEndpoint, ServicePort
from testbed.proxy import transactions
from testbed.proxy.choices import choices
from testbed.proxy.names import endpoint_text, iptables_chain, iptables_endpoint_chain, service_port_name
from testbed.proxy.rules import Change, Command, Pieces

Chain = tuple[str, str]  # table, name

_SERVICES: Chain = ("nat", "KUBE-SERVICES")
_NODE_PORTS: Chain = ("nat", "KUBE-NODEPORTS")
_REFUSED: Chain = ("filter", "KUBE-SERVICES")
_REFUSED_OUTSIDE: Chain = ("filter", "KUBE-EXTERNAL-SERVICES")
_TABLES = ("filter", "nat")

MASQUERADE_MARK = "0x4000"  # the bit that kube-proxy uses by default (--iptables-masquerade-bit 14)
_RESTORE = ("iptables-restore", "--noflush", "--wait")

_NEW = "-m conntrack --ctstate NEW"
# How packets get into the chains: built-in chain and the rule there.
_JUMPS = (
    ("filter", "INPUT", f'{_NEW} -m comment --comment "kubernetes externally-visible services"', "EXTERNAL-SERVICES"),
    ("filter", "FORWARD", f'{_NEW} -m comment --comment "kubernetes service portals"', "SERVICES"),
    ("filter", "FORWARD", f'{_NEW} -m comment --comment "kubernetes externally-visible services"', "EXTERNAL-SERVICES"),
    ("filter", "OUTPUT", f'{_NEW} -m comment --comment "kubernetes service portals"', "SERVICES"),
    ("filter", "OUTPUT", f'{_NEW} -m comment --comment "kubernetes externally-visible services"', "EXTERNAL-SERVICES"),
    ("nat", "PREROUTING", '-m comment --comment "kubernetes service portals"', "SERVICES"),
    ("nat", "OUTPUT", '-m comment --comment "kubernetes service portals"', "SERVICES"),
    ("nat", "POSTROUTING", '-m comment --comment "kubernetes postrouting rules"', "POSTROUTING"),
)

# Marked is what is new on its way to an endpoint; the mark is taken away so that it does not outlive this node.
MASQUERADE_CHAINS: Mapping[Chain, tuple[str, ...]] = {
    ("nat", "KUBE-MARK-MASQ"): (f"-j MARK --or-mark {MASQUERADE_MARK}",),
    ("nat", "KUBE-POSTROUTING"): (
        f"-m mark ! --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j RETURN",
        f"-j MARK --xor-mark {MASQUERADE_MARK}",
        '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    ),
}


@dataclass(frozen=True)
class Piece:
    """What one port of a Service brings: chains of its own, and rules in chains that it shares with others."""

    chains: Mapping[Chain, tuple[str, ...]]
    entries: Mapping[Chain, tuple[str, ...]]


@dataclass(frozen=True)
class Base:
    """Chains with the same rules whatever Services there are, and the last rules of shared chains."""

    chains: Mapping[Chain, tuple[str, ...]] = field(default_factory=dict, hash=False)
    endings: Mapping[Chain, tuple[str, ...]] = field(default_factory=dict, hash=False)


class IptablesRules:
    """See :class:`testbed.proxy.rules.Rules`.

    With a ``limit`` no transaction is longer (see :mod:`testbed.proxy.transactions`). Then the shared chains are not
    written anew, as kube-proxy does, but changed rule by rule.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit

    def depends_on_node(self, port: ServicePort) -> bool:
        return port.internal_local or port.external_local

    def piece(self, config: NetworkConfig, node: NodeNetwork, port: ServicePort) -> Piece:
        return _PortRules(config, node, port).piece()

    def address_pieces(self, ports: Iterable[ServicePort]) -> Pieces:
        return {}

    def base(self, config: NetworkConfig, node: NodeNetwork) -> Base:
        node_ports = (
            '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
            " ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
        )
        return Base(
            MASQUERADE_CHAINS,
            {
                _SERVICES: (node_ports,),
                _NODE_PORTS: (),
                _REFUSED: _refuse_range("no such service", str(config.service_cidr)),
                _REFUSED_OUTSIDE: _refuse_range("no such load balancer", str(config.load_balancer_cidr)),
            },
        )

    def install(self, base: Base, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        if self._limit is None:
            return install_chains(dict(base.chains) | _whole(base, tuple(pieces)), _JUMPS)
        nothing = install_chains(dict(base.chains) | _whole(base, ()), _JUMPS)
        return (*nothing, *self._piecemeal([Change(None, piece) for piece in pieces], self._limit))

    def update(
        self, base: Base, changes: Iterable[Change], pieces: Callable[[], Iterable[Piece]]
    ) -> tuple[Command, ...]:
        changes = list(changes)
        if self._limit is not None:
            return self._piecemeal(changes, self._limit)
        written, gone = _own_chains(changes)
        touched = {chain for change in changes for chain, _, _ in _changed_entries(change)}
        if touched:
            written |= _whole(base, tuple(pieces()), touched)
        return (Command(_RESTORE, restore_text(written, gone=sorted(gone))),) if written or gone else ()

    def _piecemeal(self, changes: list[Change], limit: int) -> tuple[Command, ...]:
        """One call of the program, many transactions."""
        batches = transactions.batches(changes, lambda change: len(_rule_by_rule([change], None)), limit)
        text = "".join(_rule_by_rule(batch, limit) for batch in batches)
        return (Command(_RESTORE, text),) if text else ()

    def remove(self, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        chains = [chain for piece in pieces for chain in piece.chains]
        chains += [*MASQUERADE_CHAINS, _SERVICES, _NODE_PORTS, _REFUSED, _REFUSED_OUTSIDE]
        return remove_chains(chains, _JUMPS, self._limit)

    def listing(self) -> Command | None:
        return LISTING

    def purge(self, listing: str) -> tuple[Command, ...]:
        return purge_chains(listing, self._limit)

    def replace(self, listing: str, base: Base, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        text = _replacement(listing, dict(base.chains) | _whole(base, tuple(pieces)), _JUMPS)
        return (Command(_RESTORE, text),) if transactions.fits(text, self._limit) else ()


Jumps = tuple[tuple[str, str, str, str], ...]


def install_chains(chains: Mapping[Chain, tuple[str, ...]], jumps: Jumps) -> tuple[Command, ...]:
    """Make the chains, and the jumps into them."""
    return (Command(_RESTORE, restore_text(chains, _calls("-A", jumps))),)


def _calls(command: str, jumps: Jumps) -> list[tuple[str, str]]:
    return [(table, f"{command} {chain} {rule} -j KUBE-{target}") for table, chain, rule, target in jumps]


def remove_chains(chains: Iterable[Chain], jumps: Jumps, limit: int | None = None) -> tuple[Command, ...]:
    """Take away the jumps, then the chains."""
    return (Command(_RESTORE, restore_text({}, _calls("-D", jumps), sorted(chains), limit)),)


LISTING = Command(("iptables-save",), "")


def purge_chains(listing: str, limit: int | None = None) -> tuple[Command, ...]:
    """Take away all that ``iptables-save`` lists of chains whose names begin as ours do, and of jumps into them."""
    chains, calls = _leftovers(listing)
    return (Command(_RESTORE, restore_text({}, calls, chains, limit)),) if chains or calls else ()


def _replacement(listing: str, chains: Mapping[Chain, tuple[str, ...]], jumps: Jumps) -> str:
    """Put chains, and the jumps into them, in the place of what ``iptables-save`` lists: each table at once."""
    left, calls = _leftovers(listing)
    return restore_text(chains, [*calls, *_calls("-A", jumps)], [chain for chain in left if chain not in chains])


def _leftovers(listing: str) -> tuple[list[Chain], list[tuple[str, str]]]:
    """Chains that ``iptables-save`` lists whose names begin as ours do, and what takes away the jumps into them."""
    calls: list[tuple[str, str]] = []
    chains: list[Chain] = []
    table = ""
    for line in listing.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":KUBE-"):
            chains.append((table, line[1:].split()[0]))
        elif line.startswith("-A ") and not line.startswith("-A KUBE-") and " -j KUBE-" in line:
            calls.append((table, f"-D {line[3:]}"))
    return chains, calls


def restore_text(
    written: Mapping[Chain, tuple[str, ...]],
    calls: Iterable[tuple[str, str]] = (),
    gone: Iterable[Chain] = (),
    limit: int | None = None,
) -> str:
    """Input of ``iptables-restore --noflush``: chains named in it are emptied, or made, and then filled.

    ``calls`` are lines about chains that others have a part in; ``gone`` are chains to delete, which by then nothing
    refers to. Each table is one transaction, or several if it is longer than the limit.
    """
    calls, gone = list(calls), list(gone)
    text: list[str] = []
    for table in _TABLES:
        # Sorted: iptables 1.8 keeps its chains so, and takes three times as long to sort 20,000 in itself.
        named = sorted(chain for chain in written if chain[0] == table)
        dropped = [chain for chain in gone if chain[0] == table]
        lines = [f":{name} - [0:0]" for _, name in (*named, *dropped)]
        for chain in named:
            lines += [f"-A {chain[1]} {rule}" for rule in written[chain]]
        lines += [line for where, line in calls if where == table]
        lines += [f"-X {name}" for _, name in dropped]
        for part in transactions.parts(lines, limit):
            text += [f"*{table}", *part, "COMMIT"]
    return "".join(f"{line}\n" for line in text)


def _own_chains(changes: Iterable[Change]) -> tuple[dict[Chain, tuple[str, ...]], list[Chain]]:
    """The chains that only one piece has: those to write, and those that are gone."""
    written: dict[Chain, tuple[str, ...]] = {}
    gone: list[Chain] = []
    for old, new in changes:
        old_chains, new_chains = (piece.chains if piece else {} for piece in (old, new))
        written |= {chain: rules for chain, rules in new_chains.items() if old_chains.get(chain) != rules}
        gone += old_chains.keys() - new_chains.keys()
    return written, gone


def _changed_entries(change: Change) -> Iterator[tuple[Chain, tuple[str, ...], tuple[str, ...]]]:
    """The shared chains in which a piece has other rules than before: those before, and those now."""
    old_entries, new_entries = (piece.entries if piece else {} for piece in change)
    for chain in sorted(old_entries.keys() | new_entries.keys()):
        old, new = old_entries.get(chain, ()), new_entries.get(chain, ())
        if old != new:
            yield chain, old, new


def _rule_by_rule(changes: list[Change], limit: int | None) -> str:
    """Changes with nothing of shared chains but the rules that differ. New ones go first: a chain's endings stay last,
    and among Services the order means nothing, for no packet is meant by the rules of two."""
    written, gone = _own_chains(changes)
    calls: list[tuple[str, str]] = []
    for change in changes:
        for (table, name), old, new in _changed_entries(change):
            calls += [(table, f"-D {name} {rule}") for rule in old if rule not in new]
            calls += [(table, f"-I {name} 1 {rule}") for rule in new if rule not in old]
    return restore_text(written, calls, sorted(gone), limit)


def _whole(base: Base, pieces: tuple[Piece, ...], only: set[Chain] | None = None) -> dict[Chain, tuple[str, ...]]:
    """The shared chains (or some of them) with everything, and with all chains of the pieces if not ``only`` some."""
    whole: dict[Chain, tuple[str, ...]] = {}
    for chain, ending in base.endings.items():
        if only is None or chain in only:
            whole[chain] = (*(rule for piece in pieces for rule in piece.entries.get(chain, ())), *ending)
    if only is None:
        for piece in pieces:
            whole |= piece.chains
    return whole


def _refuse_range(comment: str, cidr: str) -> tuple[str, ...]:
    match = f'-m comment --comment "{comment}" -d {cidr}'
    return f"{match} -p tcp -j {_reject('TCP')}", f"{match} -j {_reject()}"


def _reject(protocol: str = "") -> str:
    # Linux sends a client no more than one ICMP error a second, but any number of resets.
    return "REJECT --reject-with tcp-reset" if protocol == "TCP" else "REJECT --reject-with icmp-port-unreachable"


@dataclass(frozen=True)
class _PortRules:
    """Renders one port of a Service on one node."""

    config: NetworkConfig
    node: NodeNetwork
    port: ServicePort

    def piece(self) -> Piece:
        port = self.port
        found = choices(self.node, port)
        chains: dict[Chain, tuple[str, ...]] = {}
        entries: dict[Chain, tuple[str, ...]] = {}
        if not port.cluster_endpoints:
            why = "has no endpoints"
            entries |= self._refused(_reject(port.protocol), why, inside=True, outside=found.is_external)
            return Piece(chains, entries)

        names = {"service": iptables_chain("SVC", port), "local": iptables_chain("SVL", port)}
        external = iptables_chain("EXT", port)
        for choice, endpoints in found.among.items():
            masquerade = (self._masquerade_outsiders(),) if choice == found.inside else ()
            chains["nat", names[choice]] = (*masquerade, *self._balance(endpoints))
        for endpoint in found.endpoints:
            chains["nat", iptables_endpoint_chain(port, endpoint)] = self._translate(endpoint)

        if found.inside in found.among:
            entries[_SERVICES] = (self._rule(f"cluster IP -d {port.cluster_ip}/32", names[found.inside]),)
        else:
            entries |= self._refused("DROP", "has no local endpoints", inside=True)
        if found.is_external:
            chains["nat", external] = self._external(
                names["service"], names["local"] if "local" in found.among else None
            )
            if port.load_balancer_ip is not None:
                rule = self._rule(f"loadbalancer IP -d {port.load_balancer_ip}/32", external)
                entries[_SERVICES] = (*entries.get(_SERVICES, ()), rule)
            if port.node_port is not None:
                entries[_NODE_PORTS] = (self._rule("", external, port.node_port),)
            if found.drops_outsiders:
                entries |= self._refused("DROP", "has no local endpoints", outside=True)
        return Piece(chains, entries)

    @property
    def _name(self) -> str:
        return service_port_name(self.port)

    def _comment(self, words: str = "") -> str:
        return f'-m comment --comment "{self._name}{" " + words if words else ""}"'

    def _protocol(self, number: int) -> str:
        name = self.port.protocol.lower()
        return f"-p {name} -m {name} --dport {number}"

    def _rule(self, what: str, target: str, number: int | None = None) -> str:
        """A rule that leads to a chain: what it is (in words), the address it matches, and the chain."""
        words, _, match = what.partition(" -d ")
        address = f" -d {match}" if match else ""
        number = self.port.service_port if number is None else number
        return f"{self._comment(words)}{address} {self._protocol(number)} -j {target}"

    def _refused(
        self, target: str, why: str, inside: bool = False, outside: bool = False
    ) -> dict[Chain, tuple[str, ...]]:
        """Rules for what cannot be translated: by its cluster address, and by its other addresses."""
        port = self.port
        found: dict[Chain, tuple[str, ...]] = {}
        if inside:
            found[_REFUSED] = (self._rule(f"{why} -d {port.cluster_ip}/32", target),)
        rules = []
        if outside and port.load_balancer_ip is not None:
            rules.append(self._rule(f"{why} -d {port.load_balancer_ip}/32", target))
        if outside and port.node_port is not None:
            rules.append(
                f"{self._comment(why)} -m addrtype --dst-type LOCAL {self._protocol(port.node_port)} -j {target}"
            )
        if rules:
            found[_REFUSED_OUTSIDE] = tuple(rules)
        return found

    def _masquerade_outsiders(self) -> str:
        """Answers to those that are no pods must come back through this node."""
        port = self.port
        return (
            f"{self._comment('cluster IP')} ! -s {self.config.cluster_cidr} -d {port.cluster_ip}/32 "
            f"{self._protocol(port.service_port)} -j KUBE-MARK-MASQ"
        )

    def _balance(self, endpoints: tuple[ServiceEndpoint, ...]) -> tuple[str, ...]:
        """A remembered endpoint, or each with the same probability."""
        port = self.port
        rules = []
        named = [(iptables_endpoint_chain(port, endpoint), endpoint_text(endpoint)) for endpoint in endpoints]
        if port.affinity_timeout_s is not None:
            rules += [
                f"{self._comment(f'-> {text}')} -m recent --name {chain} --rcheck --seconds {port.affinity_timeout_s} "
                f"--reap -j {chain}"
                for chain, text in named
            ]
        for position, (chain, text) in enumerate(named):
            left = len(named) - position
            choice = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            rules.append(f"{self._comment(f'-> {text}')} {choice}-j {chain}")
        return tuple(rules)

    def _translate(self, endpoint: ServiceEndpoint) -> tuple[str, ...]:
        """An endpoint's chain. One that calls itself would answer itself past this node: it is masqueraded."""
        protocol = self.port.protocol.lower()
        remember = ""
        if self.port.affinity_timeout_s is not None:
            remember = f"-m recent --name {iptables_endpoint_chain(self.port, endpoint)} --set "
        return (
            f"{self._comment()} -s {endpoint.endpoint_ip}/32 -j KUBE-MARK-MASQ",
            f"{self._comment()} {remember}-p {protocol} -m {protocol} -j DNAT --to-destination "
            f"{endpoint_text(endpoint)}",
        )

    def _external(self, service: str, local: str | None) -> tuple[str, ...]:
        """What came for a NodePort or a load balancer's address.

        With a Local policy, pods and the node itself use all endpoints. Pods of other nodes are masqueraded then, or
        the endpoint would answer them past this node.
        """
        if not self.port.external_local:
            why = self._comment("masquerade traffic for external destinations")
            return (f"{why} -j KUBE-MARK-MASQ", f"{self._comment()} -j {service}")
        pods, own = self._comment("pod traffic for external destinations"), self._comment("traffic of this node")
        rules = [
            f"{pods} -s {self.node.pod_cidr} -j {service}",
            f"{pods} -s {self.config.cluster_cidr} -j KUBE-MARK-MASQ",
            f"{pods} -s {self.config.cluster_cidr} -j {service}",
            f"{own} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
            f"{own} -m addrtype --src-type LOCAL -j {service}",
        ]
        if local is not None:
            rules.append(f"{self._comment()} -j {local}")
        return tuple(rules)
