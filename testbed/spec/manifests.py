"""Manifest files: read, checked against Kubernetes' own schemas, and against what this testbed can run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from testbed.cluster.identity import pod_namespace
from testbed.cluster.objects import JsonObject, is_valid_name, object_name, object_namespace
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_LABEL, DNS_LABEL_FORM, DNS_SUBDOMAIN_FORM
from testbed.spec.images import UnknownImage, container_argv
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import Document, FieldPath, read_documents, read_text

SUPPORTED = "v1 Pod, or a v1 List of them"

# What the testbed acts on. Any other field that the schemas allow is accepted, and a warning says it has no effect.
_POD_FIELDS = {
    (): {"apiVersion", "kind", "metadata", "spec", "status"},
    ("metadata",): {"name", "namespace", "labels", "annotations"},
    ("spec",): {
        *("containers", "nodeName", "nodeSelector", "hostNetwork"),
        *("hostname", "subdomain", "hostAliases", "dnsPolicy", "dnsConfig"),
    },
    ("spec", "containers"): {"name", "image", "command", "args", "env", "ports"},
}
_NAMESPACE_FILE_LIMIT = 255  # NAME_MAX of linux/limits.h: a pod's network namespace is a file under /run/netns


@dataclass(frozen=True)
class Manifest:
    """One object of a manifest file: where it stands and what it says. ``object`` is not to be changed."""

    file: Path
    line: int
    object: JsonObject
    document: Document = field(repr=False, compare=False)
    path: FieldPath = ()

    def problem(self, path: FieldPath, message: str, value: Any = None, allowed: str = "") -> Problem:
        """A problem of one of the object's fields."""
        return self.document.problem((*self.path, *path), message, value, allowed)


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
        for manifest in _objects(document, file, problems):
            found = _object_problems(manifest)
            problems += found
            if not found:
                manifests.append(manifest)
                warnings += _ignored_fields(manifest)
    return manifests, problems, warnings


def distinct_objects(manifests: list[Manifest]) -> tuple[list[Manifest], list[Problem]]:
    """The objects without those that have the name of an earlier one, and a problem for each of these."""
    first: dict[tuple[str, str], Manifest] = {}
    problems = []
    for manifest in manifests:
        namespace, name = object_namespace(manifest.object), object_name(manifest.object)
        earlier = first.setdefault((namespace, name), manifest)
        if earlier is not manifest:
            message = f"two Pods have this name in namespace {namespace}; the first is at {earlier.file}:{earlier.line}"
            problems.append(manifest.problem(("metadata", "name"), message, name))
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
            yield Manifest(file, document.where(path)[1], _without_nulls(item), document, path)
        return
    yield Manifest(file, document.line, _without_nulls(value), document)


def _without_nulls(value: Any) -> Any:
    """A field with the value null is a field that is not there, as for the API server."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _object_problems(manifest: Manifest) -> list[Problem]:
    value = manifest.object
    if not isinstance(value, dict):
        return [manifest.problem((), "must be a mapping with apiVersion and kind", value, SUPPORTED)]
    missing = [name for name in ("apiVersion", "kind") if value.get(name) is None]
    if missing:
        return [manifest.problem((name,), "is required", allowed=SUPPORTED) for name in missing]
    if (value["apiVersion"], value["kind"]) != ("v1", "Pod"):
        kind = f"{value['apiVersion']} {value['kind']}"
        return [manifest.problem(("kind",), "this kind of object is not supported", kind, SUPPORTED)]
    return _schema_problems(manifest) or list(_pod_problems(manifest))


@cache
def _pod_validator() -> Any:
    """A validator of v1 Pods with the newest schema that kubernetes-validate brings; unknown fields are errors.

    The package's own ``validate`` stops at the first error, and this reports all.
    """
    # Imported here because a topology without manifests needs none of it, and it takes a tenth of a second.
    import jsonschema
    from kubernetes_validate.utils import latest_version, schema_contents
    from referencing import Registry, Resource

    version = latest_version()
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    schema = schema_contents(f"{folder}/pod-v1.json", version)
    definitions = schema_contents(f"{folder}/_definitions.json", version)
    registry: Any = Resource.from_contents(definitions) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _schema_problems(manifest: Manifest) -> list[Problem]:
    problems = list(_empty_entries(manifest, (), manifest.object))
    for error in _pod_validator().iter_errors(manifest.object):
        path: FieldPath = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for name in sorted(set(error.instance) - set(known)):
                message = f"unknown field{suggestion(name, known)}"
                problems.append(manifest.problem((*path, name), message))
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            problems += [manifest.problem((*path, name), "is required") for name in missing]
        elif error.validator == "type":
            wanted: list[str] = (
                error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
            )
            words = " or ".join(_TYPE_WORDS.get(name, name) for name in wanted if name != "null")
            problems.append(manifest.problem(path, f"must be {words}", _shown(error.instance)))
        elif error.validator == "enum":
            allowed = names_text([str(value) for value in error.validator_value if value is not None])
            problems.append(manifest.problem(path, "is not one of the values", _shown(error.instance), allowed))
        else:
            problems.append(manifest.problem(path, "is not what Kubernetes' schema asks", _shown(error.instance)))
    return problems


_TYPE_WORDS = {
    "string": "text (a number or yes/no in quotes)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (field: value)",
}


def _shown(value: Any) -> Any:
    return "nothing" if value is None else value


def _empty_entries(manifest: Manifest, path: FieldPath, value: Any) -> Iterator[Problem]:
    """Entries of lists without a value. The schemas let them pass, the API server does not."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if item is None:
                yield manifest.problem((*path, index), "an entry without a value")
            yield from _empty_entries(manifest, (*path, index), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _empty_entries(manifest, (*path, name), item)


def _pod_problems(manifest: Manifest) -> Iterator[Problem]:
    """What the API server would refuse though the schema allows it, and what cannot run here."""
    metadata = manifest.object.get("metadata") or {}
    spec = manifest.object.get("spec") or {}
    name, namespace = metadata.get("name"), metadata.get("namespace") or "default"
    if name is None:
        yield manifest.problem(("metadata", "name"), "is required")
    elif not is_valid_name(name):
        yield manifest.problem(("metadata", "name"), "is not a name for a Pod", name, DNS_SUBDOMAIN_FORM)
    elif len(pod_namespace(namespace, name)) > _NAMESPACE_FILE_LIMIT:
        yield manifest.problem(("metadata", "name"), "is too long together with its namespace", name)
    if not DNS_LABEL.fullmatch(namespace):
        yield manifest.problem(("metadata", "namespace"), "is not a name for a namespace", namespace, DNS_LABEL_FORM)
    yield from _label_problems(manifest, ("metadata", "labels"), metadata.get("labels") or {})
    yield from _name_resolution_problems(manifest, spec)
    containers = spec.get("containers") or []
    if not containers:
        yield manifest.problem(("spec", "containers"), "a Pod needs at least one container")
    seen: dict[str, int] = {}
    for index, container in enumerate(containers):
        yield from _container_problems(manifest, ("spec", "containers", index), container, seen)


_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


def _name_resolution_problems(manifest: Manifest, spec: JsonObject) -> Iterator[Problem]:
    """What ends up in the pod's hostname, /etc/hosts and /etc/resolv.conf."""
    for field_name in ("hostname", "subdomain"):
        value = spec.get(field_name)
        if value and not DNS_LABEL.fullmatch(value):
            yield manifest.problem(("spec", field_name), "is not a name for a host", value, DNS_LABEL_FORM)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        path: FieldPath = ("spec", "hostAliases", index)
        yield from _address_problems(manifest, (*path, "ip"), alias.get("ip"))
        for number, name in enumerate(alias.get("hostnames") or ()):
            if not is_valid_name(name):
                yield manifest.problem(
                    (*path, "hostnames", number), "is not a name for a host", name, DNS_SUBDOMAIN_FORM
                )
    policy = spec.get("dnsPolicy", "ClusterFirst")
    config = spec.get("dnsConfig") or {}
    if policy not in _DNS_POLICIES:
        message = f"is not one of the values{suggestion(policy, _DNS_POLICIES)}"
        yield manifest.problem(("spec", "dnsPolicy"), message, policy, names_text(_DNS_POLICIES))
    elif policy == "None" and not config.get("nameservers"):
        yield manifest.problem(("spec", "dnsConfig", "nameservers"), "is required with dnsPolicy None")
    for index, address in enumerate(config.get("nameservers") or ()):
        yield from _address_problems(manifest, ("spec", "dnsConfig", "nameservers", index), address)
    for index, domain in enumerate(config.get("searches") or ()):
        if not is_valid_name(domain.removesuffix(".")):
            path = ("spec", "dnsConfig", "searches", index)
            yield manifest.problem(path, "is not a domain", domain, DNS_SUBDOMAIN_FORM)
    for index, option in enumerate(config.get("options") or ()):
        path = ("spec", "dnsConfig", "options", index)
        if not re.fullmatch(r"[a-z0-9-]+", option.get("name") or ""):
            yield manifest.problem((*path, "name"), "is not an option of resolv.conf", option.get("name") or "nothing")
        if not re.fullmatch(r"[A-Za-z0-9.-]*", option.get("value") or ""):
            yield manifest.problem((*path, "value"), "is not an option's value", option["value"])


def _address_problems(manifest: Manifest, path: FieldPath, address: str | None) -> Iterator[Problem]:
    try:
        ip_address(address or "")
    except ValueError:
        yield manifest.problem(path, "is not an IP address", address or "nothing")


def _container_problems(
    manifest: Manifest, path: FieldPath, container: JsonObject, seen: dict[str, int]
) -> Iterator[Problem]:
    name = container["name"]
    if not DNS_LABEL.fullmatch(name):
        yield manifest.problem((*path, "name"), "is not a name for a container", name, DNS_LABEL_FORM)
    elif name in seen:
        yield manifest.problem((*path, "name"), f"two containers have this name; the first is [{seen[name]}]", name)
    seen.setdefault(name, int(path[-1]))
    for number, variable in enumerate(container.get("env") or ()):
        if "valueFrom" in variable:
            here = (*path, "env", number, "valueFrom")
            yield manifest.problem(here, "is not supported; give the variable a plain value", allowed="value")
    for field_name in ("command", "args"):
        if any("\0" in word for word in container.get(field_name) or ()):
            yield manifest.problem((*path, field_name), "holds a NUL character")
    if not container.get("image"):
        yield manifest.problem((*path, "image"), "is required")
        return
    try:
        container_argv(container)
    except UnknownImage as unknown:
        message = "this image has no program here, so the container needs a command"
        hint = suggestion(unknown.image, unknown.known)
        allowed = f"a command, or one of the images {names_text(unknown.known)}"
        yield manifest.problem((*path, "image"), message + hint, unknown.image, allowed)


# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"(?:([^/]*)/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def _label_problems(manifest: Manifest, path: FieldPath, labels: dict[str, str]) -> Iterator[Problem]:
    for key, value in labels.items():
        match = _LABEL_KEY.fullmatch(key)
        if match is None or (match.group(1) is not None and not is_valid_name(match.group(1))):
            yield manifest.problem((*path, key), "is not a label's name", key)
        if not _LABEL_VALUE.fullmatch(value or ""):
            allowed = "at most 63 of letters, digits, -, _ and ., beginning and ending with a letter or digit"
            yield manifest.problem((*path, key), "is not a label's value", value, allowed)


def _ignored_fields(manifest: Manifest) -> Iterator[str]:
    """A warning for each field that is fine in Kubernetes and does nothing here."""
    pod = manifest.object
    places: list[tuple[FieldPath, JsonObject]] = [((), pod), (("metadata",), pod["metadata"]), (("spec",), pod["spec"])]
    places += [(("spec", "containers", i), container) for i, container in enumerate(pod["spec"]["containers"])]
    for path, mapping in places:
        known = _POD_FIELDS[tuple(step for step in path if isinstance(step, str))]
        for name in mapping:
            if name not in known:
                yield str(manifest.problem((*path, name), "has no effect here"))
