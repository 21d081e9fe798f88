"""DELETE: of one object, and of a whole collection."""

from __future__ import annotations

from typing import NamedTuple

from testbed.apiserver.answers import success
from testbed.apiserver.bodies import body_object
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target
from testbed.apiserver.writing import dry_run
from testbed.cluster.kinds import NAMESPACE, POD, SERVICE
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.status import BadRequest, Conflict, NotFound
from testbed.cluster.store import Store

_POLICIES = ("", "Background", "Foreground", "Orphan")
# What a DELETE of these kinds answers is the object, of all others a Status.
_ANSWERED_WHOLE = (POD, SERVICE, NAMESPACE)


class Options(NamedTuple):
    """What a DELETE says in its query and body (meta/v1 DeleteOptions)."""

    grace_period_s: int | None
    policy: str
    """``Background``, ``Foreground`` or ``Orphan``; empty for the kind's own, which is ``Background``."""
    preconditions: dict[str, str]
    dry_run: bool


def read_options(exchange: Exchange, body: JsonObject) -> Options:
    """The options of a request. Raises BadRequest."""
    query = exchange.query
    policy = query.text("propagationPolicy") or body.get("propagationPolicy") or ""
    if policy not in _POLICIES:
        raise BadRequest(f"propagationPolicy {policy!r} is none of {', '.join(_POLICIES[1:])}")
    orphans = query.flag("orphanDependents") or body.get("orphanDependents") is True
    preconditions = body.get("preconditions") or {}
    if not isinstance(preconditions, dict) or not all(isinstance(text, str) for text in preconditions.values()):
        raise BadRequest("preconditions must map uid and resourceVersion to text")
    wanted = {name: preconditions[name] for name in ("uid", "resourceVersion") if name in preconditions}
    is_dry = dry_run(exchange)
    if body.get("dryRun"):
        if body["dryRun"] != ["All"]:
            raise BadRequest(f"dryRun {body['dryRun']!r} is not supported; use All")
        is_dry = True
    return Options(_grace_period_s(exchange, body), "Orphan" if orphans else policy, wanted, is_dry)


def _grace_period_s(exchange: Exchange, body: JsonObject) -> int | None:
    asked = exchange.query.number("gracePeriodSeconds")
    wanted = body.get("gracePeriodSeconds") if asked is None else asked
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0):
        raise BadRequest(f"gracePeriodSeconds is no whole number: {wanted!r}")
    return wanted


def delete(exchange: Exchange, store: Store, target: Target) -> JsonObject:
    """Delete one object; what to answer."""
    options = read_options(exchange, body_object(exchange) if exchange.body else {})
    return delete_one(store, target, options)


def delete_one(store: Store, target: Target, options: Options) -> JsonObject:
    """Delete an object as the options say; what to answer."""
    wire = store.delete(
        target.kind,
        *target.where,
        options.grace_period_s,
        orphan=options.policy == "Orphan",
        foreground=options.policy == "Foreground",
        preconditions=options.preconditions,
        dry_run=options.dry_run,
    )
    return target.shown(wire) if target.kind in _ANSWERED_WHOLE else success(200, target, wire)


def delete_collection(exchange: Exchange, store: Store, target: Target, items: list[JsonObject]) -> None:
    """Delete objects; what has gone or changed meanwhile is passed over."""
    options = read_options(exchange, body_object(exchange) if exchange.body else {})
    for wire in items:
        namespace = object_namespace(wire) if target.kind.namespaced else None
        try:
            delete_one(store, target._replace(name=object_name(wire), namespace=namespace), options)
        except (NotFound, Conflict):
            continue
