"""What the store of a cluster does with an object before it is written: complete it, or refuse it by ``Invalid``."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster import identity
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.kinds import DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.service_allocation import service_admission
from testbed.cluster.status import invalid
from testbed.cluster.store import Admission
from testbed.cluster.values import NetworkConfig
from testbed.cluster.workloads import workload_problems

_POD_ANNOTATIONS = (identity.POD_MAC, identity.POD_INTERFACE, identity.POD_OF_PORT)
_POD_ADDRESSES = ("hostIP", "podIP", "podIPs")


def cluster_admission(config: NetworkConfig) -> Admission:
    """The hook for :class:`testbed.cluster.store.Store`, for a store that has no Services yet."""
    admit_service = service_admission(config)

    def admit(kind: Kind, old: JsonObject | None, new: JsonObject | None) -> None:
        admit_service(kind, old, new)
        if new is None:
            return
        problems: list[FieldProblem] = []
        if kind in (DEPLOYMENT, REPLICA_SET):
            problems = [*workload_problems(new), *_selector_problems(new, old)]
            new.setdefault("spec", {}).setdefault("replicas", 1)
        elif kind is POD and old is not None:
            _keep_what_a_pod_has(new, old)
            problems = list(_pod_problems(new, old))
        elif kind is NAMESPACE:
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = object_name(new)
            new.setdefault("status", {}).setdefault("phase", "Active")
        if problems:
            causes = [(problem.field, str(problem)) for problem in problems]
            raise invalid(kind.name, f"{object_namespace(new)}/{object_name(new)}", causes)

    return admit


def _selector_problems(new: JsonObject, old: JsonObject | None) -> Iterator[FieldProblem]:
    """What decides whose the pods are cannot be changed (apps/v1)."""
    if old is not None and new.get("spec", {}).get("selector") != old["spec"].get("selector"):
        yield FieldProblem("spec.selector", "cannot be changed")


def _keep_what_a_pod_has(new: JsonObject, old: JsonObject) -> None:
    """A Pod that is put again as a person wrote it keeps its node, its attachment and its addresses."""
    annotations, status = old["metadata"].get("annotations") or {}, old.get("status") or {}
    if kept := {name: annotations[name] for name in _POD_ANNOTATIONS if name in annotations}:
        new["metadata"]["annotations"] = {**kept, **(new["metadata"].get("annotations") or {})}
    if kept := {name: status[name] for name in _POD_ADDRESSES if name in status}:
        new["status"] = {**kept, **(new.get("status") or {})}
    if node_name := (old.get("spec") or {}).get("nodeName"):
        new.setdefault("spec", {}).setdefault("nodeName", node_name)


def _pod_problems(new: JsonObject, old: JsonObject) -> Iterator[FieldProblem]:
    """A Pod stays where it is, and on the network on which it is."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    before = was.get("nodeName")
    if before and spec.get("nodeName") != before:
        yield FieldProblem("spec.nodeName", f"cannot be changed from {before}", str(spec.get("nodeName")))
    if (spec.get("hostNetwork") is True) != (was.get("hostNetwork") is True):
        yield FieldProblem("spec.hostNetwork", "cannot be changed")
