"""apps/v1 Deployment and ReplicaSet: a selector, a template and a number of pods."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.workload_rules import workload_problems
from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import label_problems, subdomain_problems, within
from testbed.spec.manifests.pod import TEMPLATE_FIELDS, pod_spec_problems

_SCALED: Fields = {**dict.fromkeys(("replicas", "selector", "minReadySeconds")), "template": TEMPLATE_FIELDS}
REPLICA_SET_FIELDS: Fields = object_fields(spec=_SCALED)
DEPLOYMENT_FIELDS: Fields = object_fields(
    spec={**_SCALED, **dict.fromkeys(("strategy", "revisionHistoryLimit", "progressDeadlineSeconds", "paused"))}
)

_MOST_REPLICAS = 1000


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Deployment or ReplicaSet."""
    yield from subdomain_problems(manifest)
    spec = manifest.spec
    template = spec.get("template") or {}
    yield from map(manifest.refusal, workload_problems(manifest.object))
    if spec.get("replicas", 0) > _MOST_REPLICAS:
        yield from within(manifest, ("spec", "replicas"), spec["replicas"], 0, _MOST_REPLICAS)
    yield from label_problems(manifest, ("spec", "selector", "matchLabels"), spec["selector"].get("matchLabels") or {})
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from label_problems(manifest, ("spec", "template", "metadata", "labels"), labels)
    if template.get("spec"):
        yield from pod_spec_problems(manifest, ("spec", "template", "spec"), template["spec"])
