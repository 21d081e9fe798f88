"""One object of a manifest file, and the questions every check asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.jobs import wanted_now
from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject, object_name, object_namespace
from testbed.cluster.services import SERVICE_NAME_LABEL
from testbed.cluster.workload_rules import WORKLOADS
from testbed.errors import Problem
from testbed.spec.overrides import parse_field
from testbed.spec.source import Document, FieldPath


@dataclass(frozen=True)
class Manifest:
    """One object of a manifest file: where it stands and what it says. ``object`` is not to be changed."""

    file: Path
    line: int
    object: JsonObject
    document: Document = field(repr=False, compare=False)
    path: FieldPath = ()

    @property
    def kind(self) -> str:
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        return object_name(self.object)

    @property
    def namespace(self) -> str:
        return object_namespace(self.object)

    @property
    def spec(self) -> JsonObject:
        """The object's spec; empty where it has none."""
        return self.object.get("spec") or {}

    @property
    def owner(self) -> tuple[str, str] | None:
        """Namespace and name ("" without one) of the Service whose endpoints the object lists; None for other kinds."""
        if self.kind == "Endpoints":
            return self.namespace, self.name
        if self.kind == "EndpointSlice":
            return self.namespace, (self.object["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, "")
        return None

    def problem(self, path: FieldPath, message: str, value: Any = None, allowed: str = "") -> Problem:
        """A problem of one of the object's fields."""
        return self.document.problem((*self.path, *path), message, value, allowed)

    @property
    def title(self) -> str:
        """Kind, namespace and name, as far as it has them: ``Service default/web``."""
        metadata = self.object.get("metadata") or {}
        namespace = metadata.get("namespace") or DEFAULT_NAMESPACE
        return f"{self.kind} {namespace}/{metadata['name']}" if "name" in metadata else self.kind

    def refusal(self, found: FieldProblem) -> Problem:
        """What the cluster would say of the object."""
        path = parse_field(found.field)
        written = value_at(self.object, path)
        value = written if written is not None else found.value or None
        return self.problem(path, f"{found.reason} ({self.title})", value, found.allowed)


def value_at(value: Any, path: FieldPath) -> Any:
    """The value of a field as it is written; None where it is not."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def pod_template(manifest: Manifest) -> tuple[FieldPath, JsonObject] | None:
    """The pod that the object is or makes, with the path to it; None for a kind that has to do with no pods."""
    path = pod_template_path(manifest.kind)
    return None if path is None else (path, value_at(manifest.object, path))


def pod_template_path(kind: str) -> FieldPath | None:
    """Where in an object of a kind the pod is that it is or makes; None for a kind that has to do with no pods."""
    if kind == "Pod":
        return ()
    if kind == "CronJob":
        return ("spec", "jobTemplate", "spec", "template")
    return ("spec", "template") if kind in WORKLOADS else None


def replica_count(manifest: Manifest) -> int:
    """How many pods the object is or makes at first: of a DaemonSet one, as far as can be told without the nodes."""
    if manifest.kind == "CronJob":
        return 0
    if manifest.kind == "Job":
        return wanted_now(manifest.object, 0)
    return 1 if manifest.kind in ("Pod", "DaemonSet") else int(manifest.spec.get("replicas", 1))
