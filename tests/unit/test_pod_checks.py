"""Which volumes a container may mount: the pod's own, and in a StatefulSet those of its claims."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.apiserver.pod_checks import pod_problems
from testbed.cluster.kinds import DEPLOYMENT, POD, STATEFUL_SET

MOUNTING = {"containers": [{"name": "c", "image": "redis", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}
CLAIMS = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]


def test_a_stateful_sets_claims_are_volumes_of_its_pods() -> None:
    wire = {"spec": {"template": {"spec": MOUNTING}, "volumeClaimTemplates": CLAIMS}}
    assert list(pod_problems(STATEFUL_SET, wire)) == []


@pytest.mark.parametrize("kind", [STATEFUL_SET, DEPLOYMENT])
def test_a_volume_that_is_not_there_cannot_be_mounted(kind: Any) -> None:
    field = "spec.template.spec.containers[0].volumeMounts[0].name"
    wire = {"spec": {"template": {"spec": MOUNTING}}}
    assert list(pod_problems(kind, wire)) == [(field, "there is no volume 'data'")]


def test_a_pods_own_volumes() -> None:
    assert list(pod_problems(POD, {"spec": {**MOUNTING, "volumes": [{"name": "data", "emptyDir": {}}]}})) == []
