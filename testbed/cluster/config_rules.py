"""ConfigMaps and Secrets: what the API server refuses (core/v1)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.objects import JsonObject

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_KEY_FORM = "letters, digits, -, _ and ."
_MOST_BYTES = 1 << 20

# https://kubernetes.io/docs/concepts/configuration/secret/#secret-types
_REQUIRED = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def config_problems(wire: JsonObject) -> Iterator[FieldProblem]:
    """What is wrong with a ConfigMap or Secret."""
    encoded = "data" if wire["kind"] == "Secret" else "binaryData"
    size = 0
    for part in ("data", "binaryData", "stringData"):
        entries = wire.get(part)
        if entries is None:
            continue
        if not isinstance(entries, dict):
            yield FieldProblem(part, "must be a mapping")
            continue
        for name, text in entries.items():
            if not _KEY.fullmatch(str(name)) or name in (".", ".."):
                yield FieldProblem(part, f'"{name}" is not a key', str(name), _KEY_FORM)
            if not isinstance(text, str):
                yield FieldProblem(part, f'"{name}" must be text', str(text))
                continue
            size += len(text)
            if part == encoded and not _is_base64(text):
                yield FieldProblem(part, f'"{name}" is not base64', text[:40])
    if size > _MOST_BYTES:
        yield FieldProblem("data", "is too large", str(size), f"at most {_MOST_BYTES} bytes")
    given = {**(wire.get("data") or {}), **(wire.get("stringData") or {})} if wire["kind"] == "Secret" else {}
    for name in _REQUIRED.get(str(wire.get("type")), ()):
        if name not in given:
            yield FieldProblem("data", f'"{name}" is required in a Secret of the type {wire["type"]}')


def config_change_problems(new: JsonObject, old: JsonObject) -> Iterator[FieldProblem]:
    """What cannot be changed of a ConfigMap or Secret that is there."""
    if new.get("type") != old.get("type"):
        yield FieldProblem("type", "cannot be changed", str(new.get("type")))
    if old.get("immutable") is not True:
        return
    if new.get("immutable") is not True:
        yield FieldProblem("immutable", "cannot be unset when `immutable` is set")
    for part in ("data", "binaryData"):
        if (new.get(part) or {}) != (old.get(part) or {}):
            yield FieldProblem(part, "cannot be changed when `immutable` is set")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
