"""Names, namespaces, labels and label selectors: what the API server asks of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

from testbed.cluster.objects import is_valid_name
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_LABEL, DNS_LABEL_FORM, DNS_SUBDOMAIN_FORM
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import FieldPath

# RFC 1035 label: what a Service is called, because it becomes a DNS name.
DNS_1035_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
DNS_1035_LABEL_FORM = "at most 63 of a-z, 0-9 and -, beginning with a letter and ending with a letter or digit"

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"(?:([^/]*)/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def metadata_problems(manifest: Manifest, is_name: Callable[[str], object], form: str) -> Iterator[Problem]:
    """The object's name (``is_name`` says whether it may have it, ``form`` what is asked), namespace and labels."""
    metadata = manifest.object.get("metadata") or {}
    name, namespace = metadata.get("name"), metadata.get("namespace") or "default"
    if name is None:
        yield manifest.problem(("metadata", "name"), "is required")
    elif not is_name(name):
        yield manifest.problem(("metadata", "name"), f"is not a name for {_a(manifest.kind)}", name, form)
    if not DNS_LABEL.fullmatch(namespace):
        yield manifest.problem(("metadata", "namespace"), "is not a name for a namespace", namespace, DNS_LABEL_FORM)
    yield from label_problems(manifest, ("metadata", "labels"), metadata.get("labels") or {})


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "AEIOU" else f"a {kind}"


def is_dns_label(name: str) -> bool:
    return DNS_LABEL.fullmatch(name) is not None


def is_dns_1035_label(name: str) -> bool:
    return DNS_1035_LABEL.fullmatch(name) is not None


def subdomain_problems(manifest: Manifest) -> Iterator[Problem]:
    """The metadata of a kind whose names are DNS subdomains, as most are."""
    yield from metadata_problems(manifest, is_valid_name, DNS_SUBDOMAIN_FORM)


def label_problems(manifest: Manifest, path: FieldPath, labels: Mapping[str, str]) -> Iterator[Problem]:
    """Labels, or the labels that a selector asks for."""
    for key, value in labels.items():
        match = _LABEL_KEY.fullmatch(key)
        if match is None or (match.group(1) is not None and not is_valid_name(match.group(1))):
            yield manifest.problem((*path, key), "is not a label's name", key)
        if not _LABEL_VALUE.fullmatch(value or ""):
            allowed = "at most 63 of letters, digits, -, _ and ., beginning and ending with a letter or digit"
            yield manifest.problem((*path, key), "is not a label's value", value, allowed)


def one_of(manifest: Manifest, path: FieldPath, value: Any, known: tuple[str, ...]) -> Iterator[Problem]:
    """A text that must be one of a few; None is a field that is not there."""
    if value is not None and value not in known:
        yield manifest.problem(path, f"is not one of the values{suggestion(value, known)}", value, names_text(known))


def within(manifest: Manifest, path: FieldPath, value: int | None, low: int, high: int) -> Iterator[Problem]:
    """A whole number that must lie in a range; None is a field that is not there."""
    if value is not None and not low <= value <= high:
        yield manifest.problem(path, "is out of range", value, f"from {low} to {high}")


def ipv4_problems(manifest: Manifest, path: FieldPath, address: str) -> Iterator[Problem]:
    """An address that must be IPv4."""
    try:
        IPv4Address(address)
    except ValueError:
        yield manifest.problem(path, "is not an IPv4 address", address)
