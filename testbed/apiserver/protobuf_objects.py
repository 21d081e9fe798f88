"""Objects in Kubernetes' protocol buffers, which ``kubectl`` since 1.32 sends when it creates some kinds.

A body is the four bytes ``k8s\\0`` and a ``runtime.Unknown`` around the object
(https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding). Which field has which number is in
``protobuf_fields.json``, made by ``scripts/protobuf_fields.py``. Answers are JSON: whoever sends this accepts it.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest
from testbed.cluster.timestamps import timestamp

PROTOBUF = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\0"
_DEEPEST = 64
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_TIMES = (f"{_META}.Time", f"{_META}.MicroTime")
_QUANTITY = "k8s.io.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "k8s.io.apimachinery.pkg.util.intstr.IntOrString"
_RAW = ("k8s.io.apimachinery.pkg.runtime.RawExtension", f"{_META}.FieldsV1")

# Messages that JSON shows without a field of their own: their fields stand beside the others.
INLINE = frozenset(
    {
        *("volumeSource", "handler", "localObjectReference", "ingressRuleValue", "ephemeralContainerCommon"),
        "persistentVolumeSource",
    }
)
# Numbers that mean something when they are zero, and switches when they are off; all others are sent though nobody set
# them, which JSON would leave out.
_ZERO_MEANS_ZERO = frozenset(
    {
        *("replicas", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"),
        *("terminationGracePeriodSeconds", "gracePeriodSeconds", "revisionHistoryLimit", "progressDeadlineSeconds"),
        *("partition", "runAsUser", "runAsGroup", "fsGroup", "defaultMode", "mode"),
        *("automountServiceAccountToken", "enableServiceLinks", "optional", "suspend", "allowPrivilegeEscalation"),
        *("privileged", "readOnlyRootFilesystem", "runAsNonRoot", "immutable", "controller", "blockOwnerDeletion"),
        *("allocateLoadBalancerNodePorts", "ready", "serving", "terminating", "setHostnameAsFQDN"),
    }
)


def protobuf_object(body: bytes) -> JsonObject:
    """The object in a request body, as JSON has it. Raises BadRequest."""
    try:
        return _object(body)
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError) as error:
        raise BadRequest(f"the body is no object in Kubernetes' protocol buffers: {error!r}") from None


def _object(body: bytes) -> JsonObject:
    if not body.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    type_meta = {number: value.decode() for number, value in _fields(envelope[1])}
    api_version, kind = type_meta.get(1, ""), type_meta.get(2, "")
    group, _, version = api_version.rpartition("/")
    message = next((name for name in _messages(group, version, kind) if name in _known()), None)
    if message is None:
        raise ValueError(f"no kind {kind!r} of version {api_version!r} is known")
    return {"apiVersion": api_version, "kind": kind, **_message(envelope[2], message, 0)}


def _messages(group: str, version: str, kind: str) -> Iterator[str]:
    """Where the message of a kind may be: in its group's package, or among those that all groups share."""
    yield f"k8s.io.api.{group.split('.')[0] or 'core'}.{version}.{kind}"
    yield f"{_META}.{kind}"


@cache
def _known() -> dict[str, dict[str, list[str]]]:
    text = (Path(__file__).parent / "protobuf_fields.json").read_text()
    known: dict[str, dict[str, list[str]]] = json.loads(text)
    return known


def _message(data: bytes, message: str, depth: int) -> JsonObject:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    known = _known()[message]
    result: JsonObject = {}
    for number, value in _fields(data):
        if str(number) not in known:
            continue  # newer than what is known here
        name, kind, cardinality = known[str(number)]
        if cardinality == "map":
            entry = dict(_fields(value))
            inner = _value(entry.get(2, b""), kind, depth)
            result.setdefault(name, {})[entry.get(1, b"").decode()] = inner
        elif cardinality == "repeated":
            result.setdefault(name, []).append(_value(value, kind, depth))
        elif name in INLINE:
            result.update(_value(value, kind, depth))
        else:
            decoded = _value(value, kind, depth)
            if decoded or decoded == {} or (decoded is not None and decoded != "" and name in _ZERO_MEANS_ZERO):
                result[name] = decoded
    return result


def _value(value: Any, kind: str, depth: int) -> Any:
    match kind:
        case "string":
            return value.decode()
        case "bytes":
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value)
        case "int32" | "int64":
            return value - (1 << 64) if value >= 1 << 63 else value
        case "uint32" | "uint64":
            return value
        case "double":
            return struct.unpack("<d", value)[0]
        case _ if kind in _TIMES:
            return _time(value)
        case _ if kind in _RAW:
            raw = dict(_fields(value)).get(1)
            return json.loads(raw) if raw else None
        case _ if kind == _QUANTITY:
            return dict(_fields(value)).get(1, b"0").decode()
        case _ if kind == _INT_OR_STRING:
            parts = dict(_fields(value))
            return parts.get(3, b"").decode() if parts.get(1, 0) == 1 else _value(parts.get(2, 0), "int32", depth)
    return _message(value, kind, depth + 1)


def _time(value: bytes) -> str | None:
    parts = dict(_fields(value))
    seconds = _value(parts.get(1, 0), "int64", 0)
    return timestamp(seconds) if seconds else None


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field in a message: a number, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value: Any
                value, at = _varint(data, at)
            case 1:
                value, at = _bytes(data, at, 8)
            case 2:
                length, at = _varint(data, at)
                value, at = _bytes(data, at, length)
            case 5:
                value, at = _bytes(data, at, 4)
            case other:
                raise ValueError(f"wire type {other} is not known")
        yield key >> 3, value


def _bytes(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise ValueError("it ends too early")
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
