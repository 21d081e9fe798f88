"""Run as a program: encode messages, read them back with the framework's own parser, compare with its own encoding.

A process of its own, because the framework patches the standard library and can be chosen only once. Prints the number
of messages compared; fails at the first difference.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from controllers.pipeline import compile_flows
from controllers.pipeline.fields import FIELDS
from controllers.pipeline.flow import Action, DecTTL, Flow, GotoTable, Move, Output, OutputField, SetField
from controllers.pipeline.tables import TABLES
from controllers.ryu_app import encode
from controllers.ryu_app.framework import ofproto
from controllers.ryu_app.library import PACKAGES, library_name
from testbed.cluster.values import MODES
from tests.unit.pipeline_states import two_nodes

_PACKAGE = PACKAGES[library_name()]
parser: Any = import_module(f"{_PACKAGE}.ofproto.ofproto_v1_3_parser")
wire: Any = import_module(f"{_PACKAGE}.ofproto.ofproto_parser")
datapath: Any = import_module(f"{_PACKAGE}.ofproto.ofproto_protocol").ProtocolDesc(ofproto.OFP_VERSION)
XID, BUNDLE = 77, 5


def read(message: bytes) -> Any:
    """What the framework understands, as plain values; the order of the fields in a match means nothing."""
    header = wire.header(message)
    assert header[2] == len(message), "the length in the header"
    result = wire.msg(datapath, *header, bytearray(message)).to_jsondict()["OFPFlowMod"]
    result["match"]["OFPMatch"]["oxm_fields"].sort(key=lambda entry: entry["OXMTlv"]["field"])
    return result


def by_framework(flow: Flow, command: int) -> Any:
    """The same flow-mod, made from the framework's message classes."""
    fields = {
        entry.field: entry.value if entry.mask == FIELDS[entry.field].full_mask else (entry.value, entry.mask)
        for entry in flow.match
    }
    deletes = command == ofproto.OFPFC_DELETE_STRICT
    message = parser.OFPFlowMod(
        datapath,
        cookie=0 if deletes else flow.cookie,
        table_id=flow.table.number,
        command=command,
        priority=flow.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=parser.OFPMatch(**fields),
        instructions=[] if deletes else list(instructions(flow)),
    )
    message.set_xid(XID)
    return message


def instructions(flow: Flow) -> Any:
    applied = [made for action in flow.actions if (made := framework_action(action)) is not None]
    if applied:
        yield parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, applied)
    for action in flow.actions:
        if isinstance(action, GotoTable):
            yield parser.OFPInstructionGotoTable(TABLES[action.table].number)


def framework_action(action: Action) -> Any:
    if isinstance(action, SetField):
        return parser.OFPActionSetField(**{action.field: action.value})
    if isinstance(action, Move):
        bits = FIELDS[action.source].bits
        return parser.NXActionRegMove(src_field=action.source, dst_field=action.destination, n_bits=bits)
    if isinstance(action, DecTTL):
        return parser.OFPActionDecNwTtl()
    if isinstance(action, Output):
        return parser.OFPActionOutput(action.of_port, 0)
    if isinstance(action, OutputField):
        return parser.NXActionOutputReg(ofs_nbits=FIELDS[action.field].bits - 1, src=action.field, max_len=0)
    return None


def main() -> None:
    compared = 0
    for mode in MODES:
        for flow in compile_flows(two_nodes(mode), "n1"):
            for encoded, command in (
                (encode.add_flow(XID, flow), ofproto.OFPFC_ADD),
                (encode.delete_flow(XID, flow), ofproto.OFPFC_DELETE_STRICT),
            ):
                expected = by_framework(flow, command)
                expected.serialize()
                assert len(encoded) == len(expected.buf)
                assert read(encoded) == read(bytes(expected.buf))
                bundled = parser.ONFBundleAddMsg(
                    datapath, BUNDLE, ofproto.ONF_BF_ATOMIC | ofproto.ONF_BF_ORDERED, by_framework(flow, command), []
                )
                bundled.set_xid(XID)
                bundled.serialize()
                framing = bytes(bundled.buf[: -len(encoded)])
                assert encode.bundle_add(XID, BUNDLE, encoded) == framing + encoded
                compared += 2
    for encoded, control in (
        (encode.bundle_open(XID, BUNDLE), ofproto.ONF_BCT_OPEN_REQUEST),
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
    deletion = read(encode.delete_all_flows(XID))
    assert (deletion["command"], deletion["table_id"]) == (ofproto.OFPFC_DELETE, ofproto.OFPTT_ALL)
    assert deletion["match"]["OFPMatch"]["oxm_fields"] == []
    print(compared + 2)


main()
