"""Request bodies: JSON, YAML or protocol buffers, checked to be what the URL names."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import yaml

from testbed.apiserver.exchange import JSON, Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.protobuf_objects import PROTOBUF, protobuf_object
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, MethodNotAllowed, UnsupportedMediaType

YAML = "application/yaml"

_MOST_VALUES = 500_000


def posted_object(exchange: Exchange, target: Target) -> JsonObject:
    """The object in a POST or PUT, in the stored version. Raises ApiError."""
    return checked_object(body_object(exchange), target)


def body_object(exchange: Exchange) -> JsonObject:
    """The object in a request body, in one of the three forms. Raises UnsupportedMediaType, BadRequest."""
    media = media_type(exchange, JSON)
    decode = _DECODERS.get(media)
    if decode is None:
        raise UnsupportedMediaType(f"the media type {media!r} is not supported; use {', '.join(_DECODERS)}")
    return decode(exchange.body)


def checked_object(wire: JsonObject, target: Target) -> JsonObject:
    """An object in the stored version, if it is what the URL names. Raises BadRequest, MethodNotAllowed."""
    kind = target.kind
    if (wire.get("apiVersion"), wire.get("kind")) != (target.api_version, kind.name):
        given = f"{wire.get('kind')!r} of version {wire.get('apiVersion')!r}"
        raise BadRequest(f"the object is a {given}, the URL is for {kind.name} of version {target.api_version}")
    metadata = wire.get("metadata")
    if not isinstance(metadata, dict):
        raise BadRequest("the object has no metadata")
    metadata = dict(metadata)
    if target.name is not None and metadata.setdefault("name", target.name) != target.name:
        raise BadRequest("the name of the object does not match the name on the URL")
    if kind.namespaced:
        if target.namespace is None:
            raise MethodNotAllowed("an object is created in a namespace, which the URL must have")
        if (metadata.get("namespace") or target.namespace) != target.namespace:
            raise BadRequest("the namespace of the object does not match the namespace on the URL")
        metadata["namespace"] = target.namespace
    return target.stored({**wire, "metadata": metadata})


def media_type(exchange: Exchange, default: str) -> str:
    """The media type of the request's body, without its parameters."""
    return str(exchange.headers.get("Content-Type", default)).split(";")[0].strip().lower()


def json_object(body: bytes) -> JsonObject:
    """The JSON object in a request body. Raises BadRequest."""
    return _an_object(json_value(body))


def yaml_object(body: bytes) -> JsonObject:
    """The YAML mapping in a request body. Raises BadRequest."""
    try:
        return _an_object(json.loads(body))  # YAML, too, and what clients mostly send; read a hundred times as fast
    except (ValueError, RecursionError):
        pass
    try:
        return _an_object(_plain(yaml.safe_load(body), itertools.count()))
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise BadRequest(f"the body is not YAML: {error}") from None


def _plain(value: Any, counter: Iterator[int]) -> Any:
    """YAML's values as JSON has them. Raises ValueError when references multiply them beyond what a body can say."""
    if next(counter) > _MOST_VALUES:
        raise ValueError(f"it stands for more than {_MOST_VALUES} values")
    if isinstance(value, dict):
        return {_key(name): _plain(inner, counter) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(entry, counter) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number in JSON")
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _key(name: Any) -> str:
    return name if isinstance(name, str) else json.dumps(name, default=str)


def json_value(body: bytes) -> Any:
    """The JSON in a request body (RFC 8259: no NaN, no infinity). Raises BadRequest."""
    try:
        return json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


_DECODERS: dict[str, Callable[[bytes], JsonObject]] = {
    JSON: json_object,
    YAML: yaml_object,
    PROTOBUF: protobuf_object,
}


def _an_object(decoded: Any) -> JsonObject:
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
