"""iptables: the rules that ``iptables-save`` prints, asked about one packet. Pure.

A rule with a match or a target that this module does not know is passed over, and the trace says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_network

from testbed.trace.netfilter import Decided, Evaluation, Hook, Meeting, Ruling, Unreadable

_HOOKS: Mapping[str, Hook] = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
# linux/netfilter_ipv4.h, enum nf_ip_hook_priorities; nat comes late where it translates sources.
_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_LATE_NAT: dict[Hook, int] = {"input": 100, "postrouting": 100}
# Options of targets, which say how and not whether.
_TARGET_OPTIONS = {
    "--reject-with",
    "--set-xmark",
    "--to-destination",
    "--to-source",
    "--to-ports",
    "--random",
    "--random-fully",
    "--persistent",
}
_WITHOUT_VALUE = {"--random", "--random-fully", "--persistent", "--rcheck", "--update", "--set", "--reap", "--rsource"}

# Options of the match ``recent``, judged together.
_REMEMBERING = {"--set", "--rcheck", "--update", "--name", "--seconds", "--reap", "--mask", "--rsource"}


@dataclass(frozen=True)
class Rule:
    """One rule. ``conditions`` are (option, value, negated); ``options`` those of the target."""

    text: str
    conditions: tuple[tuple[str, str, bool], ...]
    target: str
    goes_for_good: bool
    options: Mapping[str, str]

    @property
    def probability(self) -> float | None:
        """Of a random choice; None where the rule makes none."""
        return next((float(value) for option, value, _ in self.conditions if option == "--probability"), None)


@dataclass
class Table:
    """One table: the rules of its chains, and the policies of the built-in ones."""

    name: str
    rules: dict[str, list[Rule]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)


@dataclass
class Chain:
    """A built-in chain (see :class:`testbed.trace.netfilter.BaseChain`). ``wanted``: the endpoint to follow."""

    table: Table
    name: str
    hook: Hook
    priority: int
    kind: str
    wanted: IPv4Address | None = None

    def ask(self, meeting: Meeting) -> Ruling:
        """What the chain makes of a packet."""
        return _Evaluation(self, meeting).run()


def parse_tables(text: str) -> dict[str, Table]:
    """The tables that ``iptables-save`` prints, by name."""
    tables: dict[str, Table] = {}
    table = Table("")
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables[line[1:]] = Table(line[1:])
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            table.rules[name] = []
            table.policies[name] = policy
        elif line.startswith("-A "):
            words = shlex.split(line)
            table.rules[words[1]].append(_parse_rule(line.split(maxsplit=2)[2] if len(words) > 2 else "", words[2:]))
    return tables


def base_chains(tables: Mapping[str, Table], wanted: IPv4Address | None = None) -> list[Chain]:
    """The chains that the kernel itself asks."""
    chains = []
    for table in tables.values():
        for name, hook in _HOOKS.items():
            if name in table.rules and table.name in _PRIORITIES:
                is_nat = table.name == "nat"
                priority = _LATE_NAT.get(hook, _PRIORITIES["nat"]) if is_nat else _PRIORITIES[table.name]
                chains.append(Chain(table, name, hook, priority, "nat" if is_nat else "filter", wanted))
    return chains


def _parse_rule(text: str, words: Sequence[str]) -> Rule:
    conditions: list[tuple[str, str, bool]] = []
    options: dict[str, str] = {}
    target, for_good, negated = "", False, False
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "!":
            negated = True
            continue
        value = "" if word in _WITHOUT_VALUE or not left else left.pop(0)
        if word in ("-j", "-g"):
            target, for_good = value, word == "-g"
        elif word in _TARGET_OPTIONS:
            options[word] = value
        elif word not in ("-m", "--comment"):
            conditions.append((word, value, negated))
        negated = False
    return Rule(text, tuple(conditions), target, for_good, options)


class _Evaluation(Evaluation):
    def __init__(self, chain: Chain, meeting: Meeting) -> None:
        table = chain.table
        super().__init__(meeting, f"iptables table {table.name}", chain.name, table.policies[chain.name], chain.wanted)
        self._rules = table.rules

    def _run_chain(self, name: str) -> None:
        self._path.append(name)
        rules = self._rules[name]
        for position, rule in enumerate(rules):
            try:
                if rule.probability is not None:
                    if self._matches(rule):
                        # The rules that follow are the rest of this choice.
                        self._carry_out(self._choose(rules[position:]))
                        break
                elif self._matches(rule) and self._carry_out(rule):
                    break
            except Unreadable as error:
                self._pass_over(rule.text, error, {"rule": rule.text})
        self._path.pop()

    def _choose(self, rules: Sequence[Rule]) -> Rule:
        """Which of a sequence of rules with probabilities is followed, with a step that shows them all."""
        shares: dict[str, float] = {}
        found: dict[str, Rule] = {}
        left = 1.0
        for rule in rules:
            if self._matches(rule):
                share = left * (1.0 if rule.probability is None else rule.probability)
                target = self._leads_to(rule)
                shares[target] = shares.get(target, 0) + share
                found.setdefault(target, rule)
                left -= share
                if rule.probability is None:
                    break
        return found[self._follow(shares)]

    def _leads_to(self, rule: Rule) -> str:
        """Where a rule leads: the address that its chain translates to, or the chain's name."""
        for inner in self._rules.get(rule.target, ()):
            if "--to-destination" in inner.options:
                return inner.options["--to-destination"]
        return rule.target

    def _carry_out(self, rule: Rule) -> bool:
        """Do what a rule says; True when it ends its chain."""
        target = rule.target
        if target in self._rules:
            self._run_chain(target)
            return rule.goes_for_good
        if target == "RETURN":
            return True
        if target == "ACCEPT":
            raise Decided(None)
        if target == "DROP":
            raise Decided("dropped", self._told(rule.text))
        if target == "REJECT":
            raise Decided("refused", self._told(rule.text))
        if target == "MARK":
            value, _, mask = rule.options["--set-xmark"].partition("/")
            keep = ~int(mask or "0xffffffff", 0) & 0xFFFFFFFF
            self._set_mark(rule.text, (self._packet.mark & keep) ^ int(value, 0))
            return False
        if target in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT"):
            self._translate(rule)
            raise Decided(None)
        if target in ("", "LOG"):
            return False
        raise Unreadable(f"target {target}")

    def _translate(self, rule: Rule) -> None:
        before = self._packet.tuple
        address, _, number = (rule.options.get("--to-destination") or rule.options.get("--to-source") or "").partition(
            ":"
        )
        if rule.target in ("DNAT", "REDIRECT"):
            number = number or rule.options.get("--to-ports", "")
            after = replace(
                before,
                destination=IPv4Address(address) if address else before.destination,
                destination_port=int(number) if number else before.destination_port,
            )
        else:
            own = self._meeting.device_addresses
            source = IPv4Address(address) if address else IPv4Address(own[0]) if own else before.source
            after = replace(before, source=source, source_port=int(number) if number else before.source_port)
        self._translate_to(rule.text, after)

    # -- matches ------------------------------------------------------------------------------------------------

    def _matches(self, rule: Rule) -> bool:
        """Whether a packet meets all conditions but that of chance."""
        if any(option in ("--rcheck", "--update") for option, _, _ in rule.conditions):
            name = next(value for option, value, _ in rule.conditions if option == "--name")
            if str(self._packet.tuple.source) not in self._meeting.recent(name):
                return False
        return all(self._meets(option, value) != negated for option, value, negated in rule.conditions)

    def _meets(self, option: str, value: str) -> bool:
        known, meeting = self._packet.tuple, self._meeting
        conditions: dict[str, Callable[[], bool]] = {
            "-s": lambda: known.source in ip_network(value),
            "-d": lambda: known.destination in ip_network(value),
            "-p": lambda: value in (known.protocol, "all"),
            "-i": lambda: _is_interface(meeting.iif, value),
            "-o": lambda: _is_interface(meeting.oif, value),
            "--dport": lambda: _in_range(known.destination_port, value),
            "--sport": lambda: _in_range(known.source_port, value),
            "--ctstate": lambda: ("NEW" if meeting.found.entry is None else "ESTABLISHED") in value.split(","),
            "--dst-type": lambda: value == ("LOCAL" if meeting.local_destination else "UNICAST"),
            "--src-type": lambda: value == ("LOCAL" if meeting.local_source else "UNICAST"),
            "--mark": lambda: _marked(self._packet.mark, value),
            "--mode": lambda: value == "random",
        }
        if option in conditions:
            return conditions[option]()
        # Of chance, and of what a rule remembers of the packets that it matched.
        if option in _REMEMBERING or option == "--probability":
            return True
        raise Unreadable(option)


def _is_interface(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("+") else name == wanted


def _in_range(number: int, text: str) -> bool:
    low, _, high = text.partition(":")
    return int(low or 0) <= number <= int(high or low)


def _marked(mark: int, text: str) -> bool:
    value, _, mask = text.partition("/")
    return mark & int(mask or "0xffffffff", 0) == int(value, 0)
