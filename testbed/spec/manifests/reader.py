"""Manifest files to objects: every document and every List's item, each checked by its kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from testbed.cluster.objects import without_nulls
from testbed.cluster.versions import OTHER_VERSIONS
from testbed.errors import Problem
from testbed.spec.manifests.effects import effects
from testbed.spec.manifests.kinds import BY_TYPE, SUPPORTED
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.schemas import schema_problems
from testbed.spec.nearest import nearest, suggestion
from testbed.spec.source import Document, FieldPath, read_documents, read_text

_CLUSTER_WIDE = ("Namespace", "IngressClass")
_OLD_VERSIONS = {(other.api_version, other.kind.name): other for other in OTHER_VERSIONS if other.warning}


def read_manifests(file: Path) -> tuple[list[Manifest], list[Problem], list[str]]:
    """The sound objects of a manifest file, every problem, and warnings."""
    text = read_text(file)
    if isinstance(text, Problem):
        return [], [text], []
    documents, problems = read_documents(text, str(file))
    if not documents and not problems:
        problems.append(Problem(str(file), 0, "", "holds no object", allowed=SUPPORTED))
    manifests: list[Manifest] = []
    warnings: list[str] = []
    for document in documents:
        for written in _objects(document, file, problems):
            manifest = _of_todays_version(written, warnings)
            found = _object_problems(manifest)
            problems += found
            if not found:
                manifests.append(manifest)
                warnings += [str(manifest.problem(path, message)) for path, message in effects(manifest.object)]
    return manifests, problems, warnings


def distinct_objects(manifests: list[Manifest]) -> tuple[list[Manifest], list[Problem]]:
    """The objects without those that have the kind and name of an earlier one, and a problem for each of these."""
    first: dict[tuple[str, str, str], Manifest] = {}
    problems = []
    for manifest in manifests:
        namespace = "" if manifest.kind in _CLUSTER_WIDE else manifest.namespace
        earlier = first.setdefault((manifest.kind, namespace, manifest.name), manifest)
        if earlier is not manifest:
            where = f" in namespace {namespace}" if namespace else ""
            message = f"two objects of kind {manifest.kind} have this name{where}; "
            message += f"the first is at {earlier.file}:{earlier.line}"
            problems.append(manifest.problem(("metadata", "name"), message, manifest.name))
    return list(first.values()), problems


def _objects(document: Document, file: Path, problems: list[Problem]) -> Iterator[Manifest]:
    """The document's object, or those of a v1 List."""
    value = document.value
    if isinstance(value, dict) and value.get("kind") == "List" and value.get("apiVersion") == "v1":
        items = value.get("items")
        if not isinstance(items, list):
            problems.append(document.problem(("items",), "must be a list of objects", items))
            return
        for name in value:
            if name not in ("apiVersion", "kind", "metadata", "items"):
                message = f"unknown field{suggestion(name, ('items', 'metadata'))}"
                problems.append(document.problem((name,), message, allowed="apiVersion, kind, metadata, items"))
        for index, item in enumerate(items):
            path: FieldPath = ("items", index)
            yield Manifest(file, document.where(path)[1], without_nulls(item), document, path)
        return
    yield Manifest(file, document.line, without_nulls(value), document)


def _of_todays_version(manifest: Manifest, warnings: list[str]) -> Manifest:
    """The object, converted (and a warning) where it is of an older version that the API converts, too."""
    value = manifest.object
    named = (str(value.get("apiVersion")), str(value.get("kind"))) if isinstance(value, dict) else None
    older = _OLD_VERSIONS.get(named) if named is not None else None
    if older is None:
        return manifest
    warnings.append(str(manifest.problem(("apiVersion",), older.warning)))
    return replace(manifest, object=older.to_stored(value))


def _object_problems(manifest: Manifest) -> list[Problem]:
    value = manifest.object
    if not isinstance(value, dict):
        return [manifest.problem((), "must be a mapping with apiVersion and kind", value, SUPPORTED)]
    missing = [name for name in ("apiVersion", "kind") if value.get(name) is None]
    if missing:
        return [manifest.problem((name,), "is required", allowed=SUPPORTED) for name in missing]
    kind = BY_TYPE.get((str(value["apiVersion"]), str(value["kind"])))
    if kind is None:
        by_name = {name: f' (did you mean "{api_version} {name}"?)' for api_version, name in BY_TYPE}
        hint = by_name.get(nearest(str(value["kind"]), by_name) or "", "")
        named = f"{value['apiVersion']} {value['kind']}"
        return [manifest.problem(("kind",), f"this kind of object is not supported{hint}", named, SUPPORTED)]
    return schema_problems(manifest, kind.schema) or list(kind.problems(manifest))
