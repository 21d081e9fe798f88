"""Waiting until the bridges carry a change: the controller says what they have confirmed, the writer waits for it.

The controller keeps the ConfigMap ``kube-system/controller-status``: one entry a node, with the versions *of each kind*
that the node's bridge has confirmed by barrier, as ``ConfigMap=7 Node=4 Pod=1003``; beside it ``<node>.error`` says
what is wrong with the bridge, while something is. One number for all kinds would not
do: every kind is watched on a stream of its own, so version 10 of one may arrive before version 9 of another (which is
why Kubernetes, too, lets versions be compared only within a kind).

The kernels' Service proxies keep ``proxy-status`` beside it, in the same form: what each node's rules carry.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from testbed.cluster import identity
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import JsonObject, resource_version
from testbed.cluster.status import NotFound
from testbed.cluster.store import Store
from testbed.errors import RunError


class NotConfirmed(RunError):
    """Some nodes did not confirm a change in time; ``nodes`` are their names, ``errors`` what is said about them."""

    def __init__(self, nodes: Iterable[str], errors: Mapping[str, str], timeout_s: float, status_name: str) -> None:
        self.nodes, self.errors = tuple(nodes), dict(errors)
        reported = "; ".join(f"{name}: {error}" for name, error in sorted(self.errors.items()))
        what, who = _REPORTERS.get(status_name, (status_name, "whatever writes it"))
        super().__init__(
            f"no confirmation within {timeout_s:g} s from the {what} of {', '.join(self.nodes)}: "
            + (reported or f"is {who} running and connected?")
        )


# What confirms on each node, and which process says so.
_REPORTERS = {
    identity.STATUS_NAME: ("bridges", "the controller"),
    identity.PROXY_STATUS_NAME: ("proxy rules", "the Service proxy"),
}


def versions_text(versions: Mapping[str, int]) -> str:
    """Kind names and versions as the status entry of a node: ``ConfigMap=7 Node=4 Pod=1003``."""
    return " ".join(f"{kind}={version}" for kind, version in sorted(versions.items()))


def parse_versions(text: str) -> dict[str, int]:
    """The inverse of :func:`versions_text`. Raises ValueError."""
    return {kind: int(version) for kind, version in (entry.split("=") for entry in text.split())}


def wait_confirmed(
    store: Store,
    nodes: Iterable[str],
    changed: Iterable[JsonObject],
    timeout_s: float,
    status_name: str = identity.STATUS_NAME,
) -> None:
    """Wait until all ``nodes`` have confirmed all ``changed`` objects: their bridges' flows, or their proxies' rules.

    ``changed`` are objects as the store returned them from create, replace, patch or delete; ``status_name`` is
    ``controller-status`` or ``proxy-status``. Raises NotConfirmed.
    """
    wanted: dict[str, int] = {}
    for wire in changed:
        wanted[wire["kind"]] = max(wanted.get(wire["kind"], 0), resource_version(wire))
    wait_versions(store, nodes, wanted, timeout_s, status_name)


def wait_versions(
    store: Store,
    nodes: Iterable[str],
    wanted: Mapping[str, int],
    timeout_s: float,
    status_name: str = identity.STATUS_NAME,
) -> None:
    """The same, for versions by the name of their kind."""
    names = list(nodes)
    deadline = time.monotonic() + timeout_s

    def is_status(wire: JsonObject) -> bool:
        metadata = wire["metadata"]
        return bool(metadata["name"] == status_name and metadata["namespace"] == identity.STATUS_NAMESPACE)

    with store.watch(CONFIG_MAP, matches=is_status) as watch:
        status: Mapping[str, str]
        try:
            status = store.get(CONFIG_MAP, status_name, identity.STATUS_NAMESPACE).get("data", {})
        except NotFound:
            status = {}
        while missing := [name for name in names if not _covers(status.get(name, ""), wanted)]:
            events = watch.next(max(0.0, deadline - time.monotonic()))
            if not events:
                errors = {name: status[f"{name}.error"] for name in missing if f"{name}.error" in status}
                raise NotConfirmed(missing, errors, timeout_s, status_name)
            status = events[-1].object.get("data", {})


def _covers(entry: str, wanted: Mapping[str, int]) -> bool:
    confirmed = parse_versions(entry)
    return all(confirmed.get(kind, 0) >= version for kind, version in wanted.items())
