"""The workloads that benchmarks scale."""

from __future__ import annotations

from testbed.cluster.objects import JsonObject


def deployment(name: str, image: str, replicas: int) -> JsonObject:
    """A Deployment whose pods have the label ``app`` with its name, and one container."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }
