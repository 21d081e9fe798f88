"""Manifest files: read, checked against Kubernetes' own schemas, and against what this testbed can run.

One file per kind says what is checked beyond the schema, and which fields the testbed acts on.
"""

from testbed.spec.manifests.effects import effect_warnings
from testbed.spec.manifests.manifest import Manifest, pod_template, replica_count
from testbed.spec.manifests.pod import unknown_images
from testbed.spec.manifests.reader import distinct_objects, read_manifests

__all__ = [
    "Manifest",
    "distinct_objects",
    "effect_warnings",
    "pod_template",
    "read_manifests",
    "replica_count",
    "unknown_images",
]
