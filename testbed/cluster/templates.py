"""Pod templates: what tells two of them apart, and the pods that are made from them."""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable, Mapping
from typing import Any

from testbed.cluster.defaulting import set_defaults
from testbed.cluster.endpoint_slices import safe_digest
from testbed.cluster.kinds import POD
from testbed.cluster.objects import JsonObject, object_namespace
from testbed.cluster.ownership import controller_reference

TEMPLATE_HASH_LABEL = "pod-template-hash"
REVISION_HASH_LABEL = "controller-revision-hash"
_HASH_LENGTH, _SUFFIX_LENGTH = 10, 5


def template_hash(workload: JsonObject) -> str:
    """What tells the revisions of a workload's template apart.

    Fields that are null or empty count as not there, and defaults as there: typed clients (kubectl's ``rollout undo``)
    write some of these, and whoever does not come by way of the API leaves others out.
    """
    template: JsonObject = marshal.loads(marshal.dumps(workload["spec"]["template"]))
    set_defaults(POD, template)
    return safe_digest(json.dumps(_canonical(template), sort_keys=True), _HASH_LENGTH)


def template_pod(owner: JsonObject, template: JsonObject, name: str, labels: Mapping[str, str] | None) -> JsonObject:
    """A pod of a workload, from a template and with additional ``labels``."""
    metadata = template.get("metadata") or {}
    own: JsonObject = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    if labels:
        own["labels"] = {**(metadata.get("labels") or {}), **labels}
    references = [controller_reference(owner)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**own, "name": name, "namespace": object_namespace(owner), "ownerReferences": references},
        "spec": template["spec"],
    }


def new_names(base: str, count: int, is_taken: Callable[[str], bool] = lambda name: False) -> list[str]:
    """The first ``count`` names of the form ``BASE-xxxxx`` that are free.

    Kubernetes draws the five characters; here they are derived, so that equal input gives an equal cluster.
    """
    names: dict[str, None] = {}
    number = 0
    while len(names) < count:
        name = f"{base}-{safe_digest(f'{base} {number}', _SUFFIX_LENGTH)}"
        number += 1
        if not is_taken(name):
            names[name] = None
    return list(names)


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: kept for name, item in value.items() if (kept := _canonical(item)) not in (None, {}, [])}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value
