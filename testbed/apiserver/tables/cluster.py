"""The tables of Nodes, Namespaces, ConfigMaps, Secrets, Leases and Events."""

from __future__ import annotations

from typing import Any

from testbed.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Column,
    Layout,
    age,
    since,
    spec,
    status,
)
from testbed.cluster.objects import JsonObject

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _node(wire: JsonObject, now: float) -> list[Any]:
    info = status(wire).get("nodeInfo") or {}
    return [
        wire["metadata"]["name"],
        _node_status(wire),
        _roles(wire),
        age(wire, now),
        info.get("kubeletVersion", ""),
        _node_address(wire, "InternalIP"),
        _node_address(wire, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(wire: JsonObject) -> str:
    ready = [c.get("status") for c in status(wire).get("conditions") or () if c.get("type") == "Ready"]
    text = ("Ready" if ready[0] == "True" else "NotReady") if ready else "Unknown"
    return f"{text},SchedulingDisabled" if spec(wire).get("unschedulable") else text


def _roles(wire: JsonObject) -> str:
    labels = wire["metadata"].get("labels") or {}
    roles = {label.removeprefix(_ROLE_PREFIX) for label in labels if label.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return ",".join(sorted(role for role in roles if role)) or NONE


def _node_address(wire: JsonObject, address_type: str) -> str:
    for address in status(wire).get("addresses") or ():
        if address.get("type") == address_type:
            return str(address.get("address"))
    return NONE


def _namespace(wire: JsonObject, now: float) -> list[Any]:
    return [wire["metadata"]["name"], status(wire).get("phase", ""), age(wire, now)]


def _config_map(wire: JsonObject, now: float) -> list[Any]:
    count = len(wire.get("data") or ()) + len(wire.get("binaryData") or ())
    return [wire["metadata"]["name"], count, age(wire, now)]


def _secret(wire: JsonObject, now: float) -> list[Any]:
    return [wire["metadata"]["name"], wire.get("type") or "Opaque", len(wire.get("data") or ()), age(wire, now)]


def _event(wire: JsonObject, now: float) -> list[Any]:
    involved, source = wire.get("involvedObject") or {}, wire.get("source") or {}
    first = wire.get("firstTimestamp") or wire.get("eventTime")
    where = [source.get("component") or wire.get("reportingComponent") or "", source.get("host") or ""]
    return [
        since(wire.get("lastTimestamp") or first, now),
        wire.get("type", ""),
        wire.get("reason", ""),
        f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        ", ".join(part for part in where if part),
        str(wire.get("message") or "").strip(),
        since(first, now),
        wire.get("count") or 1,
        wire["metadata"]["name"],
    ]


def _lease(wire: JsonObject, now: float) -> list[Any]:
    return [wire["metadata"]["name"], spec(wire).get("holderIdentity", ""), age(wire, now)]


NODES = Layout(
    (
        NAME,
        Column("Status", "Whether the node is ready, and takes pods."),
        Column("Roles", "What the node is for."),
        AGE,
        Column("Version", "The version of what runs its pods."),
        Column("Internal-IP", "The node's address.", wide=True),
        Column("External-IP", "The node's address from outside.", wide=True),
        Column("OS-Image", "The operating system.", wide=True),
        Column("Kernel-Version", "The kernel.", wide=True),
        Column("Container-Runtime", "What runs the containers.", wide=True),
    ),
    _node,
)
NAMESPACES = Layout((NAME, Column("Status", "Whether the namespace is in use."), AGE), _namespace)
CONFIG_MAPS = Layout((NAME, Column("Data", "How many entries it has.", "integer"), AGE), _config_map)
SECRETS = Layout(
    (NAME, Column("Type", "What the data is."), Column("Data", "How many entries it has.", "integer"), AGE), _secret
)
LEASES = Layout((NAME, Column("Holder", "Who has it."), AGE), _lease)
EVENTS = Layout(
    (
        Column("Last Seen", "How long ago it happened last."),
        Column("Type", "Normal or Warning."),
        Column("Reason", "What happened, in a word."),
        Column("Object", "What it happened to."),
        Column("Subobject", "The part of the object.", wide=True),
        Column("Source", "Who says so.", wide=True),
        Column("Message", "What happened."),
        Column("First Seen", "How long ago it happened first.", wide=True),
        Column("Count", "How often it happened.", "integer", wide=True),
        Column("Name", "The event's name.", wide=True),
    ),
    _event,
)
