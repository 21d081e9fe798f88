"""NetworkPolicies, which are stored and not enforced: who relies on one must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.cluster.kinds import NETWORK_POLICY
from testbed.cluster.label_selectors import selects
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import labels_of


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each NetworkPolicy."""
    return judge(cluster.objects(NETWORK_POLICY), cluster.pods)


def judge(policies: Iterable[JsonObject], pods: Mapping[str, JsonObject]) -> list[Finding]:
    """From the policies and the pods by ``namespace/name``."""
    found = []
    for wire in policies:
        namespace, name = object_namespace(wire), object_name(wire)
        selector = wire["spec"].get("podSelector") or {}
        chosen = [
            pod for pod in pods.values() if object_namespace(pod) == namespace and selects(selector, labels_of(pod))
        ]
        what = f"NetworkPolicy {namespace}/{name} is stored and not enforced"
        evidence = f"it selects {len(chosen)} pods, and they accept every packet"
        remedy = f"do not rely on it; kubectl -n {namespace} delete networkpolicy {name} ends this finding"
        found.append(Finding("policy", "fault", what, evidence, remedy))
    return found or [Finding("policy", "ok", "no NetworkPolicies (which would not be enforced)")]
