"""Waiting until the bridges carry a change: the controller says what they have confirmed, the writer waits for it.

The controller keeps the ConfigMap ``kube-system/controller-status``: one entry a node, with the versions *of each kind*
that the node's bridge has confirmed by barrier, as ``ConfigMap=7 Node=4 Pod=1003``; beside it ``<node>.error`` says
what is wrong with the bridge, while something is. One number for all kinds would not
do: every kind is watched on a stream of its own, so version 10 of one may arrive before version 9 of another (which is
why Kubernetes, too, lets versions be compared only within a kind).
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
    """Some bridges did not confirm a change in time; ``nodes`` are their names, ``errors`` what the controller says."""

    def __init__(self, nodes: Iterable[str], errors: Mapping[str, str], timeout_s: float) -> None:
        self.nodes, self.errors = tuple(nodes), dict(errors)
        reported = "; ".join(f"{name}: {error}" for name, error in sorted(self.errors.items()))
        super().__init__(
            f"no confirmation within {timeout_s:g} s from the bridges of {', '.join(self.nodes)}: "
            + (reported or "is the controller running and connected?")
        )


def versions_text(versions: Mapping[str, int]) -> str:
    """Kind names and versions as the status entry of a node: ``ConfigMap=7 Node=4 Pod=1003``."""
    return " ".join(f"{kind}={version}" for kind, version in sorted(versions.items()))


def parse_versions(text: str) -> dict[str, int]:
    """The inverse of :func:`versions_text`. Raises ValueError."""
    return {kind: int(version) for kind, version in (entry.split("=") for entry in text.split())}


def wait_confirmed(store: Store, nodes: Iterable[str], changed: Iterable[JsonObject], timeout_s: float) -> None:
    """Wait until the bridges of all ``nodes`` have confirmed the flows of all ``changed`` objects.

    ``changed`` are objects as the store returned them from create, replace, patch or delete. Raises NotConfirmed.
    """
    wanted: dict[str, int] = {}
    for wire in changed:
        wanted[wire["kind"]] = max(wanted.get(wire["kind"], 0), resource_version(wire))
    names = list(nodes)
    deadline = time.monotonic() + timeout_s
    with store.watch(CONFIG_MAP, matches=_is_status) as watch:
        status: Mapping[str, str]
        try:
            status = store.get(CONFIG_MAP, identity.STATUS_NAME, identity.STATUS_NAMESPACE).get("data", {})
        except NotFound:
            status = {}
        while missing := [name for name in names if not _covers(status.get(name, ""), wanted)]:
            events = watch.next(max(0.0, deadline - time.monotonic()))
            if not events:
                errors = {name: status[f"{name}.error"] for name in missing if f"{name}.error" in status}
                raise NotConfirmed(missing, errors, timeout_s)
            status = events[-1].object.get("data", {})


def _covers(entry: str, wanted: Mapping[str, int]) -> bool:
    confirmed = parse_versions(entry)
    return all(confirmed.get(kind, 0) >= version for kind, version in wanted.items())


def _is_status(wire: JsonObject) -> bool:
    metadata = wire["metadata"]
    return bool(metadata["name"] == identity.STATUS_NAME and metadata["namespace"] == identity.STATUS_NAMESPACE)
