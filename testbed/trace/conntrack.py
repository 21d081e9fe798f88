"""Connection tracking of one datapath or kernel, as far as a trace needs it: what entries are there, and what a packet
that comes by now would find. Pure.

The entries are the real ones; a trace adds those that the traced packet itself would have made, so that its reply finds
them. Nothing is ever written to the real table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from testbed.trace.values import PROTOCOL_NUMBERS, FiveTuple

_PART = re.compile(r"(orig|reply)=\(([^)]*)\)")


@dataclass(frozen=True)
class Entry:
    """A connection: its packets in the direction of the first one, and those that answer them as they come in."""

    zone: int
    original: FiveTuple
    reply: FiveTuple
    mark: int = 0

    @property
    def source_translated(self) -> bool:
        return self.reply.reversed.source != self.original.source or (
            self.reply.reversed.source_port != self.original.source_port
        )

    @property
    def destination_translated(self) -> bool:
        return self.reply.reversed.destination != self.original.destination or (
            self.reply.reversed.destination_port != self.original.destination_port
        )

    @property
    def translates(self) -> bool:
        return self.source_translated or self.destination_translated


@dataclass(frozen=True)
class Found:
    """What a look-up finds: the connection, if there is one, and in which direction of it the packet travels."""

    entry: Entry | None
    is_reply: bool = False

    @property
    def words(self) -> str:
        if self.entry is None:
            return "a new connection"
        return "a reply of a known connection" if self.is_reply else "a known connection"

    def state(self, translated: bool) -> str:
        """The packet's ``ct_state`` as Open vSwitch writes it (ovs-fields(7))."""
        if self.entry is None:
            return "new|trk"
        flags = ["est"] + (["rpl"] if self.is_reply else []) + ["trk"]
        if translated:
            flags += ["snat"] if self.entry.source_translated else []
            flags += ["dnat"] if self.entry.destination_translated else []
        return "|".join(flags)

    def translated(self, packet: FiveTuple) -> FiveTuple:
        """The packet after the connection's translation, if it has any."""
        if self.entry is None:
            return packet
        return self.entry.original.reversed if self.is_reply else self.entry.reply.reversed


@dataclass
class Connections:
    """The connections that one datapath or kernel knows."""

    entries: list[Entry] = field(default_factory=list)

    def look_up(self, zone: int, packet: FiveTuple) -> Found:
        """The connection that a packet belongs to."""
        for entry in reversed(self.entries):
            if entry.zone == zone:
                if entry.original == packet:
                    return Found(entry)
                if entry.reply == packet:
                    return Found(entry, is_reply=True)
        return Found(None)

    def commit(self, zone: int, before: FiveTuple, after: FiveTuple, mark: int) -> None:
        """Remember a connection whose first packet ``before`` became ``after``; a known one is only marked."""
        known = self.look_up(zone, before).entry
        if known is not None:
            self.entries[self.entries.index(known)] = replace(known, mark=mark)
        else:
            self.entries.append(Entry(zone, before, after.reversed, mark))


def parse_connections(text: str) -> list[Entry]:
    """What ``dpctl/dump-conntrack`` prints; connections of other protocols, and over IPv6, are left out."""
    return list(_entries(text.splitlines()))


def parse_kernel_connections(text: str) -> list[Entry]:
    """What ``conntrack -L`` prints, of zone 0; connections of other protocols are left out."""
    found = []
    for line in text.splitlines():
        protocol = line.partition(" ")[0]
        # src, dst and ports stand there twice: in the original direction, then in the reply's.
        values = re.findall(r"\b(src|dst|sport|dport|id|mark)=(\S+)", line)
        halves: list[dict[str, str]] = [{}, {}]
        mark = 0
        for name, value in values:
            if name == "mark":
                mark = int(value)
            else:
                half = halves[0] if name not in halves[0] else halves[1]
                half[name] = value
        original, reply = (_tuple(protocol, half) for half in halves)
        if original is not None and reply is not None and " zone=" not in line:
            found.append(Entry(0, original, reply, mark))
    return found


def _entries(lines: Iterable[str]) -> Iterable[Entry]:
    for line in lines:
        protocol = line.partition(",")[0]
        parts = {
            name: _tuple(protocol, dict(word.split("=", 1) for word in body.split(",")))
            for name, body in _PART.findall(line)
        }
        original, reply = parts.get("orig"), parts.get("reply")
        if original is not None and reply is not None:
            zone, mark = re.search(r"zone=(\d+)", line), re.search(r"mark=(\d+)", line)
            yield Entry(int(zone[1]) if zone else 0, original, reply, int(mark[1]) if mark else 0)


def _tuple(protocol: str, values: Mapping[str, str]) -> FiveTuple | None:
    for name in PROTOCOL_NUMBERS:
        if name == protocol and ":" not in values.get("src", ":"):
            identifier = values.get("id", "0")
            return FiveTuple(
                name,
                IPv4Address(values["src"]),
                int(values.get("sport", identifier)),
                IPv4Address(values["dst"]),
                int(values.get("dport", identifier)),
            )
    return None
