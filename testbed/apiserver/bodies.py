"""Request bodies: JSON objects, checked to be what the URL names."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from testbed.apiserver.exchange import JSON, Exchange
from testbed.apiserver.paths import Target
from testbed.cluster.kinds import kind_of
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, MethodNotAllowed, UnsupportedMediaType


def posted_object(exchange: Exchange, target: Target) -> JsonObject:
    """The object in a POST or PUT. Raises ApiError."""
    expect_media(exchange, JSON)
    wire = json_object(exchange.body)
    if kind_of(wire) is not target.kind:
        raise BadRequest(f"the object is a {wire['kind']}, the URL is for {target.kind.resource}")
    metadata = wire.get("metadata")
    if not isinstance(metadata, dict):
        raise BadRequest("the object has no metadata")
    if target.name is not None and metadata.get("name") != target.name:
        raise BadRequest("the name of the object does not match the name on the URL")
    if target.kind.namespaced:
        if target.namespace is None:
            raise MethodNotAllowed("an object is created in a namespace, which the URL must have")
        if metadata.setdefault("namespace", target.namespace) != target.namespace:
            raise BadRequest("the namespace of the object does not match the namespace on the URL")
    return wire


def media_type(exchange: Exchange, default: str) -> str:
    """The media type of the request's body, without its parameters."""
    return str(exchange.headers.get("Content-Type", default)).split(";")[0].strip().lower()


def expect_media(exchange: Exchange, wanted: str) -> None:
    """Raises UnsupportedMediaType for a body of another media type."""
    given = media_type(exchange, wanted)
    if given != wanted:
        raise UnsupportedMediaType(f"the media type {given!r} is not supported; use {wanted}")


def json_object(body: bytes) -> JsonObject:
    """The JSON object in a request body (RFC 8259: no NaN, no infinity). Raises BadRequest."""
    try:
        decoded = json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise BadRequest("the body is not a JSON object")
    return decoded


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
