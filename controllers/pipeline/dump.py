"""Read what ``ovs-ofctl dump-flows`` prints back into flows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from controllers.pipeline.fields import ETH_TYPE_WORDS, FIELDS, Field, text_number, value_number
from controllers.pipeline.flow import (
    IN_PORT,
    Action,
    Actions,
    DecTTL,
    FieldMatch,
    Flow,
    GotoTable,
    Move,
    Output,
    OutputField,
    PipelineError,
    SetField,
    match,
    sort_key,
)
from controllers.pipeline.tables import TABLE_BY_NUMBER, TABLES, Table
from controllers.pipeline.text import DEFAULT_PRIORITY, Names, flows_text

# Statistics of a flow, not part of what it is.
_STATISTICS = {"duration", "n_packets", "n_bytes", "idle_age", "hard_age"}
_BY_MATCH_TEXT = {entry.match_text: entry for entry in FIELDS.values() if entry.match_text}
_BY_SET_TEXT = {entry.set_text: entry for entry in FIELDS.values()}
_BY_NXM_TEXT = {entry.nxm_text: entry for entry in FIELDS.values()}
_ETH_TYPE_BY_WORD = {word: number for number, word in ETH_TYPE_WORDS.items()}


class DumpError(ValueError):
    """A dumped flow that this pipeline could not have made, or text that is no flow. Says which line."""


def parse_dump(text: str, interfaces: Mapping[str, int] | None = None) -> tuple[Flow, ...]:
    """All flows of a dump, sorted as the compiler sorts them.

    Tables may be numbers or names. Port names need ``interfaces`` (interface name -> of_port). Raises DumpError for
    anything it does not know, so that a foreign flow is never passed over.
    """
    flows = []
    for line in text.splitlines():
        if not line.strip() or line.startswith(("OFPST_FLOW reply", "NXST_FLOW reply")):
            continue
        try:
            flows.append(_flow(line.strip(), interfaces or {}))
        except (ValueError, KeyError, PipelineError) as error:
            raise DumpError(f"cannot read this flow ({error}): {line.strip()}") from error
    return tuple(sorted(flows, key=sort_key))


def normalise_dump(text: str, names: Names | None = None) -> str:
    """A dump of any form (with statistics, names, any order) as the text the compiler's flows have."""
    interfaces = {name: of_port for of_port, name in names.interfaces.items()} if names else {}
    return flows_text(parse_dump(text, interfaces), names)


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
        elif name == "in_port":
            number = value if value.isdigit() else interfaces[value.strip('"')]
            entries += match(in_port=int(number))
        else:
            entries.append(_condition(_BY_MATCH_TEXT[name], value))
    return Flow(table, priority, tuple(entries), _actions(actions), cookie)


def _table(text: str) -> Table:
    return TABLE_BY_NUMBER[int(text)] if text.isdigit() else TABLES[text]


def _condition(field: Field, text: str) -> FieldMatch:
    value, _, mask_text = text.partition("/")
    if not mask_text:
        mask = field.full_mask
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
    return tuple(_action(word) for word in text.split(","))


def _action(word: str) -> Action:
    if found := re.fullmatch(r"set_field:(.+)->(\w+)", word):
        field = _BY_SET_TEXT[found[2]]
        return SetField(field.name, _number(field, found[1]))
    if found := re.fullmatch(r"move:(\w+)\[\]->(\w+)\[\]", word):
        return Move(_BY_NXM_TEXT[found[1]].name, _BY_NXM_TEXT[found[2]].name)
    if found := re.fullmatch(r"output:(\w+)\[\]", word):
        return OutputField(_BY_NXM_TEXT[found[1]].name)
    if found := re.fullmatch(r"output:(\d+)", word):
        return Output(int(found[1]))
    if found := re.fullmatch(r"goto_table:(\w+)", word):
        return GotoTable(_table(found[1]).name)
    if word == "IN_PORT":
        return Output(IN_PORT)
    if word == "dec_ttl":
        return DecTTL()
    raise ValueError(f"no action {word}")
