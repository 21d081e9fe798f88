"""ControllerRevisions: the templates that a StatefulSet or DaemonSet had, for updates in part and for going back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from testbed.cluster.kinds import CONTROLLER_REVISION
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.ownership import controller_reference
from testbed.cluster.pod_facts import annotations_of, is_terminating, labels_of
from testbed.cluster.templates import REVISION_HASH_LABEL, template_hash

_DEFAULT_HISTORY = 10


def revision_object(owner: JsonObject, number: int) -> JsonObject:
    """The revision of a workload's template as it is; its ``data`` is the patch that brings the template back."""
    digest, template = template_hash(owner), owner["spec"]["template"]
    metadata: JsonObject = {
        "name": f"{object_name(owner)}-{digest}",
        "namespace": object_namespace(owner),
        "labels": {**((template.get("metadata") or {}).get("labels") or {}), REVISION_HASH_LABEL: digest},
        "ownerReferences": [controller_reference(owner)],
    }
    kept = {k: v for k, v in annotations_of(owner).items() if k != "kubectl.kubernetes.io/last-applied-configuration"}
    if kept:
        metadata["annotations"] = kept
    return {
        "apiVersion": CONTROLLER_REVISION.api_version,
        "kind": CONTROLLER_REVISION.name,
        "metadata": metadata,
        "revision": number,
        "data": {"spec": {"template": {**template, "$patch": "replace"}}},
    }


class Update(NamedTuple):
    """The revision that a workload's pods are to have, and what has to be written for it."""

    revision: JsonObject
    create: bool = False
    renumber: int | None = None


def update_revision(owner: JsonObject, revisions: Sequence[JsonObject]) -> Update:
    """The revision of the template as it is; one that there was before becomes the newest again."""
    digest = template_hash(owner)
    highest = max((number_of(wire) for wire in revisions), default=0)
    for wire in revisions:
        if labels_of(wire).get(REVISION_HASH_LABEL) == digest:
            return Update(wire, renumber=None if number_of(wire) == highest else highest + 1)
    return Update(revision_object(owner, highest + 1), create=True)


def number_of(revision: JsonObject) -> int:
    """A revision's number."""
    return int(revision.get("revision") or 0)


def template_of(revision: JsonObject) -> JsonObject:
    """The template that a revision keeps."""
    template = revision["data"]["spec"]["template"]
    return {name: value for name, value in template.items() if name != "$patch"}


def surplus(owner: JsonObject, revisions: Iterable[JsonObject], used: Collection[str]) -> list[JsonObject]:
    """Revisions that no pod has, beyond ``revisionHistoryLimit``, the oldest first; ``used`` are the names in use."""
    kept = owner["spec"].get("revisionHistoryLimit")
    kept = _DEFAULT_HISTORY if kept is None else int(kept)
    unused = [wire for wire in revisions if object_name(wire) not in used and not is_terminating(wire)]
    unused.sort(key=number_of)
    return unused[: max(0, len(unused) - kept)]
