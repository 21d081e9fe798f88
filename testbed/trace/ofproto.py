"""Read what ``ofproto/trace`` of Open vSwitch prints (ovs-vswitchd(8), FLOW TRACING) into values. Pure.

It prints a section for each pass through the bridge's tables: the first one, and one for each time the packet comes
back from connection tracking. A section begins with the packet, shows each table with the flow that matched and its
actions, and ends with the packet as it is then and the actions for the datapath.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from testbed.trace.values import PROTOCOL_NUMBERS, FiveTuple, Packet, TransportProtocol

# A packet's fields by Open vSwitch's names, in the order printed. A word without a value (``tcp``) has "".
Fields = dict[str, str]


class UnreadableTrace(ValueError):
    """Text that is no trace, or not one that this module knows how to read."""


@dataclass(frozen=True)
class TracedAction:
    """An action as printed, with the remarks below it: ``output port is 1``, ``using bucket 3``."""

    text: str
    remarks: tuple[str, ...] = ()

    @property
    def troubles(self) -> tuple[str, ...]:
        """What kept the action from being carried out; that a trace itself learns nothing is none."""
        return tuple(
            remark.lstrip("> ")
            for remark in self.remarks
            if (remark.startswith(">") and "suppressing side effects" not in remark) or remark == "no live bucket"
        )


@dataclass(frozen=True)
class TracedTable:
    """What happened in one table. ``matched`` is False where no flow matched; then there are no actions but drop.

    ``depth`` is how deep resubmits were nested when the packet came to this table; ``bucket_actions`` are those of the
    bucket that the flow's group chose.
    """

    number: int
    matched: bool
    match: str = ""
    priority: int = 0
    cookie: int = 0
    depth: int = 0
    actions: tuple[TracedAction, ...] = ()
    bucket_actions: tuple[TracedAction, ...] = ()

    @property
    def drops(self) -> bool:
        return not self.matched or tuple(action.text for action in self.actions) == ("drop",)


@dataclass(frozen=True)
class ConntrackAction:
    """``ct(...)``. ``nat`` is None without translation, "" where the connection's entry says how."""

    zone: int
    table: int | None
    commit: bool
    nat: str | None


@dataclass(frozen=True)
class Section:
    """One pass. ``datapath_actions`` are the top level's, as printed."""

    flow: Fields
    tables: tuple[TracedTable, ...]
    final: Fields
    datapath_actions: tuple[str, ...]
    errors: tuple[str, ...] = ()

    @property
    def output_numbers(self) -> tuple[int, ...]:
        """The datapath's numbers of the ports that the packet leaves by."""
        return tuple(int(action) for action in self.datapath_actions if action.isdigit())

    @property
    def wants_hash(self) -> bool:
        """The pass stopped at a select group, for the datapath to hash the packet; then it comes again."""
        return any(action.startswith("hash(") for action in self.datapath_actions)

    @property
    def commits(self) -> tuple[ConntrackAction, ...]:
        """The actions that make a connection known and let the packet go on as it is."""
        parsed = (parse_conntrack(action.text) for table in self.tables for action in table.actions)
        return tuple(action for action in parsed if action is not None and action.commit and action.table is None)

    @property
    def conntrack(self) -> ConntrackAction | None:
        """The action at which the pass stopped, for the packet to come back with its connection's state."""
        for table in reversed(self.tables):
            for action in reversed((*table.actions, *table.bucket_actions)):
                parsed = parse_conntrack(action.text)
                if parsed is not None and parsed.table is not None:
                    return parsed
        return None


@dataclass
class _Table:
    number: int
    indent: int
    matched: bool
    match: str = ""
    priority: int = 0
    cookie: int = 0
    actions: list[tuple[str, list[str]]] = field(default_factory=list)
    bucket_indent: int | None = None
    bucket_actions: list[tuple[str, list[str]]] = field(default_factory=list)

    def actions_at(self, indent: int) -> list[tuple[str, list[str]]]:
        """Where an action, or a remark about one, belongs that is printed this far to the right."""
        in_bucket = self.bucket_indent is not None and indent > self.bucket_indent
        return self.bucket_actions if in_bucket else self.actions


_TABLE = re.compile(r"^( *)(\d+)\. (.*)$")
_FLOW = re.compile(r"^(?:(?P<match>.*), )?priority (?P<priority>\d+)(?:, cookie (?P<cookie>0x[0-9a-f]+))?$")
# Lines about the pass itself, not about a flow's actions.
_ABOUT_THE_PASS = re.compile(r"^ *(thaw|Resuming from table .*)$")


def parse_trace(text: str) -> tuple[Section, ...]:
    """All passes that a trace shows. Raises UnreadableTrace."""
    sections = []
    for part in re.split(r"(?m)^Flow: ", text)[1:]:
        sections.append(_section(part))
    if not sections:
        raise UnreadableTrace(f"no flow in {text[:200]!r}")
    return tuple(sections)


def parse_fields(text: str) -> Fields:
    """A printed packet: ``tcp,in_port=10,nw_src=10.0.0.1``."""
    found = {}
    for word in _split(text.strip()):
        name, _, value = word.partition("=")
        found[name] = value
    return found


def fields_text(fields: Fields) -> str:
    """Fields as Open vSwitch reads them: without what it only prints, and with each protocol's own name of a port."""
    own = {"tp_src": "udp_src", "tp_dst": "udp_dst"} if "udp" in fields else {}
    return ",".join(
        f"{own.get(name, name)}={value}" if value else name
        for name, value in fields.items()
        if name not in ("recirc_id", "eth")
    )


def packet_fields(packet: Packet, of_port: int) -> Fields:
    """A packet that enters a bridge by a port."""
    known = packet.tuple
    fields = {
        "in_port": str(of_port),
        known.protocol: "",
        "dl_src": packet.eth_src,
        "dl_dst": packet.eth_dst,
        "nw_src": str(known.source),
        "nw_dst": str(known.destination),
        "nw_ttl": str(packet.ttl),
    }
    if known.protocol == "icmp":
        return {**fields, "icmp_type": "0" if packet.is_reply else "8", "icmp_code": "0"}
    return {**fields, "tp_src": str(known.source_port), "tp_dst": str(known.destination_port)}


def fields_packet(fields: Fields, like: Packet) -> Packet:
    """The packet of some fields; what they do not tell is as in ``like``. Raises UnreadableTrace."""
    try:
        protocol: TransportProtocol = next(name for name in PROTOCOL_NUMBERS if name in fields)
        ports = (like.tuple.source_port, like.tuple.destination_port)
        if protocol != "icmp":
            ports = int(fields["tp_src"]), int(fields["tp_dst"])
        return Packet(
            FiveTuple(protocol, IPv4Address(fields["nw_src"]), ports[0], IPv4Address(fields["nw_dst"]), ports[1]),
            ttl=int(fields["nw_ttl"]),
            eth_src=fields["dl_src"],
            eth_dst=fields["dl_dst"],
            is_reply=like.is_reply,
        )
    except (KeyError, ValueError, StopIteration) as error:
        raise UnreadableTrace(f"{error!r} in {fields}") from None


def parse_conntrack(text: str) -> ConntrackAction | None:
    """A ``ct(...)`` action; None for any other."""
    if not text.startswith("ct(") or not text.endswith(")"):
        return None
    table, zone, commit, nat = None, 0, False, None
    for word in _split(text[3:-1]):
        name, _, value = word.partition("=")
        if name == "table":
            table = int(value)
        elif name == "zone":
            if not value.isdigit():
                raise UnreadableTrace(f"a zone from a register: {text}")
            zone = int(value)
        elif word == "commit":
            commit = True
        elif word == "nat" or word.startswith("nat("):
            nat = word[4:-1]
    return ConntrackAction(zone, table, commit, nat)


def _section(text: str) -> Section:
    lines = text.splitlines()
    flow = parse_fields(lines[0])
    body, final, actions, errors = [], "", "", []
    for line in lines[1:]:
        if line.startswith("Final flow: "):
            final = line.removeprefix("Final flow: ")
        elif line.startswith("Datapath actions: "):
            actions = line.removeprefix("Datapath actions: ")
        elif line.startswith("Translation failed"):
            errors.append(line)
        elif line.startswith("===="):
            break
        elif not final and not line.startswith(("bridge(", "----", "Megaflow: ")):
            body.append(line)
    if not final:
        raise UnreadableTrace(f"no final flow in {text[:200]!r}")
    return Section(
        flow,
        _tables(body),
        flow if final == "unchanged" else parse_fields(final),
        () if actions == "drop" else tuple(_split(actions)),
        tuple(errors),
    )


def _tables(lines: list[str]) -> tuple[TracedTable, ...]:
    found: list[_Table] = []
    # What precedes the first table: the actions of a traced packet-out.
    open_tables: list[_Table] = []
    for line in lines:
        if not line.strip() or _ABOUT_THE_PASS.match(line):
            continue
        if beginning := _TABLE.match(line):
            # Numbers are printed two characters wide; a third one does not make it deeper.
            table = _begin(len(beginning[1]) + min(len(beginning[2]), 2), int(beginning[2]), beginning[3])
            found.append(table)
            # A table at the same depth or less ends those that are open there.
            open_tables = [one for one in open_tables if one.indent < table.indent] + [table]
            continue
        indent = len(line) - len(line.lstrip())
        owner = next((one for one in reversed(open_tables) if one.indent < indent), None)
        if owner is None:
            continue
        words = line.strip()
        if re.fullmatch(r"bucket \d+", words):
            owner.bucket_indent = indent
        elif words.startswith(("->", ">>")):
            # A remark stands one further to the right than the action it is about.
            actions = owner.actions_at(indent - 1)
            if actions:
                actions[-1][1].append(words.removeprefix("-> "))
        elif not re.fullmatch(r"nat(\(.*\))?", words):
            owner.actions_at(indent).append((words, []))
    indents = sorted({table.indent for table in found})
    return tuple(
        TracedTable(
            table.number,
            table.matched,
            table.match,
            table.priority,
            table.cookie,
            indents.index(table.indent),
            tuple(TracedAction(action, tuple(remarks)) for action, remarks in table.actions),
            tuple(TracedAction(action, tuple(remarks)) for action, remarks in table.bucket_actions),
        )
        for table in found
    )


def _begin(indent: int, number: int, rest: str) -> _Table:
    if rest == "No match.":
        return _Table(number, indent, False)
    flow = _FLOW.match(rest)
    if flow is None:
        raise UnreadableTrace(f"table {number}: {rest}")
    return _Table(number, indent, True, flow["match"] or "", int(flow["priority"]), int(flow["cookie"] or "0", 16))


def _split(text: str) -> list[str]:
    """Split at commas that are in no brackets."""
    words, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "," and not depth:
            words.append(text[start:position])
            start = position + 1
    words.append(text[start:])
    return [word for word in words if word]
