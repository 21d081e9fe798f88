"""A packet's way through one bridge, by Open vSwitch's own trace, pass after pass.

``ofproto/trace`` follows a packet until it leaves, is dropped, or goes to connection tracking. There it can only be
told what the connection's state would be, and it cannot undo a translation; nor does it know the hash by which a select
group chooses. So each pass is asked for by itself: what connection tracking makes of the packet is decided here, from
the entries that are really there, and the next pass is begun (``ofproto/trace-packet-out``) with the very fields that
Open vSwitch printed at the end of the last. Nothing is sent, learned or committed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address

from testbed.cluster.identity import BRIDGE
from testbed.errors import RunError
from testbed.network.openvswitch import VSwitch
from testbed.trace.conntrack import Connections, Found, parse_connections
from testbed.trace.kernel import parse_of_ports
from testbed.trace.names import Names, table_name
from testbed.trace.ofproto import (
    ConntrackAction,
    Fields,
    Section,
    TracedTable,
    fields_packet,
    fields_text,
    packet_fields,
    parse_trace,
)
from testbed.trace.values import Packet, Step
from testbed.trace.words import FlowWords

# More passes than any pipeline needs: the packet goes round.
_MOST_PASSES = 16
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_NO_PORT = "65535"  # OFPP_NONE as ofproto/trace reads it


@dataclass(frozen=True)
class Through:
    """What became of a packet in a bridge. ``outputs`` are (interface, packet); none means it was dropped."""

    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, Packet], ...]
    drop: str = ""


@dataclass(frozen=True)
class Candidate:
    """One choice of a group: where it leads, the slots of the hash that lead there, and its share of them."""

    leads_to: str
    slots: tuple[int, ...]
    share: float


class Bridge:
    """The bridge of one node as it is now. ``wanted_endpoint``: which choice of a group to follow, else the first."""

    def __init__(self, switch: VSwitch, names: Names, wanted_endpoint: IPv4Address | None = None) -> None:
        self._switch, self._names, self._wanted_endpoint = switch, names, wanted_endpoint
        # Also what the traced packet would have left there.
        self.assumptions: list[str] = []

    @cached_property
    def _ports(self) -> dict[int, tuple[int, str]]:
        return parse_of_ports(self._switch.appctl("dpif/show"))

    @cached_property
    def _of_ports(self) -> dict[str, int]:
        return {name: of_port for of_port, name in self._ports.values()}

    @cached_property
    def _words(self) -> FlowWords:
        return FlowWords(self._names, dict(self._ports.values()))

    @cached_property
    def _connections(self) -> Connections:
        return Connections(parse_connections(self._switch.appctl("dpctl/dump-conntrack")))

    def has_port(self, interface: str) -> bool:
        """Whether an interface is a port of the bridge."""
        return interface in self._of_ports

    def through(self, interface: str, packet: Packet) -> Through:
        """Follow a packet that enters by an interface. Raises RunError when Open vSwitch does not answer."""
        steps: list[Step] = []
        outputs: list[tuple[str, Packet]] = []
        fields, table = packet_fields(packet, self._of_ports[interface]), 0
        for _ in range(_MOST_PASSES):
            sections = self._pass(fields, table)
            if sections[0].wants_hash:
                chosen, group = self._choose(fields, table, sections[0])
                sections = self._pass({**fields, "dp_hash": str(chosen.slots[0])}, table)
                steps += self._tables(sections[0].tables, group)
            else:
                steps += self._tables(sections[0].tables)
            section = sections[0]
            steps += self._commit(section, packet)
            for number in section.output_numbers:
                leaving = replace(fields_packet(section.final, packet), mark=0)
                name = self._ports[number][1] if number in self._ports else f"datapath port {number}"
                steps.append(Step("output", f"leaves by {name}", {"interface": name}))
                outputs.append((name, leaving))
            action = section.conntrack
            if action is None or len(sections) < 2:
                return Through(tuple(steps), tuple(outputs), "" if outputs else self._why_dropped(section))
            fields, step = self._track(section, sections[1], action, packet)
            steps.append(step)
            table = action.table or 0
        raise RunError(f"{self._switch.node_name}: the packet goes round in its bridge")

    def answer_for(self, interface: str, mac: str, asker: IPv4Address, address: IPv4Address) -> str | None:
        """The MAC that an ARP request from an interface would be answered with; None without an answer."""
        fields = {
            "in_port": str(self._of_ports[interface]),
            "arp": "",
            "dl_src": mac,
            "dl_dst": _BROADCAST,
            "arp_op": "1",
            "arp_spa": str(asker),
            "arp_tpa": str(address),
            "arp_sha": mac,
            "arp_tha": "00:00:00:00:00:00",
        }
        section = self._pass(fields, 0)[0]
        for number in section.output_numbers:
            if self._ports.get(number, (0, ""))[1] == interface and section.final.get("arp_op") == "2":
                return section.final["arp_sha"]
        return None

    def _pass(self, fields: Fields, table: int) -> tuple[Section, ...]:
        return parse_trace(self._ask(fields, table))

    def _ask(self, fields: Fields, table: int) -> str:
        if not table:
            return self._switch.appctl("ofproto/trace", BRIDGE, fields_text(fields))
        if fields.get("in_port") == "ANY":
            fields = {**fields, "in_port": _NO_PORT}
        arguments = (BRIDGE, fields_text(fields), f"resubmit(,{table})")
        return self._switch.appctl("ofproto/trace-packet-out", *arguments)

    def _commit(self, section: Section, packet: Packet) -> list[Step]:
        """The connections that the pass makes known in passing, without waiting for what is known of them."""
        steps = []
        for action in section.commits:
            known = fields_packet(section.final, packet).tuple
            found = self._connections.look_up(action.zone, known)
            self._connections.commit(action.zone, known, known, 0)
            steps.append(self._conntrack_step(action, found, str(known), str(known)))
        return steps

    def _track(self, before: Section, after: Section, action: ConntrackAction, packet: Packet) -> tuple[Fields, Step]:
        """What connection tracking makes of the packet: the fields it comes back with, and that in words."""
        known, fields = self._connections, dict(after.flow)
        incoming = fields_packet(before.final, packet).tuple
        found = known.look_up(action.zone, incoming)
        outgoing = incoming
        if action.nat is not None and found.entry is not None:
            outgoing = found.translated(incoming)
        elif action.nat:
            # Open vSwitch itself has put in what the action says.
            outgoing = fields_packet(fields, packet).tuple
        fields["nw_src"], fields["nw_dst"] = str(outgoing.source), str(outgoing.destination)
        if outgoing.protocol != "icmp":
            fields["tp_src"], fields["tp_dst"] = str(outgoing.source_port), str(outgoing.destination_port)
        if action.commit:
            known.commit(action.zone, incoming, outgoing, int(fields.get("ct_mark", "0"), 0))
        elif found.entry is not None and found.entry.mark:
            fields["ct_mark"] = f"{found.entry.mark:#x}"
        fields["ct_state"] = found.state(outgoing != incoming)
        return fields, self._conntrack_step(action, found, str(incoming), str(outgoing))

    @staticmethod
    def _conntrack_step(action: ConntrackAction, found: Found, incoming: str, outgoing: str) -> Step:
        said = f"zone {action.zone}: {found.words}"
        said += ", made known" if action.commit and found.entry is None else ""
        said += f"; translated to {outgoing}" if outgoing != incoming else ""
        data = {"zone": action.zone, "found": found.words, "commit": action.commit}
        return Step("conntrack", said, {**data, "before": incoming, "after": outgoing})

    def _choose(self, fields: Fields, table: int, section: Section) -> tuple[Candidate, Step]:
        """Try every slot of the group's hash; the choice that is followed, and all of them in words."""
        group = next(
            action.text.removeprefix("group:")
            for traced in reversed(section.tables)
            for action in reversed(traced.actions)
            if action.text.startswith("group:")
        )
        slots: dict[str, list[int]] = {}
        size, number = 1, 1
        while number <= size:
            tried = self._ask({**fields, "dp_hash": str(number)}, table)
            mask = re.search(r"dp_hash=0x[0-9a-f]+/(0x[0-9a-f]+)", tried)
            size = int(mask[1], 16) + 1 if mask else size
            slots.setdefault(_leads_to(parse_trace(tried)[0].tables), []).append(number)
            number += 1
        candidates = [Candidate(name, tuple(found), len(found) / size) for name, found in slots.items()]
        candidates.sort(key=lambda one: _sort_key(one.leads_to))
        wanted = str(self._wanted_endpoint)
        chosen = next((one for one in candidates if one.leads_to.partition(":")[0] == wanted), candidates[0])
        if len(candidates) > 1:
            self.assumptions.append(
                f"Which of the {len(candidates)} endpoints of group {group} a real connection gets is decided by a hash"
                f" that only the datapath computes; followed here is {chosen.leads_to}."
            )
        return chosen, self._group_step(group, chosen, candidates)

    def _group_step(self, group: str, chosen: Candidate, candidates: Sequence[Candidate]) -> Step:
        def described(one: Candidate) -> str:
            name = self._names.address(IPv4Address(one.leads_to.partition(":")[0])) if one.leads_to[0].isdigit() else ""
            return f"{one.leads_to}{f' ({name})' if name else ''} {one.share:.1%}"

        others = [described(one) for one in candidates if one is not chosen]
        text = f"group {group}: {described(chosen)}" + (f"; else {', '.join(others)}" if others else "")
        data = {
            "group": int(group),
            "chosen": chosen.leads_to,
            "candidates": {one.leads_to: one.share for one in candidates},
        }
        return Step("group", text, data)

    def _tables(self, tables: Sequence[TracedTable], group: Step | None = None) -> list[Step]:
        steps = []
        for traced in tables:
            steps.append(self._flow_step(traced))
            number = next((action.text[6:] for action in traced.actions if action.text.startswith("group:")), None)
            if number is not None and traced.bucket_actions:
                steps.append(group or self._hashed_step(number, tables))
        return steps

    def _hashed_step(self, group: str, tables: Sequence[TracedTable]) -> Step:
        """A choice that Open vSwitch itself makes, by a hash of addresses and ports: its trace makes the same one."""
        weights = parse_group_weights(self._switch.ofctl("dump-groups", BRIDGE), int(group))
        total = sum(weights.values())
        chosen = _leads_to(tables)
        text = f"group {group}: {chosen}, 1 of {len(weights)} by a hash of addresses and ports"
        candidates = {name: weight / total for name, weight in weights.items()}
        return Step("group", text, {"group": int(group), "chosen": chosen, "candidates": candidates})

    def _flow_step(self, traced: TracedTable) -> Step:
        data = {
            "table": table_name(traced.number),
            "priority": traced.priority if traced.matched else None,
            "match": self._words.match(traced.match) if traced.matched else None,
            "cookie": f"{traced.cookie:#x}" if traced.matched else None,
            "subject": self._names.cookie(traced.cookie),
            "actions": [action.text for action in traced.actions],
            "bucket_actions": [action.text for action in traced.bucket_actions],
            "drops": traced.drops,
        }
        return Step("flow", self._words.meaning(traced), data)

    def _why_dropped(self, section: Section) -> str:
        """The flow that dropped the packet, or what else did."""
        if section.errors:
            return section.errors[0]
        if not section.tables:
            return "nothing was done with it"
        # A table that was only looked into (resubmit) drops nothing.
        last = next((one for one in reversed(section.tables) if one.matched or not one.depth), section.tables[-1])
        where = f"table {table_name(last.number)}"
        if not last.matched:
            return f"{where}: no flow matches"
        subject = self._names.cookie(last.cookie)
        flow = f"{where}, priority {last.priority}, match {self._words.match(last.match)}, cookie {last.cookie:#x}"
        flow += f" ({subject})" if subject else " (a cookie of nothing in this cluster)"
        troubles = [(action, trouble) for action in last.actions for trouble in action.troubles]
        if troubles:
            action, trouble = troubles[-1]
            return f"{flow}: {action.text}: {trouble}"
        return flow if last.drops else f"{flow}: its actions send the packet nowhere"


def parse_group_weights(text: str, group_id: int) -> dict[str, int]:
    """From ``ovs-ofctl dump-groups``: where each bucket of a group leads, and the sum of the weights that do."""
    weights: dict[str, int] = {}
    # OpenFlow 1.3 knows no request for one group alone.
    group = next((line for line in text.splitlines() if line.strip().startswith(f"group_id={group_id},")), "")
    for bucket in group.split("bucket=")[1:]:
        weight, target = re.search(r"weight:(\d+)", bucket), re.search(r"nat\(dst=([^)]+)\)", bucket)
        name = target[1] if target else "nowhere"
        weights[name] = weights.get(name, 0) + (int(weight[1]) if weight else 1)
    return weights


def _leads_to(tables: Sequence[TracedTable]) -> str:
    """Where one choice of a group leads: the address it translates to, or its last table."""
    for traced in tables:
        for action in (*traced.actions, *traced.bucket_actions):
            found = re.search(r"nat\(dst=([^)]+)\)", action.text)
            if found:
                return found[1]
    return table_name(tables[-1].number) if tables else "nowhere"


def _sort_key(text: str) -> tuple[int, str]:
    host, _, _ = text.partition(":")
    return (int(IPv4Address(host)), text) if host[:1].isdigit() else (0, text)
