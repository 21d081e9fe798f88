"""networking.k8s.io/v1 NetworkPolicy: checked and stored; enforced in a later version."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from testbed.cluster.label_selectors import OPERATORS, expression_problems
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import IPNetwork
from testbed.errors import Problem
from testbed.spec.manifests.fields import object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import label_problems, one_of, subdomain_problems
from testbed.spec.manifests.ports import protocol_problems
from testbed.spec.overrides import parse_field
from testbed.spec.source import FieldPath

# The spec has no effect yet, and a warning for each policy says so better than one for each of its fields.
FIELDS = object_fields(spec=None)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A NetworkPolicy."""
    yield from subdomain_problems(manifest)
    spec = manifest.spec
    yield from _selector_problems(manifest, ("spec", "podSelector"), spec.get("podSelector") or {})
    for index, name in enumerate(spec.get("policyTypes") or ()):
        yield from one_of(manifest, ("spec", "policyTypes", index), name, ("Ingress", "Egress"))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            here: FieldPath = ("spec", direction, index)
            for number, peer in enumerate(rule.get(side) or ()):
                yield from _peer_problems(manifest, (*here, side, number), peer)
            for number, entry in enumerate(rule.get("ports") or ()):
                yield from _port_problems(manifest, (*here, "ports", number), entry)


def _peer_problems(manifest: Manifest, path: FieldPath, peer: JsonObject) -> Iterator[Problem]:
    block = peer.get("ipBlock")
    if block is not None and ("podSelector" in peer or "namespaceSelector" in peer):
        yield manifest.problem((*path, "ipBlock"), "cannot stand beside a selector")
    if block is None and "podSelector" not in peer and "namespaceSelector" not in peer:
        yield manifest.problem(path, "needs a podSelector, a namespaceSelector or an ipBlock")
    for name in ("podSelector", "namespaceSelector"):
        yield from _selector_problems(manifest, (*path, name), peer.get(name) or {})
    if block is None:
        return
    whole = _network(block.get("cidr"))
    if whole is None:
        where: FieldPath = (*path, "ipBlock", "cidr")
        yield manifest.problem(where, "is not a network", block.get("cidr") or "nothing", "such as 10.0.0.0/8")
    for number, text in enumerate(block.get("except") or ()):
        where = (*path, "ipBlock", "except", number)
        part = _network(text)
        if part is None:
            yield manifest.problem(where, "is not a network", text, "such as 10.1.0.0/16")
        elif whole is not None and not _is_smaller_part(part, whole):
            yield manifest.problem(where, "is not a smaller part of cidr", text, str(whole))


def _network(text: str | None) -> IPNetwork | None:
    try:
        return ip_network(text or "")
    except ValueError:
        return None


def _is_smaller_part(part: IPNetwork, whole: IPNetwork) -> bool:
    first, last = part.network_address, part.broadcast_address
    return part != whole and first in whole and last in whole


def _port_problems(manifest: Manifest, path: FieldPath, entry: JsonObject) -> Iterator[Problem]:
    yield from protocol_problems(manifest, path, entry)
    port, end = entry.get("port"), entry.get("endPort")
    if isinstance(port, int) and not 1 <= port <= 65535:
        yield manifest.problem((*path, "port"), "is out of range", port, "from 1 to 65535")
    if end is not None and (not isinstance(port, int) or not port <= end <= 65535):
        yield manifest.problem((*path, "endPort"), "must not be below port, which is a number", end)


def _selector_problems(manifest: Manifest, path: FieldPath, selector: JsonObject) -> Iterator[Problem]:
    yield from label_problems(manifest, (*path, "matchLabels"), selector.get("matchLabels") or {})
    for found in expression_problems(selector.get("matchExpressions") or [], "matchExpressions", OPERATORS):
        yield manifest.problem((*path, *parse_field(found.field)), found.reason, found.value or None, found.allowed)
