"""What the store of a cluster does with an object before it is written: complete it, or refuse it by ``Invalid``."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster import identity
from testbed.cluster.config_rules import config_change_problems, config_problems
from testbed.cluster.cron_jobs import cron_job_problems, job_template
from testbed.cluster.defaulting import set_default_requests, set_defaults
from testbed.cluster.disruption_budgets import budget_problems
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.ingress.default_class import default_class_admission
from testbed.cluster.jobs import JOB_UID_LABELS
from testbed.cluster.kinds import CONFIG_MAP, CRON_JOB, NAMESPACE, POD, POD_DISRUPTION_BUDGET, SECRET, Kind
from testbed.cluster.namespace_lifecycle import CONTENT_FINALIZER
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.ownership import controller
from testbed.cluster.pod_facts import is_terminating
from testbed.cluster.service_allocation import service_admission
from testbed.cluster.status import invalid
from testbed.cluster.store import Admission
from testbed.cluster.values import NetworkConfig
from testbed.cluster.workload_rules import (
    WORKLOADS,
    change_problems,
    job_labels,
    set_workload_defaults,
    workload_problems,
)

_POD_ANNOTATIONS = (identity.POD_MAC, identity.POD_INTERFACE, identity.POD_OF_PORT)
_POD_ADDRESSES = ("hostIP", "podIP", "podIPs")


def cluster_admission(config: NetworkConfig) -> Admission:
    """The hook for :class:`testbed.cluster.store.Store`, for a store that has no Services yet."""
    admit_service, admit_ingress = service_admission(config), default_class_admission()

    def admit(kind: Kind, old: JsonObject | None, new: JsonObject | None) -> None:
        admit_service(kind, old, new)
        admit_ingress(kind, old, new)
        if new is None:
            return
        try:
            problems = check(kind, old, new)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # Whoever writes past the API is not checked by a schema.
            problems = [FieldProblem("", f"is not what Kubernetes' schema asks: {error!r}")]
        if problems:
            causes = [(problem.field, str(problem)) for problem in problems]
            raise invalid(kind.name, f"{object_namespace(new)}/{object_name(new)}", causes)

    def check(kind: Kind, old: JsonObject | None, new: JsonObject) -> list[FieldProblem]:
        problems: list[FieldProblem] = []
        if kind.name in WORKLOADS:
            set_workload_defaults(new)
            problems = [*workload_problems(new), *(change_problems(new, old) if old is not None else ())]
        elif kind in (CONFIG_MAP, SECRET):
            set_defaults(kind, new)
            problems = [*config_problems(new), *(config_change_problems(new, old) if old is not None else ())]
        elif kind is POD and old is not None:
            _keep_what_a_pod_has(new, old)
            set_default_requests(new)
            problems = list(_pod_problems(new, old))
        elif kind is POD:
            _label_as_its_jobs(new)
            set_default_requests(new)
        elif kind is CRON_JOB:
            set_defaults(kind, new)
            problems = [*cron_job_problems(new), *_job_template_problems(new)]
        elif kind is POD_DISRUPTION_BUDGET:
            problems = list(budget_problems(new))
        elif kind is NAMESPACE:
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = object_name(new)
            new.setdefault("status", {}).setdefault("phase", "Active")
            if not is_terminating(new):
                new.setdefault("spec", {})["finalizers"] = [CONTENT_FINALIZER]
        return problems

    return admit


def _job_template_problems(cron_job: JsonObject) -> Iterator[FieldProblem]:
    """What is wrong with the Job that it would make."""
    wire = job_template(cron_job)
    set_workload_defaults(wire)
    for problem in workload_problems(wire):
        yield problem._replace(field=f"spec.jobTemplate.{problem.field}")


def _label_as_its_jobs(pod: JsonObject) -> None:
    """A Job's pod that was planned before the Job had a uid carries it, too, or it would not be the Job's."""
    owner = controller(pod)
    if owner is not None and owner[0] == "Job" and owner[1]:
        labels = pod["metadata"].setdefault("labels", {})
        if JOB_UID_LABELS[1] not in labels and (name := labels.get("job-name")):
            labels.update(job_labels(name, owner[1]))


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
