"""Flows as text, exactly as ``ovs-ofctl -O OpenFlow13 --no-stats dump-flows`` prints them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controllers.pipeline.compile import compile_flows
from controllers.pipeline.fields import ETH_TYPE_WORDS, FIELDS, IP_FRAGMENT, IP_PROTO_WORDS, ct_state_text, number_text
from controllers.pipeline.flow import (
    IN_PORT,
    Action,
    Bucket,
    Conntrack,
    DecTTL,
    FieldMatch,
    Flow,
    ForgetInPort,
    GotoTable,
    Group,
    Learn,
    Match,
    Move,
    Nat,
    Output,
    OutputField,
    Resubmit,
    SetField,
    ToGroup,
)
from controllers.pipeline.tables import TABLES
from testbed.cluster.identity import GATEWAY_OF_PORT, GATEWAY_PEER, TUNNEL_INTERFACE, TUNNEL_OF_PORT
from testbed.cluster.values import ClusterState

DEFAULT_PRIORITY = 0x8000  # ovs-ofctl leaves it out
FORGET_IN_PORT_TEXT = "load:0xffff->NXM_OF_IN_PORT[]"


@dataclass(frozen=True)
class Names:
    """Prints names for numbers, as ``--names`` does: tables, and the bridge ports by ``of_port``."""

    interfaces: Mapping[int, str] = field(default_factory=dict)


def bridge_names(state: ClusterState, node_name: str) -> Names:
    """The names on one node's bridge."""
    interfaces = {pod.of_port: pod.interface for pod in state.pods_by_node[node_name]}
    return Names({TUNNEL_OF_PORT: TUNNEL_INTERFACE, GATEWAY_OF_PORT: GATEWAY_PEER, **interfaces})


def plan_text(state: ClusterState, node_name: str) -> str:
    """One node's flow table with names for numbers, a line a flow."""
    return flows_text(compile_flows(state, node_name), bridge_names(state, node_name))


def flows_text(flows: Iterable[Flow], names: Names | None = None) -> str:
    """Flows in the given order, a line each."""
    return "".join(flow_text(flow, names) + "\n" for flow in flows)


def flow_text(flow: Flow, names: Names | None = None) -> str:
    """One flow. Without ``names`` as ``ovs-ofctl --no-names`` prints it, otherwise as ``--names`` does."""
    head = f" cookie={flow.cookie:#x}, " if flow.cookie else " "
    if names is not None:
        head += f"table={flow.table.name}, "
    elif flow.table.number:
        head += f"table={flow.table.number}, "
    conditions = [f"priority={flow.priority}"] if flow.priority != DEFAULT_PRIORITY else []
    conditions += match_words(flow.match, names)
    return f"{head}{','.join(conditions)} actions={actions_text(flow.actions, names)}"


def groups_text(groups: Iterable[Group], names: Names | None = None) -> str:
    """Groups in the given order, a line each."""
    return "".join(group_text(group, names) + "\n" for group in groups)


def group_text(group: Group, names: Names | None = None) -> str:
    """One group as ``ovs-ofctl dump-groups`` prints it."""
    return f" group_id={group.group_id},type=select" + "".join(_bucket(bucket, names) for bucket in group.buckets)


def _bucket(bucket: Bucket, names: Names | None) -> str:
    weight = f"weight:{bucket.weight}," if bucket.weight != 1 else ""
    return f",bucket={weight}actions={actions_text(bucket.actions, names)}"


def match_words(match: Match, names: Names | None = None) -> list[str]:
    """A match as its comma-separated parts."""
    ip_proto = next((entry.value for entry in match if entry.field == "ip_proto"), None)
    words = []
    for entry in match:
        if entry.field == "eth_type" and ip_proto is not None:
            words.append(IP_PROTO_WORDS[ip_proto])
        elif entry.field != "ip_proto":
            words.append(_condition(entry, names))
    return words


def actions_text(actions: Iterable[Action], names: Names | None = None) -> str:
    """Actions as one comma-separated list; none at all is ``drop``."""
    return ",".join(_action(action, names) for action in actions) or "drop"


def _condition(entry: FieldMatch, names: Names | None) -> str:
    entry_field = FIELDS[entry.field]
    if entry.field == "eth_type":
        return ETH_TYPE_WORDS[entry.value]
    if entry.field == "in_port" and names is not None and entry.value in names.interfaces:
        return f"in_port={_quoted(names.interfaces[entry.value])}"
    if entry_field.kind == "ct_state":
        return f"ct_state={ct_state_text(entry.value, entry.mask)}"
    if (entry.value, entry.mask) == IP_FRAGMENT and entry_field.kind == "ip_frag":
        return "nw_frag=yes"
    text = f"{entry_field.match_text}={number_text(entry_field, entry.value)}"
    if entry.mask != entry_field.full_mask:
        text += f"/{entry.mask.bit_count() if entry_field.kind == 'ipv4' else hex(entry.mask)}"
    return text


def _action(action: Action, names: Names | None) -> str:
    if isinstance(action, SetField):
        target = FIELDS[action.field]
        return f"set_field:{number_text(target, action.value)}->{target.set_text}"
    if isinstance(action, Move):
        source, destination = FIELDS[action.source], FIELDS[action.destination]
        bits = "" if source.bits == destination.bits else f"0..{source.bits - 1}"
        return f"move:{source.nxm_text}[]->{destination.nxm_text}[{bits}]"
    if isinstance(action, DecTTL):
        return "dec_ttl"
    if isinstance(action, Output):
        return "IN_PORT" if action.of_port == IN_PORT else f"output:{action.of_port}"
    if isinstance(action, OutputField):
        return f"output:{FIELDS[action.field].nxm_text}[]"
    if isinstance(action, GotoTable):
        return f"goto_table:{_table(action.table, names)}"
    if isinstance(action, Resubmit):
        return f"resubmit(,{_table(action.table, names)})"
    if isinstance(action, ToGroup):
        return f"group:{action.group_id}"
    if isinstance(action, ForgetInPort):
        return FORGET_IN_PORT_TEXT
    return _learn(action, names) if isinstance(action, Learn) else _conntrack(action, names)


def _conntrack(action: Conntrack, names: Names | None) -> str:
    words = ["commit"] if action.commit else []
    words += [f"table={_table(action.table, names)}"] if action.table else []
    words.append(f"zone={action.zone}")
    if action.nat is not None:
        words.append(_nat(action.nat))
    if action.writes:
        words.append(f"exec({actions_text(action.writes, names)})")
    return f"ct({','.join(words)})"


def _nat(nat: Nat) -> str:
    if not nat.kind:
        return "nat"
    transport_port = f":{nat.transport_port}" if nat.transport_port is not None else ""
    return f"nat({nat.kind}={nat.address}{transport_port})"


def _learn(action: Learn, names: Names | None) -> str:
    words = [f"table={_table(action.table, names)}"]
    words += [f"idle_timeout={action.idle_timeout_s}"] if action.idle_timeout_s else []
    words += [f"priority={action.priority}", "delete_learned", f"cookie={action.cookie:#x}", "eth_type=0x800"]
    words += [f"{FIELDS[name].nxm_text}[]" for name in action.same]
    words += [f"load:{FIELDS[name].nxm_text}[]->{FIELDS[name].nxm_text}[]" for name in action.remembered]
    return f"learn({','.join(words)})"


def _table(name: str, names: Names | None) -> str:
    return name if names is not None else str(TABLES[name].number)


def _quoted(name: str) -> str:
    """Open vSwitch quotes every name that is not a plain word."""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) else f'"{name}"'
