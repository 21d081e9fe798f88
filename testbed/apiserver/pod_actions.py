"""What can be done to a Pod beside reading and writing it: bind it to a node, evict it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.bodies import body_object
from testbed.apiserver.deleting import delete_one, read_options
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.writing import dry_run
from testbed.cluster.eviction import count_eviction
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, Conflict

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_DONE = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_EVICTIONS = ("policy/v1", "policy/v1beta1")


def answer_binding(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Put a pod that has no node yet on one, as a scheduler does (core/v1 Binding)."""
    binding = _named(exchange, target, "Binding", ("v1",))
    node = binding.get("target")
    if not isinstance(node, dict) or not isinstance(node.get("name"), str) or node.get("kind", "Node") != "Node":
        raise BadRequest("target must name a Node")
    pod = server.store.get(target.kind, *target.where)
    if there := (pod.get("spec") or {}).get("nodeName"):
        raise Conflict(f'pod "{target.name}" is already assigned to node "{there}"')
    bound = {**pod, "spec": {**(pod.get("spec") or {}), "nodeName": node["name"]}}
    server.store.replace(bound, dry_run=dry_run(exchange))
    exchange.answer(201, _DONE)


def answer_eviction(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Delete a pod, as ``kubectl drain`` asks for it, unless a PodDisruptionBudget forbids it."""
    eviction = _named(exchange, target, "Eviction", _EVICTIONS)
    options = eviction.get("deleteOptions") or {}
    if not isinstance(options, dict):
        raise BadRequest("deleteOptions is no object")
    wanted = read_options(exchange, options)
    count_eviction(server.store, server.store.get(target.kind, *target.where), dry_run=wanted.dry_run)
    delete_one(server.store, target, wanted)
    exchange.answer(201, _DONE)


def _named(exchange: Exchange, target: Target, kind: str, versions: tuple[str, ...]) -> JsonObject:
    wire = body_object(exchange)
    if wire.get("kind") != kind or wire.get("apiVersion") not in versions:
        raise BadRequest(f"the object is no {kind} of {' or '.join(versions)}")
    metadata = wire.get("metadata") or {}
    if not isinstance(metadata, dict) or metadata.get("name", target.name) != target.name:
        raise BadRequest("the name of the object does not match the name on the URL")
    return wire
