"""What a client asks to find out which kinds are served: ``/version``, ``/api``, ``/apis`` and one list a group."""

from __future__ import annotations

import platform
from collections import defaultdict
from dataclasses import replace
from functools import cache

from testbed.apiserver.access import review_resources
from testbed.apiserver.subresources import SUBRESOURCES, Subresource
from testbed.cluster.kinds import ABSENT_KINDS, KINDS, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.versions import OTHER_VERSIONS

# The version of Kubernetes whose wire form the API follows.
_MAJOR, _MINOR = "1", "32"
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_READING_VERBS = ["get", "list", "watch"]
_SUBRESOURCE_GROUPS = {"Scale": ("autoscaling", "v1"), "Eviction": ("policy", "v1")}


@cache
def discovery_documents() -> dict[str, JsonObject]:
    """The documents by URL path."""
    # A group's stored versions come first: its newest is what a client should use. Groups whose versions are all old
    # ones come last, so that a short name means the present kind.
    resources: dict[tuple[str, str], list[JsonObject]] = defaultdict(list)
    for kind in (*KINDS, *ABSENT_KINDS):
        resources[kind.group, kind.version] += _resources(kind)
    for reviewed, review in review_resources():
        resources[reviewed].append(review)
    for other in OTHER_VERSIONS:
        # Short names mean the stored version: kubectl warns of those that could mean two.
        resources[other.group, other.version] += _resources(replace(other.kind, short_names=()))
    documents: dict[str, JsonObject] = {
        "/version": {
            "major": _MAJOR,
            "minor": _MINOR,
            "gitVersion": f"v{_MAJOR}.{_MINOR}.0+testbed",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": platform.python_implementation(),
            "platform": "linux/amd64",
        },
        "/api": {
            "kind": "APIVersions",
            "versions": [version for group, version in resources if not group],
            "serverAddressByClientCIDRs": [],
        },
    }
    groups: dict[str, list[str]] = defaultdict(list)
    for (group, version), listed in resources.items():
        group_version = f"{group}/{version}" if group else version
        documents[f"/apis/{group_version}" if group else f"/api/{version}"] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": listed,
        }
        if group:
            groups[group].append(version)
    found = [_group(group, versions) for group, versions in groups.items()]
    documents["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
    documents |= {f"/apis/{group['name']}": {"kind": "APIGroup", "apiVersion": "v1", **group} for group in found}
    return documents


def _group(group: str, versions: list[str]) -> JsonObject:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def _resources(kind: Kind) -> list[JsonObject]:
    resource = {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _READING_VERBS if kind in ABSENT_KINDS else _VERBS,
        "shortNames": list(kind.short_names),
        **({"categories": ["all"]} if kind.in_all else {}),
    }
    return [resource, *(_subresource(entry) for entry in SUBRESOURCES.values() if entry.kind.plural == kind.plural)]


def _subresource(entry: Subresource) -> JsonObject:
    described: JsonObject = {
        "name": f"{entry.kind.plural}/{entry.name}",
        "singularName": "",
        "namespaced": entry.kind.namespaced,
        "kind": entry.answers_kind,
        "verbs": list(entry.verbs),
    }
    if entry.answers_kind in _SUBRESOURCE_GROUPS:
        described["group"], described["version"] = _SUBRESOURCE_GROUPS[entry.answers_kind]
    return described
