"""policy/v1 PodDisruptionBudget: how many pods evictions leave."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.disruption_budgets import budget_problems
from testbed.errors import Problem
from testbed.spec.manifests.fields import object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import label_problems, subdomain_problems

FIELDS = object_fields(spec=dict.fromkeys(("minAvailable", "maxUnavailable", "selector", "unhealthyPodEvictionPolicy")))


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A PodDisruptionBudget."""
    yield from subdomain_problems(manifest)
    yield from map(manifest.refusal, budget_problems(manifest.object))
    labels = (manifest.spec.get("selector") or {}).get("matchLabels") or {}
    yield from label_problems(manifest, ("spec", "selector", "matchLabels"), labels)
