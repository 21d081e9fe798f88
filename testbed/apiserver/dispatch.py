"""Who answers a request: a fixed document, a subresource, or the verbs on objects and collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.access import access_review
from testbed.apiserver.answers import Form
from testbed.apiserver.bodies import posted_object
from testbed.apiserver.deleting import delete, delete_collection
from testbed.apiserver.exchange import Exchange, encode
from testbed.apiserver.listing import list_page
from testbed.apiserver.openapi import answer_openapi
from testbed.apiserver.openapi_v3 import answer_openapi_v3, is_openapi_v3
from testbed.apiserver.page import answer_page, is_page
from testbed.apiserver.patching import patch
from testbed.apiserver.paths import Target, not_found, parse_path
from testbed.apiserver.subresources import SUBRESOURCES
from testbed.apiserver.watching import watch
from testbed.apiserver.writing import Writer
from testbed.cluster.kinds import ABSENT_KINDS
from testbed.cluster.status import MethodNotAllowed

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_HEALTH = ("/healthz", "/livez", "/readyz")
_READING = ("GET", "HEAD")


def dispatch(exchange: Exchange, server: ApiServer) -> None:
    """Answer the request, or raise the ApiError that it is refused by."""
    path = exchange.path.rstrip("/")
    document = server.documents.get(path)
    if document is not None and exchange.method in _READING:
        exchange.answer(200, document)
    elif is_page(exchange.path):
        answer_page(exchange, server)
    elif path.startswith(_HEALTH) and exchange.method in _READING:
        _answer_health(exchange, path)
    elif path == "/openapi/v2" and exchange.method in _READING:
        answer_openapi(exchange)
    elif is_openapi_v3(path) and exchange.method in _READING:
        answer_openapi_v3(exchange, path)
    elif access_review(exchange, path):
        return
    else:
        _resource(exchange, server, parse_path(exchange.path))


def _answer_health(exchange: Exchange, path: str) -> None:
    """Whoever answers is well."""
    text = "ok"
    if "verbose" in exchange.query:
        text = f"[+]ping ok\n{path.split('/')[1]} check passed\n"
    exchange.answer_bytes(200, "text/plain; charset=utf-8", text.encode())


def _resource(exchange: Exchange, server: ApiServer, target: Target) -> None:
    if target.kind in ABSENT_KINDS and exchange.method in ("POST", "PUT", "PATCH"):
        raise MethodNotAllowed(f"the testbed keeps no {target.kind.plural}: nothing would act on them (docs/api.md)")
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
    if exchange.method == "POST":
        form, writer = Form(exchange, target), Writer(server, exchange, target)
        stored = writer.create(posted_object(exchange, target))
        exchange.answer(201, form.one(stored), writer.headers)
    elif exchange.method == "GET" and exchange.query.flag("watch"):
        watch(exchange, server, target)
    elif exchange.method in ("GET", "DELETE"):
        form = Form(exchange, target)
        items, metadata = list_page(exchange, server.store, server.pages, target)
        if exchange.method == "DELETE":
            delete_collection(exchange, server.store, target, items)
        exchange.answer_bytes(200, form.content_type, encode(form.all(items, metadata)), target.headers)
    else:
        raise MethodNotAllowed("a collection can be listed, watched, added to and emptied")


def _object(exchange: Exchange, server: ApiServer, target: Target) -> None:
    store, form = server.store, Form(exchange, target)
    if exchange.method == "GET" and exchange.query.flag("watch"):
        watch(exchange, server, target)
    elif exchange.method in _READING:
        exchange.answer_bytes(
            200, form.content_type, encode(form.one(store.get(target.kind, *target.where))), target.headers
        )
    elif exchange.method == "PUT":
        writer = Writer(server, exchange, target)
        wire = posted_object(exchange, target)
        exchange.answer(200, form.one(writer.update(lambda old: wire)), writer.headers)
    elif exchange.method == "PATCH":
        code, stored, writer = patch(exchange, server, target)
        exchange.answer(code, form.one(stored), writer.headers)
    elif exchange.method == "DELETE":
        exchange.answer(200, delete(exchange, store, target), target.headers)
    else:
        raise MethodNotAllowed("an object can be read, replaced, patched and deleted")
