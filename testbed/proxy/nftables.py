"""The rules of kube-proxy's mode nftables: verdict maps lead to a Service's chain, however many Services there are.

Structure after kube-proxy's ``pkg/proxy/nftables``: table ``ip kube-proxy``; the maps ``service-ips`` and
``service-nodeports`` find the chain of a Service's port, which picks the chain of an endpoint (``numgen random mod
n``), which translates; sets with a timeout remember clients for session affinity; what has no endpoint is refused by
the maps ``no-endpoint-services`` and ``no-endpoint-nodeports``.

Different from kube-proxy: the choice among several endpoints is a map with a name, and a single endpoint needs none.
kube-proxy's maps are anonymous, and finding a free number for an anonymous map is linear in their number (Linux 6.18:
10,000 of them take 38 s in one transaction, named ones 6 s).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from testbed.cluster.values import NetworkConfig, NodeNetwork, ServiceEndpoint, ServicePort
from testbed.proxy import transactions
from testbed.proxy.choices import choices
from testbed.proxy.names import nftables_endpoint_name, nftables_name
from testbed.proxy.rules import Change, Command, Pieces

_TABLE = "ip kube-proxy"
_NFT = ("nft", "-f", "-")
# Adding a table that is there does nothing, so this deletes it in either case.
_NOTHING_LEFT = f"add table {_TABLE}\ndelete table {_TABLE}\n"
_MARK = "0x4000"  # the bit that kube-proxy uses by default
_ELEMENTS_PER_COMMAND = 1000

_ADDRESS_AND_PORT = "type ipv4_addr . inet_proto . inet_service : verdict ;"
_PORT_ONLY = "type inet_proto . inet_service : verdict ;"

# Before and after the translation of destinations (priority -100).
_BEFORE, _AFTER = -110, -90


@dataclass(frozen=True)
class Piece:
    """What one port of a Service brings: sets and chains of its own, and elements in any set.

    ``sets`` are declarations by name, chains are rules by name; elements are by set, then key, with the verdict (""
    in a set that is no map).
    """

    sets: Mapping[str, str]
    chains: Mapping[str, tuple[str, ...]]
    elements: Mapping[str, Mapping[str, str]]


class NftablesRules:
    """See :class:`testbed.proxy.rules.Rules`.

    With a ``limit`` no transaction is longer (see :mod:`testbed.proxy.transactions`), unless one port's rules are.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit

    def depends_on_node(self, port: ServicePort) -> bool:
        return port.internal_local or port.external_local

    def piece(self, config: NetworkConfig, node: NodeNetwork, port: ServicePort) -> Piece:
        return _PortRules(config, node, port).piece()

    def address_pieces(self, ports: Iterable[ServicePort]) -> Pieces:
        addresses = {str(port.cluster_ip) for port in ports}
        return {f"address {address}": _address_piece(address) for address in addresses}

    def base(self, config: NetworkConfig, node: NodeNetwork) -> str:
        return _base_text(config, node)

    def install(self, base: str, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        changes = [Change(None, piece) for piece in pieces]
        if self._limit is None:
            return (Command(_NFT, base + _transaction(changes)),)
        return (Command(_NFT, base), *self._transactions(changes))

    def update(
        self, base: str, changes: Iterable[Change], pieces: Callable[[], Iterable[Piece]]
    ) -> tuple[Command, ...]:
        return self._transactions(list(changes))

    def _transactions(self, changes: list[Change]) -> tuple[Command, ...]:
        batches = transactions.batches(changes, lambda change: len(_transaction([change])), self._limit)
        return tuple(Command(_NFT, text) for batch in batches if (text := _transaction(batch)))

    def remove(self, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        return self.purge("")

    def listing(self) -> Command | None:
        return None

    def purge(self, listing: str) -> tuple[Command, ...]:
        return (Command(_NFT, _NOTHING_LEFT),)

    def replace(self, listing: str, base: str, pieces: Iterable[Piece]) -> tuple[Command, ...]:
        text = _NOTHING_LEFT + base + _transaction([Change(None, piece) for piece in pieces])
        return (Command(_NFT, text),) if transactions.fits(text, self._limit) else ()


@cache
def _address_piece(address: str) -> Piece:
    return Piece({}, {}, {"cluster-ips": {address: ""}})


@cache
def _base_text(config: NetworkConfig, node: NodeNetwork) -> str:
    lines = [
        f'add table {_TABLE} {{ comment "rules for proxy: nftables" ; }}',
        *(
            f"add {kind} {_TABLE} {name} {{ {declaration} }}"
            for kind, name, declaration in (
                ("set", "cluster-ips", "type ipv4_addr ;"),
                ("set", "nodeport-ips", "type ipv4_addr ;"),
                ("map", "service-ips", _ADDRESS_AND_PORT),
                ("map", "service-nodeports", _PORT_ONLY),
                ("map", "no-endpoint-services", _ADDRESS_AND_PORT),
                ("map", "no-endpoint-nodeports", _PORT_ONLY),
            )
        ),
        f"add element {_TABLE} nodeport-ips {{ {node.node_ip} , {node.gateway_ip} }}",
    ]
    by_address = "ip daddr . meta l4proto . th dport"
    by_node_port = "ip daddr @nodeport-ips meta l4proto . th dport"
    chains: dict[str, tuple[str, ...]] = {
        # Linux sends a client no more than one ICMP error a second, but any number of resets.
        "refuse": ("meta l4proto tcp reject with tcp reset", "reject with icmp port-unreachable"),
        "mark-for-masquerade": (f"meta mark set meta mark or {_MARK}",),
        "masquerading": (
            f"meta mark and {_MARK} == 0 return",
            f"meta mark set meta mark xor {_MARK}",
            "masquerade fully-random",
        ),
        "services": (f"{by_address} vmap @service-ips", f"{by_node_port} vmap @service-nodeports"),
        "service-endpoints-check": (f"{by_address} vmap @no-endpoint-services",),
        "nodeport-endpoints-check": (f"{by_node_port} vmap @no-endpoint-nodeports",),
        # By now nothing has the address of a Service any more, unless the Service does not have the port.
        "cluster-ips-check": (
            "ip daddr @cluster-ips goto refuse",
            f'ip daddr {config.service_cidr} drop comment "no Service has this address"',
            f"ip daddr {config.load_balancer_cidr} goto refuse",
        ),
        f"filter-input filter input {_BEFORE}": (
            "ct state new jump nodeport-endpoints-check",
            "ct state new jump service-endpoints-check",
        ),
        f"filter-forward filter forward {_BEFORE}": (
            "ct state new jump service-endpoints-check",
            "ct state new jump cluster-ips-check",
        ),
        f"filter-output filter output {_BEFORE}": ("ct state new jump service-endpoints-check",),
        f"filter-output-post-dnat filter output {_AFTER}": ("ct state new jump cluster-ips-check",),
        "nat-prerouting nat prerouting -100": ("jump services",),
        "nat-output nat output -100": ("jump services",),
        "nat-postrouting nat postrouting 100": ("jump masquerading",),
    }
    for chain in chains:
        name, *hook = chain.split()
        where = f" {{ type {hook[0]} hook {hook[1]} priority {hook[2]} ; }}" if hook else ""
        lines.append(f"add chain {_TABLE} {name}{where}")
    lines += [f"add rule {_TABLE} {chain.split()[0]} {rule}" for chain, rules in chains.items() for rule in rules]
    return "\n".join(lines) + "\n"


def _transaction(changes: list[Change]) -> str:
    """All changes as one transaction, in an order in which nothing is used before it is there, or after it is gone."""
    add_chains: list[str] = []
    flush: list[str] = []
    drop_sets: list[str] = []
    add_sets: list[str] = []
    rules: list[str] = []
    delete: dict[str, list[str]] = {}
    add: dict[str, list[str]] = {}
    drop_chains: list[str] = []
    for old, new in changes:
        before, after = old or _NOTHING, new or _NOTHING
        replaced = {name for name, text in before.sets.items() if after.sets.get(name) != text}
        for name, wanted in after.chains.items():
            present = before.chains.get(name)
            if present == wanted and not _uses(wanted, replaced):
                continue
            (add_chains if present is None else flush).append(name)
            rules += [f"add rule {_TABLE} {name} {rule}" for rule in wanted]
        gone = before.chains.keys() - after.chains.keys()
        flush += gone
        drop_chains += gone
        drop_sets += [f"delete {before.sets[name].split()[0]} {_TABLE} {name}" for name in replaced]
        add_sets += [
            f"add {text.split()[0]} {_TABLE} {name} {text.split(maxsplit=1)[1]}"
            for name, text in after.sets.items()
            if name in replaced or name not in before.sets
        ]
        for name in before.elements.keys() | after.elements.keys():
            present_keys = {} if name in replaced else before.elements.get(name, {})
            wanted_keys = after.elements.get(name, {})
            if name not in replaced:
                delete.setdefault(name, []).extend(
                    key for key, verdict in present_keys.items() if wanted_keys.get(key) != verdict
                )
            add.setdefault(name, []).extend(
                f"{key} : {verdict}" if verdict else key
                for key, verdict in wanted_keys.items()
                if present_keys.get(key) != verdict
            )
    lines = [
        *(f"add chain {_TABLE} {name}" for name in add_chains),
        *(f"flush chain {_TABLE} {name}" for name in sorted(flush)),
        *_element_commands("delete", delete),
        *sorted(drop_sets),
        *add_sets,
        *rules,
        *_element_commands("add", add),
        *(f"delete chain {_TABLE} {name}" for name in sorted(drop_chains)),
    ]
    return "\n".join(lines) + "\n" if lines else ""


def _uses(rules: Iterable[str], sets: Collection[str]) -> bool:
    """Whether rules refer to one of these sets, which is not possible while it is exchanged."""
    return bool(sets) and any(word[0] == "@" and word[1:] in sets for rule in rules for word in rule.split())


def _element_commands(verb: str, elements: Mapping[str, list[str]]) -> Iterable[str]:
    for name in sorted(elements):
        keys = elements[name]
        for start in range(0, len(keys), _ELEMENTS_PER_COMMAND):
            yield f"{verb} element {_TABLE} {name} {{ {' , '.join(keys[start : start + _ELEMENTS_PER_COMMAND])} }}"


_NOTHING = Piece({}, {}, {})


@dataclass
class _PortRules:
    """Renders one port of a Service on one node."""

    config: NetworkConfig
    node: NodeNetwork
    port: ServicePort

    def piece(self) -> Piece:
        port = self.port
        found = choices(self.node, port)
        if not port.cluster_endpoints:
            return Piece({}, {}, self._unavailable("goto refuse", inside=True, outside=found.is_external))

        self.sets: dict[str, str] = {}
        self.chains: dict[str, tuple[str, ...]] = {}
        self.elements: dict[str, dict[str, str]] = {}
        names = {"service": nftables_name("service", port), "local": nftables_name("local", port)}
        external = nftables_name("external", port)
        for endpoint in found.endpoints:
            self._translate(endpoint)
        for choice, endpoints in found.among.items():
            self._balance(names[choice], endpoints, masquerade_outsiders=choice == found.inside)
        if found.is_external:
            self.chains[external] = self._external(names["service"], names["local"] if "local" in found.among else None)
        protocol = port.protocol.lower()
        if found.inside in found.among:
            key = f"{port.cluster_ip} . {protocol} . {port.service_port}"
            self._element("service-ips", key, f"goto {names[found.inside]}")
        else:
            self._merge(self._unavailable("drop", inside=True))
        if port.load_balancer_ip is not None:
            key = f"{port.load_balancer_ip} . {protocol} . {port.service_port}"
            self._element("service-ips", key, f"goto {external}")
        if port.node_port is not None:
            self._element("service-nodeports", f"{protocol} . {port.node_port}", f"goto {external}")
        if found.drops_outsiders:
            self._merge(self._unavailable("drop", outside=True))
        return Piece(self.sets, self.chains, self.elements)

    def _element(self, name: str, key: str, verdict: str) -> None:
        self.elements.setdefault(name, {})[key] = verdict

    def _merge(self, elements: Mapping[str, Mapping[str, str]]) -> None:
        for name, keys in elements.items():
            self.elements.setdefault(name, {}).update(keys)

    def _unavailable(self, verdict: str, inside: bool = False, outside: bool = False) -> dict[str, dict[str, str]]:
        """What answers in the place of endpoints: by the cluster address, and by the other addresses."""
        port = self.port
        protocol = port.protocol.lower()
        addresses = [port.cluster_ip] if inside else []
        if outside and port.load_balancer_ip is not None:
            addresses.append(port.load_balancer_ip)
        found = {
            "no-endpoint-services": {f"{address} . {protocol} . {port.service_port}": verdict for address in addresses}
        }
        if outside and port.node_port is not None:
            found["no-endpoint-nodeports"] = {f"{protocol} . {port.node_port}": verdict}
        return {name: keys for name, keys in found.items() if keys}

    def _translate(self, endpoint: ServiceEndpoint) -> None:
        """An endpoint's chain, and the clients that it is remembered for."""
        port = self.port
        rules = [f"ip saddr {endpoint.endpoint_ip} jump mark-for-masquerade"]
        if port.affinity_timeout_s is not None:
            clients = nftables_endpoint_name("affinity", port, endpoint)
            timeout = f"timeout {port.affinity_timeout_s}s ;"
            self.sets[clients] = f"set {{ type ipv4_addr ; flags dynamic,timeout ; {timeout} }}"
            rules.append(f"update @{clients} {{ ip saddr }}")
        target = f"{endpoint.endpoint_ip}:{endpoint.target_port}"
        rules.append(f"meta l4proto {port.protocol.lower()} dnat to {target}")
        self.chains[nftables_endpoint_name("endpoint", port, endpoint)] = tuple(rules)

    def _balance(self, chain: str, endpoints: tuple[ServiceEndpoint, ...], masquerade_outsiders: bool) -> None:
        """A remembered endpoint, or each with the same probability."""
        port = self.port
        rules = []
        if masquerade_outsiders:
            # Answers to those that are no pods must come back through this node.
            rules.append(
                f"ip daddr {port.cluster_ip} {port.protocol.lower()} dport {port.service_port} "
                f"ip saddr != {self.config.cluster_cidr} jump mark-for-masquerade"
            )
        names = [nftables_endpoint_name("endpoint", port, endpoint) for endpoint in endpoints]
        if port.affinity_timeout_s is not None:
            rules += [
                f"ip saddr @{nftables_endpoint_name('affinity', port, endpoint)} goto {name}"
                for endpoint, name in zip(endpoints, names, strict=True)
            ]
        if len(names) == 1:
            rules.append(f"goto {names[0]}")
        else:
            choice = f"choice-{chain}"
            self.sets[choice] = "map { typeof numgen random mod 2 : verdict ; }"
            self.elements[choice] = {str(number): f"goto {name}" for number, name in enumerate(names)}
            rules.append(f"numgen random mod {len(names)} vmap @{choice}")
        self.chains[chain] = tuple(rules)

    def _external(self, service: str, local: str | None) -> tuple[str, ...]:
        """What came for a NodePort or a load balancer's address.

        With a Local policy, pods and the node itself use all endpoints. Pods of other nodes are masqueraded then, or
        the endpoint would answer them past this node.
        """
        if not self.port.external_local:
            return ("jump mark-for-masquerade", f"goto {service}")
        rules = [
            f'ip saddr {self.node.pod_cidr} goto {service} comment "pods of this node"',
            f"ip saddr {self.config.cluster_cidr} jump mark-for-masquerade",
            f'ip saddr {self.config.cluster_cidr} goto {service} comment "pods of other nodes"',
            "fib saddr type local jump mark-for-masquerade",
            f'fib saddr type local goto {service} comment "this node"',
        ]
        if local is not None:
            rules.append(f"goto {local}")
        return tuple(rules)
