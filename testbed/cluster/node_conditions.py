"""What a Node's status says of its kubelet, in the words of Kubernetes
(k8s.io/kubernetes/pkg/kubelet/nodestatus and pkg/controller/nodelifecycle)."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.cluster.conditions import with_condition
from testbed.cluster.objects import JsonObject
from testbed.cluster.timestamps import timestamp

_HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)
_KUBELETS = tuple(said[0] for said in _HEALTHY)
_SILENT = "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."


def reported_conditions(there: Iterable[JsonObject], now_s: float) -> list[JsonObject]:
    """A Node's conditions as its kubelet posts them at a moment in seconds since the epoch; those of others stay."""
    conditions = list(there)
    for said in _HEALTHY:
        conditions = with_condition(conditions, *said, now_s)
    heard = {"lastHeartbeatTime": timestamp(now_s)}
    return [{**entry, **heard} if entry["type"] in _KUBELETS else entry for entry in conditions]


def missed_conditions(there: Iterable[JsonObject], now_s: float) -> list[JsonObject]:
    """The same when the kubelet has posted nothing for too long; when it was heard last, stays."""
    before = {entry["type"]: entry for entry in there}
    conditions = list(before.values())
    for name in _KUBELETS:
        conditions = with_condition(conditions, name, *_SILENT, now_s)
    heard = {name: entry["lastHeartbeatTime"] for name, entry in before.items() if "lastHeartbeatTime" in entry}
    return [
        {**entry, "lastHeartbeatTime": heard[entry["type"]]} if entry["type"] in heard else entry
        for entry in conditions
    ]
