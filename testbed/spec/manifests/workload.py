"""apps/v1 Deployment, ReplicaSet, StatefulSet and DaemonSet, and batch/v1 Job: a selector, a template and how many.

What their fields may say is the cluster's own to judge (:mod:`testbed.cluster.workload_rules`).
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.workload_rules import workload_problems
from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import label_problems, subdomain_problems
from testbed.spec.manifests.pod import TEMPLATE_FIELDS, pod_spec_problems

_TEMPLATE: Fields = {"selector": None, "template": TEMPLATE_FIELDS}
_SCALED: Fields = {**_TEMPLATE, **dict.fromkeys(("replicas", "minReadySeconds"))}
_ROLLING: Fields = dict.fromkeys(("type", "rollingUpdate"))
REPLICA_SET_FIELDS: Fields = object_fields(spec=_SCALED)
DEPLOYMENT_FIELDS: Fields = object_fields(
    spec={
        **_SCALED,
        **dict.fromkeys(("revisionHistoryLimit", "progressDeadlineSeconds", "paused")),
        "strategy": _ROLLING,
    }
)
STATEFUL_SET_FIELDS: Fields = object_fields(
    spec={
        **_SCALED,
        **dict.fromkeys(("serviceName", "podManagementPolicy", "revisionHistoryLimit", "ordinals")),
        "updateStrategy": {"type": None, "rollingUpdate": {"partition": None}},
        "volumeClaimTemplates": {**dict.fromkeys(("apiVersion", "kind", "status")), "metadata": None, "spec": None},
    }
)
DAEMON_SET_FIELDS: Fields = object_fields(
    spec={
        **_TEMPLATE,
        **dict.fromkeys(("minReadySeconds", "revisionHistoryLimit")),
        "updateStrategy": _ROLLING,
    }
)
JOB_FIELDS: Fields = object_fields(
    spec={
        **_TEMPLATE,
        **dict.fromkeys(("completions", "parallelism", "backoffLimit", "activeDeadlineSeconds", "completionMode")),
        **dict.fromkeys(("ttlSecondsAfterFinished", "suspend", "manualSelector")),
    }
)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A workload of any kind."""
    yield from subdomain_problems(manifest)
    spec = manifest.spec
    template = spec.get("template") or {}
    yield from map(manifest.refusal, workload_problems(manifest.object))
    selector = spec.get("selector") or {}
    yield from label_problems(manifest, ("spec", "selector", "matchLabels"), selector.get("matchLabels") or {})
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from label_problems(manifest, ("spec", "template", "metadata", "labels"), labels)
    if template.get("spec"):
        yield from pod_spec_problems(manifest, ("spec", "template", "spec"), _with_claims(manifest, template["spec"]))


def _with_claims(manifest: Manifest, pod_spec: dict[str, object]) -> dict[str, object]:
    """A template's spec with the volumes that a StatefulSet adds to it."""
    claims = manifest.spec.get("volumeClaimTemplates") if manifest.kind == "StatefulSet" else None
    names = [(claim.get("metadata") or {}).get("name") for claim in claims or ()]
    if not names:
        return pod_spec
    given = pod_spec.get("volumes")
    own = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names if name]
    return {**pod_spec, "volumes": [*(given if isinstance(given, list) else ()), *own]}
