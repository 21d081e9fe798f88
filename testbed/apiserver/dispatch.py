"""Who answers a request: a fixed document, a subresource, or the verbs on objects and collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.bodies import expect_media, json_object, posted_object
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target, not_found, parse_path
from testbed.apiserver.subresources import SUBRESOURCES
from testbed.apiserver.watching import selected, watch
from testbed.cluster.client import MERGE_PATCH
from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, MethodNotAllowed

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


def dispatch(exchange: Exchange, server: ApiServer) -> None:
    """Answer the request, or raise the ApiError that it is refused by."""
    document = server.documents.get(exchange.path.rstrip("/"))
    if document is not None and exchange.method == "GET":
        exchange.answer(200, document)
        return
    target = parse_path(exchange.path)
    if exchange.query.text("dryRun"):
        raise BadRequest("dryRun is not supported")
    if target.subresource is not None:
        _subresource(exchange, server, target)
    elif target.name is None:
        _collection(exchange, server, target)
    else:
        _object(exchange, server, target)


def _subresource(exchange: Exchange, server: ApiServer, target: Target) -> None:
    subresource = SUBRESOURCES.get((target.kind, target.subresource or ""))
    if subresource is None:
        raise not_found()
    if exchange.method not in subresource.methods:
        raise MethodNotAllowed(f"{subresource.name} can be asked for by {', '.join(subresource.methods)}")
    subresource.answer(exchange, server, target)


def _collection(exchange: Exchange, server: ApiServer, target: Target) -> None:
    store = server.store
    if exchange.method == "POST":
        exchange.answer(201, store.create(posted_object(exchange, target)))
    elif exchange.method != "GET":
        raise MethodNotAllowed("a collection can be listed, watched and added to")
    elif exchange.query.flag("watch"):
        watch(exchange, server, target)
    else:
        listed = store.list(target.kind, selected(exchange, target))
        exchange.answer(200, _list_object(target.kind, listed.items, listed.resource_version))


def _object(exchange: Exchange, server: ApiServer, target: Target) -> None:
    store, (name, namespace) = server.store, target.where
    if exchange.method == "GET":
        exchange.answer(200, store.get(target.kind, name, namespace))
    elif exchange.method == "PUT":
        exchange.answer(200, store.replace(posted_object(exchange, target)))
    elif exchange.method == "PATCH":
        expect_media(exchange, MERGE_PATCH)
        exchange.answer(200, store.patch(target.kind, name, json_object(exchange.body), namespace))
    elif exchange.method == "DELETE":
        exchange.answer(200, store.delete(target.kind, name, namespace, grace_period_s=_grace_period_s(exchange)))
    else:
        raise MethodNotAllowed("an object can be read, replaced, patched and deleted")


def _grace_period_s(exchange: Exchange) -> int | None:
    """What a DELETE says by ``gracePeriodSeconds``, in the query or in its body (``DeleteOptions``).

    Raises BadRequest, also when what the object keeps is to stay without it: nothing here outlives its owner.
    """
    options = json_object(exchange.body) if exchange.body else {}
    if "Orphan" in (exchange.query.text("propagationPolicy"), options.get("propagationPolicy")):
        raise BadRequest("propagationPolicy Orphan is not supported")
    if (asked := exchange.query.number("gracePeriodSeconds")) is not None:
        return asked
    wanted = options.get("gracePeriodSeconds")
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0):
        raise BadRequest(f"gracePeriodSeconds is no whole number: {wanted!r}")
    return wanted


def _list_object(kind: Kind, items: list[JsonObject], version: int) -> JsonObject:
    metadata = {"resourceVersion": str(version)}
    return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}
