"""Run as a program: encode messages, read them back with the framework's own parser, compare with its own encoding.

A process of its own, because the framework patches the standard library and can be chosen only once. Prints the number
of messages compared; fails at the first difference. With an argument, a path without suffix, it also writes messages
and what Open vSwitch should read in them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from controllers.pipeline.compile import compile_program
from controllers.pipeline.fields import FIELDS
from controllers.pipeline.flow import (
    IN_PORT,
    Action,
    Conntrack,
    DecTTL,
    Flow,
    ForgetInPort,
    GotoTable,
    Group,
    Learn,
    Move,
    Nat,
    Output,
    OutputField,
    Resubmit,
    SetField,
    ToGroup,
)
from controllers.pipeline.tables import TABLES
from controllers.pipeline.text import actions_text, group_text, match_words
from controllers.ryu_app import encode
from controllers.ryu_app.encode_actions import encode_actions
from controllers.ryu_app.encode_flush import flush_connections
from controllers.ryu_app.framework import ofproto
from controllers.ryu_app.library import PACKAGES, library_name
from controllers.ryu_app.stale_connections import EVERY_UDP_TRANSLATION, Translation
from testbed.cluster.assign import assign
from testbed.cluster.values import MODES, ClusterState, Mode, NetworkConfig
from testbed.cluster.view import cluster_state
from tests.unit.cluster_objects import edge_nodes, pod
from tests.unit.service_objects import Endpoint, with_endpoints

_PACKAGE = PACKAGES[library_name()]
parser: Any = import_module(f"{_PACKAGE}.ofproto.ofproto_v1_3_parser")
wire: Any = import_module(f"{_PACKAGE}.ofproto.ofproto_parser")
datapath: Any = import_module(f"{_PACKAGE}.ofproto.ofproto_protocol").ProtocolDesc(ofproto.OFP_VERSION)
XID, BUNDLE = 77, 5
THEIR_NAMES = {"icmp_type": "icmpv4_type"}
IN_BUNDLE = 24  # bytes before the message that goes into a bundle


def conntrack(zone: int, table: str, flags: int = 0, *nested: Any) -> Any:
    next_table = TABLES[table].number if table else 0xFF
    return parser.NXActionCT(flags, "", zone, next_table, 0, list(nested))


_MARK = (Move("reg3", "ct_mark"),)
# Every action there is with all that can vary in it, and the same made by the framework's classes.
ACTIONS: tuple[tuple[Action, Any], ...] = (
    (SetField("reg1", 7), parser.OFPActionSetField(reg1=7)),
    (SetField("eth_src", 0x0A5800000001), parser.OFPActionSetField(eth_src="0a:58:00:00:00:01")),
    (SetField("arp_op", 2), parser.OFPActionSetField(arp_op=2)),
    (Move("eth_src", "eth_dst"), parser.NXActionRegMove("eth_src", "eth_dst", 48)),
    (DecTTL(), parser.OFPActionDecNwTtl()),
    (Output(10), parser.OFPActionOutput(10, 0)),
    (Output(IN_PORT), parser.OFPActionOutput(ofproto.OFPP_IN_PORT, 0)),
    (OutputField("reg1"), parser.NXActionOutputReg(ofs_nbits=31, src="reg1", max_len=0)),
    (ToGroup(0xFFFFFF00), parser.OFPActionGroup(0xFFFFFF00)),
    (Resubmit("Output"), parser.NXActionResubmitTable(0xFFF8, TABLES["Output"].number)),
    (ForgetInPort(), parser.NXActionRegLoad(ofs_nbits=15, dst="in_port_nxm", value=0xFFFF)),
    (Conntrack(10, "Output"), conntrack(10, "Output")),
    (Conntrack(0xFFFF, "Output", nat=Nat()), conntrack(0xFFFF, "Output", 0, parser.NXActionNAT(0))),
    (Conntrack(10, commit=True), conntrack(10, "", 1)),
    (
        Conntrack(10, "Output", commit=True, nat=Nat("src", IPv4Address("10.244.0.254"))),
        conntrack(10, "Output", 1, parser.NXActionNAT(1, range_ipv4_min="10.244.0.254")),
    ),
    (
        Conntrack(10, "Output", commit=True, nat=Nat("dst", IPv4Address("10.244.0.2"), 8080), writes=_MARK),
        conntrack(
            10,
            "Output",
            1,
            parser.NXActionNAT(2, range_ipv4_min="10.244.0.2", range_proto_min=8080),
            parser.NXActionRegMove("reg3", "ct_mark", 32),
        ),
    ),
    (
        Learn("SessionAffinity", 100, 10800, 0x1234567890ABCDEF, ("ipv4_src", "reg4"), ("reg5", "reg6")),
        parser.NXActionLearn(
            table_id=TABLES["SessionAffinity"].number,
            priority=100,
            idle_timeout=10800,
            flags=2,
            cookie=0x1234567890ABCDEF,
            specs=[
                parser.NXFlowSpecMatch(src=0x800, dst=("eth_type", 0), n_bits=16),
                parser.NXFlowSpecMatch(src=("ipv4_src", 0), dst=("ipv4_src", 0), n_bits=32),
                parser.NXFlowSpecMatch(src=("reg4", 0), dst=("reg4", 0), n_bits=32),
                parser.NXFlowSpecLoad(src=("reg5", 0), dst=("reg5", 0), n_bits=32),
                parser.NXFlowSpecLoad(src=("reg6", 0), dst=("reg6", 0), n_bits=32),
            ],
        ),
    ),
)


def cluster(mode: Mode) -> ClusterState:
    """Two nodes, three pods, and Services that between them have every kind of flow."""
    endpoints = [Endpoint("10.244.0.2", "n1"), Endpoint("10.244.1.2", "n2"), Endpoint("10.244.0.3", "n1")]
    local = {"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}
    balanced = {"type": "LoadBalancer", "nodePort": 30001}
    made = [
        *with_endpoints(1, endpoints),
        *with_endpoints(2, endpoints, "UDP", sessionAffinity="ClientIP", type="NodePort", nodePort=30000),
        *with_endpoints(3, endpoints, "TCP", **balanced, **local),
        *with_endpoints(4, endpoints, "SCTP", sessionAffinity="ClientIP", **local),
        *with_endpoints(5, []),
    ]
    nodes_and_pods = assign(edge_nodes(2), NetworkConfig(mode=mode), 24, [pod(f"p{number}") for number in range(3)])
    made[4]["status"] = {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}
    return cluster_state([*nodes_and_pods, *made])


def plain(value: Any) -> Any:
    """A message's or action's values; the order of the fields in a match means nothing."""
    (found,) = value.to_jsondict().values()
    if "match" in found:
        found["match"]["OFPMatch"]["oxm_fields"].sort(key=lambda entry: entry["OXMTlv"]["field"])
    return found


def parse_actions(encoded: bytes) -> list[Any]:
    found, offset = [], 0
    while offset < len(encoded):
        found.append(parser.OFPAction.parser(encoded, offset))
        offset += found[-1].len
    assert offset == len(encoded)
    return found


def compare_actions() -> int:
    """The bytes are not compared: the frameworks leave out the padding of nat and learn."""
    for action, expected in ACTIONS:
        expected.serialize(bytearray(), 0)  # sets the length
        (parsed,) = parse_actions(encode_actions([action]))
        assert plain(parsed) == plain(expected), action
    return len(ACTIONS)


def flow_mod(flow: Flow, command: int) -> Any:
    """The flow-mod without its instructions, made from the framework's message classes."""
    fields = {
        THEIR_NAMES.get(entry.field, entry.field): entry.value
        if entry.mask == FIELDS[entry.field].full_mask
        else (entry.value, entry.mask)
        for entry in flow.match
    }
    return parser.OFPFlowMod(
        datapath,
        cookie=0 if command == ofproto.OFPFC_DELETE_STRICT else flow.cookie,
        table_id=flow.table.number,
        command=command,
        priority=flow.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=parser.OFPMatch(**fields),
    )


def compare_flow_mod(modification: encode.Modification, flow: Flow, command: int) -> None:
    encoded = encode.bundle_add(XID, BUNDLE, modification)[IN_BUNDLE:]
    header = wire.header(encoded)
    assert header[2] == len(encoded), "the length in the header"
    found = plain(wire.msg(datapath, *header, bytearray(encoded)))
    expected = flow_mod(flow, command)
    expected.set_xid(XID)
    expected.serialize()
    instructions = found.pop("instructions")
    wanted = plain(wire.msg(datapath, *wire.header(expected.buf), expected.buf))
    assert wanted.pop("instructions") == []
    assert found == wanted
    if command == ofproto.OFPFC_DELETE_STRICT:
        assert instructions == []
    else:
        assert instructions == list(expected_instructions(flow))


def expected_instructions(flow: Flow) -> Any:
    # What the actions are is compared by itself; this is about where they stand.
    applied = parse_actions(encode_actions(action for action in flow.actions if not isinstance(action, GotoTable)))
    if applied:
        made = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, applied)
        made.len = 8 + sum(action.len for action in applied)
        yield made.to_jsondict()
    for action in flow.actions:
        if isinstance(action, GotoTable):
            yield parser.OFPInstructionGotoTable(TABLES[action.table].number, len_=8).to_jsondict()


def compare_group_mod(modification: encode.Modification, group: Group, command: int) -> None:
    """The frameworks cannot read a group-mod, only a bucket."""
    encoded = encode.bundle_add(XID, BUNDLE, modification)[IN_BUNDLE:]
    assert wire.header(encoded) == (ofproto.OFP_VERSION, ofproto.OFPT_GROUP_MOD, len(encoded), XID)
    expected = parser.OFPGroupMod(datapath, command, ofproto.OFPGT_SELECT, group.group_id)
    expected.set_xid(XID)
    expected.serialize()
    assert encoded[8:16] == bytes(expected.buf[8:])
    offset = 16
    for bucket in () if command == ofproto.OFPGC_DELETE else group.buckets:
        found = parser.OFPBucket.parser(encoded, offset)
        assert (found.weight, found.watch_port, found.watch_group) == (
            bucket.weight,
            ofproto.OFPP_ANY,
            ofproto.OFPG_ANY,
        )
        wanted = parse_actions(encode_actions(bucket.actions))
        assert [plain(action) for action in found.actions] == [plain(action) for action in wanted]
        offset += found.len
    assert offset == len(encoded)


def compare_bundle_add(modification: encode.Modification) -> None:
    """What is around a message in a bundle: made by the framework around any other message."""
    inner = parser.OFPBarrierRequest(datapath)
    inner.set_xid(XID)
    message = parser.ONFBundleAddMsg(datapath, BUNDLE, ofproto.ONF_BF_ATOMIC | ofproto.ONF_BF_ORDERED, inner, [])
    message.set_xid(XID)
    message.serialize()
    encoded = encode.bundle_add(XID, BUNDLE, modification)
    assert int.from_bytes(encoded[2:4], "big") == len(encoded)
    assert encoded[:2] + encoded[4:IN_BUNDLE] == bytes(message.buf[:2] + message.buf[4:IN_BUNDLE])


def write_stream(path: Path) -> None:
    """Messages for Open vSwitch's own parser, and what it should print."""
    messages, lines = b"", []
    for mode in MODES:
        program = compile_program(cluster(mode), "n1")
        for flow in program.flows():
            messages += encode.bundle_add(XID, BUNDLE, encode.add_flow(flow))[IN_BUNDLE:]
            conditions = ",".join([f"priority={flow.priority}", *match_words(flow.match)])
            table = f" table:{flow.table.number}" if flow.table.number else ""
            head = f"ADD{table} {conditions} cookie:{flow.cookie:#x}"
            lines.append(f"{head} actions={actions_text(flow.actions)}")
        for group in program.groups():
            for command, make in (("ADD", encode.add_group), ("MOD", encode.modify_group)):
                messages += encode.bundle_add(XID, BUNDLE, make(group))[IN_BUNDLE:]
                lines.append(f"{command}{group_text(group)}")
            messages += encode.bundle_add(XID, BUNDLE, encode.delete_group(group))[IN_BUNDLE:]
            lines.append(f"DEL group_id={group.group_id},type=select")
    vip, endpoint = IPv4Address("10.96.0.1"), IPv4Address("10.244.0.2")
    for stale, service, endpoint_text, ip_proto in (
        (Translation("UDP", vip, 53, endpoint, 5353), ("10.96.0.1", 53), ("10.244.0.2", 5353), 17),
        (Translation("UDP", None, 53, endpoint, 5353), ("::", 53), ("10.244.0.2", 5353), 17),
        (Translation("UDP", vip, 53, None, None), ("10.96.0.1", 53), ("::", 0), 17),
        (Translation("TCP", None, None, endpoint, 8080), ("::", 0), ("10.244.0.2", 8080), 6),
    ):
        messages += flush_connections(XID, 7, stale)
        original = f"ct_nw_src=::,ct_nw_dst={service[0]},ct_tp_src=0,ct_tp_dst={service[1]},ct_nw_proto={ip_proto}"
        reply = f"ct_nw_src={endpoint_text[0]},ct_nw_dst=::,ct_tp_src={endpoint_text[1]},ct_tp_dst=0"
        lines.append(f"zone=7 '{original}' '{reply}'")
    messages += flush_connections(XID, 7, EVERY_UDP_TRANSLATION)
    anything = "ct_ipv6_src=::,ct_ipv6_dst=::,ct_tp_src=0,ct_tp_dst=0"
    lines.append(f"zone=7 '{anything},ct_nw_proto=17' '{anything}'")
    path.with_suffix(".messages").write_bytes(messages)
    path.with_suffix(".expected").write_text("\n".join(lines))


def main() -> None:
    compared = compare_actions()
    for mode in MODES:
        program = compile_program(cluster(mode), "n1")
        for flow in program.flows():
            compare_bundle_add(encode.add_flow(flow))
            compare_flow_mod(encode.add_flow(flow), flow, ofproto.OFPFC_ADD)
            compare_flow_mod(encode.delete_flow(flow), flow, ofproto.OFPFC_DELETE_STRICT)
        for group in program.groups():
            compare_group_mod(encode.add_group(group), group, ofproto.OFPGC_ADD)
            compare_group_mod(encode.modify_group(group), group, ofproto.OFPGC_MODIFY)
            compare_group_mod(encode.delete_group(group), group, ofproto.OFPGC_DELETE)
        compared += 2 * len(program.flows()) + 3 * len(program.groups())
    for encoded, control in (
        (encode.bundle_commit(XID, BUNDLE), ofproto.ONF_BCT_COMMIT_REQUEST),
        (encode.bundle_discard(XID, BUNDLE), ofproto.ONF_BCT_DISCARD_REQUEST),
    ):
        message = parser.ONFBundleCtrlMsg(datapath, BUNDLE, control, ofproto.ONF_BF_ATOMIC | ofproto.ONF_BF_ORDERED, [])
        message.set_xid(XID)
        message.serialize()
        assert encoded == bytes(message.buf)
        compared += 1
    barrier = parser.OFPBarrierRequest(datapath)
    barrier.set_xid(XID)
    barrier.serialize()
    assert encode.barrier(XID) == bytes(barrier.buf)
    if len(sys.argv) > 1:
        write_stream(Path(sys.argv[1]))
    print(compared + 1)


main()
