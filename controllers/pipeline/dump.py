"""Read what ``ovs-ofctl dump-flows`` and ``dump-groups`` print back into flows and groups."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Literal

from controllers.pipeline.fields import (
    ETH_TYPE_IPV4,
    ETH_TYPE_WORDS,
    FIELDS,
    IP_FRAGMENT,
    IP_PROTO_WORDS,
    TRANSPORT_BY_IP_PROTO,
    Field,
    text_number,
    value_number,
)
from controllers.pipeline.flow import (
    IN_PORT,
    Action,
    Actions,
    Bucket,
    Conntrack,
    DecTTL,
    FieldMatch,
    Flow,
    ForgetInPort,
    GotoTable,
    Group,
    Learn,
    Move,
    Nat,
    Output,
    OutputField,
    PipelineError,
    Resubmit,
    SetField,
    ToGroup,
    match,
    sort_key,
)
from controllers.pipeline.tables import SESSION_AFFINITY, TABLE_BY_NUMBER, TABLES, Table
from controllers.pipeline.text import DEFAULT_PRIORITY, FORGET_IN_PORT_TEXT, Names, flows_text

# Statistics of a flow, not part of what it is.
_STATISTICS = {"duration", "n_packets", "n_bytes", "idle_age", "hard_age"}
_HEADINGS = ("OFPST_FLOW reply", "NXST_FLOW reply", "OFPST_GROUP_DESC reply")
_BY_MATCH_TEXT = {entry.match_text: entry for entry in FIELDS.values() if entry.match_text}
_BY_SET_TEXT = {entry.set_text: entry for entry in FIELDS.values()}
_BY_NXM_TEXT = {entry.nxm_text: entry for entry in FIELDS.values()}
_ETH_TYPE_BY_WORD = {word: number for number, word in ETH_TYPE_WORDS.items()}
_IP_PROTO_BY_WORD = {word: number for number, word in IP_PROTO_WORDS.items()}


class DumpError(ValueError):
    """A dumped flow that this pipeline could not have made, or text that is no flow. Says which line."""


def parse_dump(text: str, interfaces: Mapping[str, int] | None = None) -> tuple[Flow, ...]:
    """All flows of a dump that were sent to the bridge, sorted as the compiler sorts them.

    Left out are those that the bridge has learned itself, see :func:`learned_flows`. Tables may be numbers or names.
    Port names need ``interfaces`` (interface name -> of_port). Raises DumpError for anything it does not know, so that
    a foreign flow is never passed over.
    """
    flows = []
    for line in _lines(text):
        try:
            if not _is_learned(line):
                flows.append(_flow(line, interfaces or {}))
        except (ValueError, KeyError, PipelineError) as error:
            raise DumpError(f"cannot read this flow ({error}): {line}") from error
    return tuple(sorted(flows, key=sort_key))


def learned_flows(text: str) -> tuple[str, ...]:
    """The lines of a dump with what the bridge has learned itself: the clients' endpoints under session affinity."""
    return tuple(line for line in _lines(text) if _is_learned(line))


def parse_group_dump(text: str) -> tuple[Group, ...]:
    """All groups of a dump, sorted by their id; whose they are a dump does not say. Raises DumpError as above."""
    groups = []
    for line in _lines(text):
        try:
            groups.append(_group(line))
        except (ValueError, KeyError, PipelineError) as error:
            raise DumpError(f"cannot read this group ({error}): {line}") from error
    return tuple(sorted(groups, key=lambda group: group.group_id))


def normalise_dump(text: str, names: Names | None = None) -> str:
    """A dump of any form (with statistics, names, any order) as the text the compiler's flows have."""
    interfaces = {name: of_port for of_port, name in names.interfaces.items()} if names else {}
    return flows_text(parse_dump(text, interfaces), names)


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(_HEADINGS)]


def _is_learned(line: str) -> bool:
    head = line.partition("actions=")[0]
    return re.search(rf"\btable=(?:{SESSION_AFFINITY.number}|{SESSION_AFFINITY.name}),", head) is not None


def _group(line: str) -> Group:
    head, *buckets = re.split(r",bucket=", line)
    found = re.fullmatch(r"group_id=(\d+),type=select", head)
    if not found:
        raise ValueError("not a select group")
    return Group(int(found[1]), tuple(map(_bucket, buckets)))


def _bucket(text: str) -> Bucket:
    found = re.fullmatch(r"(?:bucket_id:\d+,)?(?:weight:(\d+),)?actions=(.*)", text)
    if not found:
        raise ValueError(f"no bucket {text}")
    return Bucket(int(found[1] or 1), _actions(found[2]))


def _flow(line: str, interfaces: Mapping[str, int]) -> Flow:
    head, separator, actions = line.partition("actions=")
    if not separator:
        raise ValueError("no actions")
    cookie, table, priority = 0, TABLE_BY_NUMBER[0], DEFAULT_PRIORITY
    entries: list[FieldMatch] = []
    for word in filter(None, re.split(r"[,\s]+", head)):
        name, _, value = word.partition("=")
        if name in _STATISTICS:
            continue
        if name == "cookie":
            cookie = int(value, 16)
        elif name == "table":
            table = _table(value)
        elif name == "priority":
            priority = int(value)
        elif word in _ETH_TYPE_BY_WORD:
            entries += match(eth_type=_ETH_TYPE_BY_WORD[word])
        elif word in _IP_PROTO_BY_WORD:
            entries += match(eth_type=ETH_TYPE_IPV4, ip_proto=_IP_PROTO_BY_WORD[word])
        elif name == "in_port":
            number = value if value.isdigit() else interfaces[value.strip('"')]
            entries += match(in_port=int(number))
        elif name in ("tp_src", "tp_dst"):
            entries += match(**{_transport_field(entries, name): int(value)})
        else:
            entries.append(_condition(_BY_MATCH_TEXT[name], value))
    return Flow(table, priority, tuple(entries), _actions(actions), cookie)


def _transport_field(entries: list[FieldMatch], name: str) -> str:
    """The field that ``tp_src`` or ``tp_dst`` means after the protocol that was named."""
    transport = TRANSPORT_BY_IP_PROTO[next((entry.value for entry in entries if entry.field == "ip_proto"), -1)]
    return transport.source if name == "tp_src" else transport.destination


def _table(text: str) -> Table:
    return TABLE_BY_NUMBER[int(text)] if text.isdigit() else TABLES[text]


def _condition(field: Field, text: str) -> FieldMatch:
    if field.kind == "ct_state":
        return FieldMatch(field.name, *value_number(field, text))
    if field.kind == "ip_frag":
        return FieldMatch(field.name, *{"yes": IP_FRAGMENT}[text])
    value, _, mask_text = text.partition("/")
    if not mask_text:
        mask = field.full_mask
    elif field.kind == "hexadecimal":
        mask = int(mask_text, 16)
    elif field.kind == "ipv4" and mask_text.isdigit():
        mask = field.full_mask ^ (field.full_mask >> int(mask_text))
    else:
        raise ValueError(f"no mask on {field.name}")
    return FieldMatch(field.name, _number(field, value), mask)


def _number(field: Field, text: str) -> int:
    return value_number(field, text_number(field, text))[0]


def _actions(text: str) -> Actions:
    if text == "drop":
        return ()
    return tuple(_action(word) for word in _split(text))


def _split(text: str) -> list[str]:
    """The parts between commas, but for commas in brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise ValueError(f"brackets do not close in {text}")
    return parts


def _action(word: str) -> Action:
    if found := re.fullmatch(r"set_field:(.+)->(\w+)", word):
        field = _BY_SET_TEXT[found[2]]
        return SetField(field.name, _number(field, found[1]))
    if found := re.fullmatch(r"move:(\w+)\[\]->(\w+)\[(?:0\.\.(\d+))?\]", word):
        source, destination = _BY_NXM_TEXT[found[1]], _BY_NXM_TEXT[found[2]]
        if int(found[3] or destination.bits - 1) != source.bits - 1:
            raise ValueError(f"not the whole of {source.name}")
        return Move(source.name, destination.name)
    if found := re.fullmatch(r"output:(\w+)\[\]", word):
        return OutputField(_BY_NXM_TEXT[found[1]].name)
    if found := re.fullmatch(r"output:(\d+)", word):
        return Output(int(found[1]))
    if found := re.fullmatch(r"goto_table:(\w+)", word):
        return GotoTable(_table(found[1]).name)
    if found := re.fullmatch(r"resubmit\(,(\w+)\)", word):
        return Resubmit(_table(found[1]).name)
    if found := re.fullmatch(r"group:(\d+)", word):
        return ToGroup(int(found[1]))
    if found := re.fullmatch(r"ct\((.*)\)", word):
        return _conntrack(_split(found[1]))
    if found := re.fullmatch(r"learn\((.*)\)", word):
        return _learn(_split(found[1]))
    if word == FORGET_IN_PORT_TEXT:
        return ForgetInPort()
    if word == "IN_PORT":
        return Output(IN_PORT)
    if word == "dec_ttl":
        return DecTTL()
    raise ValueError(f"no action {word}")


def _conntrack(words: list[str]) -> Conntrack:
    action = Conntrack(zone=-1)
    for word in words:
        if word == "commit":
            action = replace(action, commit=True)
        elif word == "nat":
            action = replace(action, nat=Nat())
        elif found := re.fullmatch(r"table=(\w+)", word):
            action = replace(action, table=_table(found[1]).name)
        elif found := re.fullmatch(r"zone=(\d+)", word):
            action = replace(action, zone=int(found[1]))
        elif found := re.fullmatch(r"nat\((src|dst)=([\d.]+)(?::(\d+))?\)", word):
            kind: Literal["src", "dst"] = "src" if found[1] == "src" else "dst"
            action = replace(action, nat=Nat(kind, IPv4Address(found[2]), int(found[3]) if found[3] else None))
        elif found := re.fullmatch(r"exec\((.*)\)", word):
            action = replace(action, writes=tuple(_move(part) for part in _split(found[1])))
        else:
            raise ValueError(f"no part of ct: {word}")
    if action.zone < 0:
        raise ValueError("ct without a zone")
    return action


def _move(word: str) -> Move:
    action = _action(word)
    if not isinstance(action, Move):
        raise ValueError(f"{word} where only move can be")
    return action


def _learn(words: list[str]) -> Learn:
    known: dict[str, str] = {}
    same: list[str] = []
    remembered: list[str] = []
    for word in words:
        name, separator, value = word.partition("=")
        if separator:
            known[name] = value
        elif found := re.fullmatch(r"(\w+)\[\]", word):
            same.append(_BY_NXM_TEXT[found[1]].name)
        elif found := re.fullmatch(r"load:(\w+)\[\]->(\1)\[\]", word):
            remembered.append(_BY_NXM_TEXT[found[1]].name)
        elif word != "delete_learned":
            raise ValueError(f"no part of learn: {word}")
    if known.keys() - {"idle_timeout"} != {"table", "priority", "cookie", "eth_type"} or known["eth_type"] != "0x800":
        raise ValueError("not a learn of this pipeline")
    idle_timeout_s = int(known.get("idle_timeout", "0"))
    return Learn(
        _table(known["table"]).name,
        int(known["priority"]),
        idle_timeout_s,
        int(known["cookie"], 16),
        tuple(same),
        tuple(remembered),
    )
