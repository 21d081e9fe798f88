"""Flows and groups as OpenFlow 1.3 messages on the wire, wrapped in a bundle, and the flushing of connections.

The bytes are made here rather than by the framework's message classes because a whole cluster is pushed at once: for
5,600 flows the classes take 350 ms, these functions 30 ms. Numbers come from the framework's tables; a test parses
the bytes back with its parser. Sources: OpenFlow 1.3.5 sections 7.2.4 (instructions), 7.3.4.1 (flow-mod) and 7.3.4.2
(group-mod); ONF EXT-230 (bundles for 1.3); Open vSwitch's nicira-ext.h (NXT_CT_FLUSH).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from controllers.pipeline.flow import Actions, Bucket, Flow, GotoTable, Group, Match
from controllers.pipeline.tables import SESSION_AFFINITY, TABLES
from controllers.ryu_app.encode_actions import encode_actions, encode_match
from controllers.ryu_app.framework import ofproto, ofproto_common

_HEADER = struct.Struct("!BBHI")
_EXPERIMENTER = struct.Struct("!II")
_BUNDLE_CONTROL = struct.Struct(ofproto.ONF_BUNDLE_CTRL_PACK_STR)
# The header, the experimenter, bundle and flags, and the header of the message inside, which has the same xid.
_BUNDLE_ADD = struct.Struct("!BBHI II I2xH BBHI")
# cookie, cookie mask, table, command, idle and hard timeout, priority, buffer, out port, out group, flags
_FLOW_MOD = struct.Struct("!QQBBHHHIIIH2x")
_GROUP_MOD = struct.Struct(ofproto.OFP_GROUP_MOD_PACK_STR)
_BUCKET = struct.Struct(ofproto.OFP_BUCKET_PACK_STR)

_LAST_TABLE = ofproto.OFPTT_MAX - 1  # Open vSwitch keeps table 254 to itself (ofproto-dpif.h, TBL_INTERNAL)
_UNREACHED = _LAST_TABLE  # far behind the pipeline's

_BUNDLE_FLAGS = ofproto.ONF_BF_ATOMIC | ofproto.ONF_BF_ORDERED

_LARGEST_BODY_BYTES = 0xFFFF - _BUNDLE_ADD.size


class Modification(NamedTuple):
    """A flow-mod or group-mod without its header, the same for every switch and bundle it goes to."""

    message_type: int
    body: bytes


def bundle_commit(xid: int, bundle_id: int) -> bytes:
    """Apply a bundle: all of it, or nothing."""
    return _bundle_control(xid, bundle_id, ofproto.ONF_BCT_COMMIT_REQUEST)


def bundle_discard(xid: int, bundle_id: int) -> bytes:
    """Forget a bundle."""
    return _bundle_control(xid, bundle_id, ofproto.ONF_BCT_DISCARD_REQUEST)


def bundle_add(xid: int, bundle_id: int, modification: Modification) -> bytes:
    """Put a modification into a bundle."""
    message_type, body = modification
    length = len(body) + _HEADER.size
    return (
        _BUNDLE_ADD.pack(
            ofproto.OFP_VERSION,
            ofproto.OFPT_EXPERIMENTER,
            len(body) + _BUNDLE_ADD.size,
            xid,
            ofproto_common.ONF_EXPERIMENTER_ID,
            ofproto.ONF_ET_BUNDLE_ADD_MESSAGE,
            bundle_id,
            _BUNDLE_FLAGS,
            ofproto.OFP_VERSION,
            message_type,
            length,
            xid,
        )
        + body
    )


def barrier(xid: int) -> bytes:
    """Ask for a reply once everything before is done."""
    return _message(ofproto.OFPT_BARRIER_REQUEST, xid, b"")


def add_flow(flow: Flow) -> Modification:
    """Add a flow, in the place of the one with its key if there is one."""
    return _flow_mod(ofproto.OFPFC_ADD, flow.table.number, flow.priority, flow.match, flow.cookie, flow.actions)


def delete_flow(flow: Flow) -> Modification:
    """Delete the one flow that has this flow's table, priority and match."""
    return _flow_mod(ofproto.OFPFC_DELETE_STRICT, flow.table.number, flow.priority, flow.match)


def add_group(group: Group) -> Modification:
    """Add a group that is not there yet."""
    return _group_mod(ofproto.OFPGC_ADD, group.group_id, group.buckets)


def modify_group(group: Group) -> Modification:
    """Put all of a group's buckets in the place of those it had."""
    return _group_mod(ofproto.OFPGC_MODIFY, group.group_id, group.buckets)


def delete_group(group: Group) -> Modification:
    """Delete a group, and every flow that still leads to it."""
    return _group_mod(ofproto.OFPGC_DELETE, group.group_id, ())


def delete_everything(but_learned_by: Iterable[Flow]) -> list[Modification]:
    """Delete every flow and every group, but not what connections have taught the bridge (session affinity).

    A switch deletes what a flow has learned together with the last flow that learns under the same cookie. Flows that
    will be there again hold on to it by a copy in a table that no packet comes to. :func:`release_learned` ends that.
    """
    held = [
        _flow_mod(ofproto.OFPFC_ADD, _UNREACHED, flow.priority, flow.match, flow.cookie, flow.actions)
        for flow in but_learned_by
    ]
    kept = (SESSION_AFFINITY.number, _UNREACHED)
    deleted = [_delete_table(number) for number in range(_LAST_TABLE + 1) if number not in kept]
    return [*held, *deleted, _group_mod(ofproto.OFPGC_DELETE, ofproto.OFPG_ALL, ())]


def release_learned() -> Modification:
    """Delete the copies that :func:`delete_everything` has made."""
    return _delete_table(_UNREACHED)


def is_too_large(modification: Modification) -> bool:
    """Whether a message cannot be sent: the length in its header has 16 bits."""
    return len(modification.body) > _LARGEST_BODY_BYTES


def _message(message_type: int, xid: int, body: bytes) -> bytes:
    return _HEADER.pack(ofproto.OFP_VERSION, message_type, _HEADER.size + len(body), xid) + body


def _bundle_control(xid: int, bundle_id: int, control_type: int) -> bytes:
    body = _EXPERIMENTER.pack(ofproto_common.ONF_EXPERIMENTER_ID, ofproto.ONF_ET_BUNDLE_CONTROL)
    return _message(ofproto.OFPT_EXPERIMENTER, xid, body + _BUNDLE_CONTROL.pack(bundle_id, control_type, _BUNDLE_FLAGS))


def _delete_table(number: int) -> Modification:
    return _flow_mod(ofproto.OFPFC_DELETE, number, 0, ())


def _flow_mod(
    command: int,
    table_number: int,
    priority: int,
    match: Match,
    cookie: int = 0,
    actions: Actions = (),
) -> Modification:
    fixed = _FLOW_MOD.pack(
        cookie,
        0,
        table_number,
        command,
        0,
        0,
        priority,
        ofproto.OFP_NO_BUFFER,
        ofproto.OFPP_ANY,
        ofproto.OFPG_ANY,
        0,
    )
    return Modification(ofproto.OFPT_FLOW_MOD, fixed + encode_match(match) + _instructions(actions))


def _instructions(actions: Actions) -> bytes:
    if not actions:
        return b""
    last = actions[-1]
    goto = b""
    if isinstance(last, GotoTable):
        actions = actions[:-1]
        goto = struct.pack("!HHB3x", ofproto.OFPIT_GOTO_TABLE, 8, TABLES[last.table].number)
    encoded = encode_actions(actions)
    if not encoded:
        return goto
    return struct.pack("!HH4x", ofproto.OFPIT_APPLY_ACTIONS, 8 + len(encoded)) + encoded + goto


def _group_mod(command: int, group_id: int, buckets: Iterable[Bucket]) -> Modification:
    fixed = _GROUP_MOD.pack(command, ofproto.OFPGT_SELECT, group_id)
    return Modification(ofproto.OFPT_GROUP_MOD, fixed + b"".join([_bucket(bucket) for bucket in buckets]))


def _bucket(bucket: Bucket) -> bytes:
    actions = encode_actions(bucket.actions)
    # All our actions are padded to 8 bytes, so the bucket is too. It watches nothing.
    return _BUCKET.pack(_BUCKET.size + len(actions), bucket.weight, ofproto.OFPP_ANY, ofproto.OFPG_ANY) + actions
