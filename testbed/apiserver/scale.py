"""The subresource ``scale``: how many pods a workload keeps (autoscaling/v1 Scale)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.bodies import body_object
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.patching import change_of
from testbed.apiserver.paths import Target
from testbed.apiserver.tables.columns import NONE, selector_text
from testbed.apiserver.writing import Writer
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, invalid

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_SCALE = {"kind": "Scale", "apiVersion": "autoscaling/v1"}
_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def answer_scale(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Read or change a workload's ``spec.replicas`` alone."""
    if exchange.method == "GET":
        exchange.answer(200, _scale(server.store.get(target.kind, *target.where)))
        return
    # The workload is what is written: the subresource is only a view of it.
    writer = Writer(server, exchange, target._replace(subresource=None))
    if exchange.method == "PUT":
        wanted = body_object(exchange)

        def change(old: JsonObject) -> JsonObject:
            return _scaled(old, wanted, target)
    else:
        make = change_of(exchange, target)

        def change(old: JsonObject) -> JsonObject:
            return _scaled(old, make(_scale(old)), target)

    exchange.answer(200, _scale(writer.update(change)), writer.headers)


def _scale(wire: JsonObject) -> JsonObject:
    spec, status, metadata = wire.get("spec") or {}, wire.get("status") or {}, wire["metadata"]
    selector = selector_text(spec.get("selector"))
    return {
        **_SCALE,
        "metadata": {name: metadata[name] for name in _METADATA if name in metadata},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {"replicas": status.get("replicas", 0), "selector": "" if selector == NONE else selector},
    }


def _scaled(old: JsonObject, scale: JsonObject, target: Target) -> JsonObject:
    if {name: scale.get(name) for name in _SCALE} != _SCALE:
        raise BadRequest("the object is no Scale of autoscaling/v1")
    metadata, spec = scale.get("metadata"), scale.get("spec")
    if not isinstance(metadata, dict) or metadata.get("name") != target.name:
        raise BadRequest("the name of the object does not match the name on the URL")
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else 0
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        problem = "must be a whole number, not negative"
        raise invalid("Scale", str(target.name), [("spec.replicas", problem)])
    new = {**old, "metadata": {**old["metadata"]}, "spec": {**(old.get("spec") or {}), "replicas": replicas}}
    if metadata.get("resourceVersion"):
        new["metadata"]["resourceVersion"] = metadata["resourceVersion"]
    return new
