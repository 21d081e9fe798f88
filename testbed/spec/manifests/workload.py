"""What Deployment and ReplicaSet have in common: a selector, a template and a number of pods."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.objects import JsonObject
from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import label_problems, selector_problems, subdomain_problems, within
from testbed.spec.manifests.pod import TEMPLATE_FIELDS, pod_spec_problems

FIELDS: Fields = object_fields(spec={"replicas": None, "selector": None, "template": TEMPLATE_FIELDS})

_MOST_REPLICAS = 1000


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Deployment or ReplicaSet."""
    yield from subdomain_problems(manifest)
    spec = manifest.spec
    yield from within(manifest, ("spec", "replicas"), spec.get("replicas"), 0, _MOST_REPLICAS)
    yield from selector_problems(manifest, ("spec", "selector"), spec["selector"])
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from label_problems(manifest, ("spec", "template", "metadata", "labels"), labels)
    if not selects(spec["selector"], labels):
        message = "does not have the labels that spec.selector asks for"
        yield manifest.problem(("spec", "template", "metadata", "labels"), message, labels)
    restart = (template.get("spec") or {}).get("restartPolicy")
    if restart not in (None, "Always"):
        yield manifest.problem(("spec", "template", "spec", "restartPolicy"), "must be Always", restart)
    yield from pod_spec_problems(manifest, ("spec", "template", "spec"), template.get("spec") or {})


def selects(selector: JsonObject, labels: JsonObject) -> bool:
    """Whether a selector of ``matchLabels`` and ``matchExpressions`` takes a pod with these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or ())


def _holds(expression: JsonObject, labels: JsonObject) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    present: bool = key in labels
    if operator in ("In", "NotIn"):
        return (present and labels[key] in values) is (operator == "In")
    return present is (operator == "Exists")
