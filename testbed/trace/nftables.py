"""nftables: the rule set that ``nft -j`` prints, asked about one packet. Pure (libnftables-json(5)).

A rule that this module cannot judge is passed over, and the trace says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from testbed.trace.netfilter import Decided, Evaluation, Hook, Meeting, Ruling, Unreadable
from testbed.trace.values import PROTOCOL_NUMBERS

Json = Mapping[str, Any]
RuleKey = tuple[str, str, int]  # "ip kube-proxy", chain, handle
_HOOKS: tuple[Hook, ...] = ("prerouting", "input", "forward", "output", "postrouting")
_FAMILIES = ("ip", "inet")
# Statements without effect on the packet.
_IGNORED = {"counter", "log", "limit", "set", "comment", "notrack", "flow"}
_MOST_JUMPS = 64


@dataclass
class Table:
    """One table: its chains' rules, and its sets and maps by name."""

    family: str
    name: str
    rules: dict[str, list[Json]] = field(default_factory=dict)
    sets: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class Chain:
    """A base chain (see :class:`testbed.trace.netfilter.BaseChain`). ``wanted``: the endpoint to follow of several."""

    table: Table
    name: str
    kind: str
    hook: Hook
    priority: int
    policy: str
    texts: Mapping[RuleKey, str]
    wanted: IPv4Address | None = None

    def ask(self, meeting: Meeting) -> Ruling:
        """What the chain makes of a packet."""
        return _Evaluation(self, meeting).run()


def base_chains(
    listed: Sequence[Json], texts: Mapping[RuleKey, str], skip: frozenset[str], wanted: IPv4Address | None = None
) -> list[Chain]:
    """The base chains for IPv4 of a rule set.

    ``texts`` are the rules as people write them; ``skip`` are tables that belong to iptables.
    """
    tables: dict[tuple[str, str], Table] = {}
    chains: list[Chain] = []
    for entry in listed:
        ((kind, body),) = entry.items()
        if kind == "metainfo" or body["family"] not in _FAMILIES:
            continue
        if kind == "table":
            tables[body["family"], body["name"]] = Table(body["family"], body["name"])
            continue
        table = tables[body["family"], body["table"]]
        if table.family == "ip" and table.name in skip:
            continue
        if kind == "chain":
            table.rules[body["name"]] = []
            if body.get("hook") in _HOOKS:
                policy = body.get("policy", "accept")
                chains.append(
                    Chain(table, body["name"], body["type"], body["hook"], body["prio"], policy, texts, wanted)
                )
        elif kind == "rule":
            table.rules[body["chain"]].append(body)
        elif kind in ("set", "map"):
            table.sets[body["name"]] = body.get("elem", [])
    return chains


def rule_texts(listing: str) -> dict[RuleKey, str]:
    """From ``nft -a list ruleset``: each rule as written, by table, chain and handle."""
    found: dict[RuleKey, str] = {}
    table = chain = ""
    for line in listing.splitlines():
        words = line.strip()
        if line.startswith("table "):
            table = " ".join(words.split()[1:3])
        elif words.startswith("chain "):
            chain = words.split()[1]
        elif " # handle " in words and not words.endswith("{"):
            text, _, handle = words.rpartition(" # handle ")
            if handle.isdigit():
                found[table, chain, int(handle)] = text
    return found


class _Evaluation(Evaluation):
    def __init__(self, chain: Chain, meeting: Meeting) -> None:
        table = f"nftables table {chain.table.family} {chain.table.name}"
        super().__init__(meeting, table, chain.name, chain.policy, chain.wanted)
        self._table, self._texts = chain.table, chain.texts

    def _run_chain(self, name: str) -> None:
        if len(self._path) > _MOST_JUMPS:
            raise Unreadable("a loop of chains")
        self._path.append(name)
        try:
            for rule in self._table.rules.get(name, ()):
                try:
                    ended = self._run_rule(rule)
                except Unreadable as error:
                    self._pass_over(self._text(rule), error, {"handle": rule["handle"]})
                    continue
                if ended:
                    return
        finally:
            self._path.pop()

    def _text(self, rule: Json) -> str:
        key = f"{self._table.family} {self._table.name}", rule["chain"], rule["handle"]
        return self._texts.get(key, f"handle {rule['handle']}")

    def _run_rule(self, rule: Json) -> bool:
        """Carry out a rule; True when it ends its chain."""
        for statement in rule["expr"]:
            name, body = _only(statement)
            if name == "match":
                if not self._matches(body):
                    return False
            elif name == "vmap":
                verdict = self._mapped(self._value(body["key"]), body["data"], body["key"])
                if verdict is None:
                    return False
                return self._verdict(rule, verdict)
            elif name == "mangle":
                self._mangle(rule, body)
            elif name in ("dnat", "snat", "masquerade", "redirect"):
                self._translate(rule, name, body)
                raise Decided(None)
            elif name == "reject":
                raise Decided("refused", self._told(self._text(rule)))
            elif name in ("accept", "drop", "return", "jump", "goto", "continue"):
                return self._verdict(rule, {name: body})
            elif name not in _IGNORED:
                raise Unreadable(name)
        return False

    def _verdict(self, rule: Json, verdict: Json) -> bool:
        ((name, body),) = verdict.items()
        if name == "accept":
            raise Decided(None)
        if name == "drop":
            raise Decided("dropped", self._told(self._text(rule)))
        if name == "return":
            return True
        if name in ("jump", "goto"):
            self._run_chain(body["target"])
            return bool(name == "goto")
        if name == "continue":
            return False
        raise Unreadable(name)

    # -- statements that change the packet ----------------------------------------------------------------------

    def _mangle(self, rule: Json, body: Json) -> None:
        if body["key"] != {"meta": {"key": "mark"}}:
            raise Unreadable(f"set {body['key']}")
        mark = self._value(body["value"])
        if not isinstance(mark, int):
            raise Unreadable(f"mark {mark}")
        if mark != self._packet.mark:
            self._set_mark(self._text(rule), mark)

    def _translate(self, rule: Json, name: str, body: Json) -> None:
        known = self._packet.tuple
        if name in ("dnat", "redirect"):
            address = known.destination
            if name == "dnat" and "addr" in body:
                address = IPv4Address(str(self._value(body["addr"])))
            after = replace(known, destination=address, destination_port=self._port(body, known.destination_port))
        else:
            address = known.source
            if "addr" in body:
                address = IPv4Address(str(self._value(body["addr"])))
            elif self._meeting.device_addresses:
                address = IPv4Address(self._meeting.device_addresses[0])
            after = replace(known, source=address, source_port=self._port(body, known.source_port))
        self._translate_to(self._text(rule), after)

    def _port(self, body: Json, otherwise: int) -> int:
        if "port" not in body:
            return otherwise
        value = self._value(body["port"])
        if not isinstance(value, int):
            raise Unreadable(f"port {value}")
        return value

    # -- expressions --------------------------------------------------------------------------------------------

    def _matches(self, body: Json) -> bool:
        left = self._value(body["left"])
        right, operator = body["right"], body["op"]
        if operator in ("==", "in"):
            return self._equals(left, right)
        if operator == "!=":
            return not self._equals(left, right)
        other = self._value(right)
        if isinstance(left, int) and isinstance(other, int):
            comparisons = {"<": left < other, ">": left > other, "<=": left <= other, ">=": left >= other}
            if operator in comparisons:
                return comparisons[operator]
        raise Unreadable(f"operator {operator}")

    def _equals(self, left: Any, right: Any) -> bool:
        if isinstance(right, str) and right.startswith("@"):
            return any(self._equals(left, _element(one)) for one in self._table.sets.get(right[1:], ()))
        if isinstance(right, list):
            return any(self._equals(left, one) for one in right)
        if isinstance(right, dict):
            if "set" in right:
                members = right["set"] if isinstance(right["set"], list) else [right["set"]]
                return any(self._equals(left, _element(one)) for one in members)
            if "prefix" in right:
                network = ip_network(f"{right['prefix']['addr']}/{right['prefix']['len']}")
                return ip_address(str(left)) in network
            if "range" in right:
                low, high = (_number(one) for one in right["range"])
                return low <= _number(left) <= high
            if "concat" in right:
                parts = right["concat"]
                return (
                    isinstance(left, tuple)
                    and len(left) == len(parts)
                    and all(self._equals(one, other) for one, other in zip(left, parts, strict=True))
                )
            return bool(left == self._value(right))
        if isinstance(left, frozenset):
            return right in left
        if isinstance(right, str) and isinstance(left, str) and right.endswith("*"):
            return left.startswith(right[:-1])
        return str(left) == str(right)

    def _value(self, expression: Any) -> Any:
        """An expression's value for the packet: a number, a text, a tuple, or a set of flags."""
        if not isinstance(expression, dict):
            return expression
        ((name, body),) = expression.items()
        if name == "payload":
            return self._header(body)
        if name == "meta":
            return self._meta(body["key"])
        if name == "ct":
            return self._connection(body["key"])
        if name == "concat":
            return tuple(self._value(one) for one in body)
        if name in ("&", "|", "^"):
            one, other = (self._value(part) for part in body)
            if not isinstance(one, int) or not isinstance(other, int):
                raise Unreadable(f"{one} {name} {other}")
            return one & other if name == "&" else one | other if name == "|" else one ^ other
        if name == "fib" and body.get("result") == "type":
            local = {"saddr": self._meeting.local_source, "daddr": self._meeting.local_destination}
            for flag in body["flags"]:
                if flag in local:
                    return "local" if local[flag] else "unicast"
        if name == "map":
            found = self._mapped(self._value(body["key"]), body["data"], body["key"])
            if found is not None:
                return self._value(found)
        if name == "numgen":
            return 0
        raise Unreadable(name)

    def _header(self, body: Json) -> Any:
        known = self._packet.tuple
        protocol, name = body.get("protocol"), body.get("field")
        if protocol == "ip":
            values: dict[str, Any] = {
                "saddr": known.source,
                "daddr": known.destination,
                "protocol": known.protocol,
                "ttl": self._packet.ttl,
            }
        elif protocol == "ether":
            values = {"saddr": self._packet.eth_src, "daddr": self._packet.eth_dst}
        elif protocol == "icmp":
            values = {"type": "echo-reply" if self._packet.is_reply else "echo-request"}
        else:
            values = {"sport": known.source_port, "dport": known.destination_port}
            if protocol not in ("th", known.protocol) or known.protocol == "icmp":
                return None
        if name not in values:
            raise Unreadable(f"{protocol} {name}")
        return values[name]

    def _meta(self, key: str) -> Any:
        known = {
            "l4proto": self._packet.tuple.protocol,
            "iifname": self._meeting.iif,
            "oifname": self._meeting.oif,
            "iif": self._meeting.iif,
            "oif": self._meeting.oif,
            "mark": self._packet.mark,
            "nfproto": "ipv4",
            "protocol": "ip",
        }
        if key not in known:
            raise Unreadable(f"meta {key}")
        return known[key]

    def _connection(self, key: str) -> Any:
        entry = self._meeting.found.entry
        if key == "state":
            return frozenset({"new"} if entry is None else {"established"})
        if key == "mark":
            return entry.mark if entry is not None else 0
        if key == "status":
            flags = set()
            if entry is not None and entry.source_translated:
                flags.add("snat")
            if entry is not None and entry.destination_translated:
                flags.add("dnat")
            return frozenset(flags)
        raise Unreadable(f"ct {key}")

    def _mapped(self, key: Any, data: Any, expression: Any) -> Any:
        """What a map has for a key; of a random choice, what is followed, with a step that shows all of it."""
        members = self._table.sets.get(data[1:], []) if isinstance(data, str) else data["set"]
        pairs = [(_element(member[0]), member[1]) for member in members]
        if isinstance(expression, dict) and "numgen" in expression:
            return self._choose(pairs, expression["numgen"]["mod"])
        return next((value for one, value in pairs if one == "*" or self._equals(key, one)), None)

    def _choose(self, pairs: Sequence[tuple[Any, Any]], of: int) -> Any:
        shares: dict[str, float] = {}
        verdicts: dict[str, Any] = {}
        for number, verdict in pairs:
            target = self._target(verdict)
            width = number["range"][1] - number["range"][0] + 1 if isinstance(number, dict) else 1
            shares[target] = shares.get(target, 0) + width / of
            verdicts.setdefault(target, verdict)
        if not verdicts:
            return None
        return verdicts[self._follow(shares)]

    def _target(self, verdict: Json) -> str:
        """Where a verdict leads: the address that its chain translates to, or the chain's name."""
        chain = next((body["target"] for name, body in verdict.items() if name in ("jump", "goto")), "")
        for rule in self._table.rules.get(chain, ()):
            for statement in rule["expr"]:
                body = statement.get("dnat") if isinstance(statement, dict) else None
                if body:
                    port = f":{body['port']}" if "port" in body else ""
                    return f"{body.get('addr', '')}{port}"
        return chain or str(verdict)


def _only(statement: Any) -> tuple[str, Any]:
    """A statement's name and what it says; one that says nothing is a bare word or has null."""
    if isinstance(statement, str):
        return statement, {}
    ((name, body),) = statement.items()
    return name, {} if body is None else body


def _element(member: Any) -> Any:
    """A member of a set without what is kept beside it (a timeout, a counter)."""
    return member["elem"]["val"] if isinstance(member, dict) and "elem" in member else member


def _number(value: Any) -> int:
    if isinstance(value, int):
        return value
    if value in PROTOCOL_NUMBERS:
        return PROTOCOL_NUMBERS[value]
    return int(ip_address(str(value)))
