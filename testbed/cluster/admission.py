"""What the store of a cluster does with an object before it is written: complete it, or refuse it by ``Invalid``."""

from __future__ import annotations

from testbed.cluster.kinds import DEPLOYMENT, NAMESPACE, REPLICA_SET, Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.service_allocation import service_admission
from testbed.cluster.status import invalid
from testbed.cluster.store import Admission
from testbed.cluster.values import NetworkConfig
from testbed.cluster.workloads import workload_problems


def cluster_admission(config: NetworkConfig) -> Admission:
    """The hook for :class:`testbed.cluster.store.Store`, for a store that has no Services yet."""
    admit_service = service_admission(config)

    def admit(kind: Kind, old: JsonObject | None, new: JsonObject | None) -> None:
        admit_service(kind, old, new)
        if new is None:
            return
        if kind in (DEPLOYMENT, REPLICA_SET):
            problems = [(problem.field, str(problem)) for problem in workload_problems(new)]
            if problems:
                raise invalid(kind.name, f"{object_namespace(new)}/{object_name(new)}", problems)
            new["spec"].setdefault("replicas", 1)
        elif kind is NAMESPACE:
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = object_name(new)
            new.setdefault("status", {}).setdefault("phase", "Active")

    return admit
