"""What a client asks to find out which kinds are served: ``/version``, ``/api``, ``/apis`` and one list a group."""

from __future__ import annotations

from collections import defaultdict

from testbed.cluster.kinds import KINDS, Kind
from testbed.cluster.objects import JsonObject

# The version of Kubernetes whose wire form the API follows.
_MAJOR, _MINOR = "1", "32"
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def discovery_documents() -> dict[str, JsonObject]:
    """The documents by URL path."""
    by_group: dict[str, dict[str, list[Kind]]] = defaultdict(lambda: defaultdict(list))
    for kind in KINDS:
        by_group[kind.group][kind.version].append(kind)
    documents: dict[str, JsonObject] = {
        "/version": {"major": _MAJOR, "minor": _MINOR, "gitVersion": f"v{_MAJOR}.{_MINOR}.0+testbed"},
        "/api": {"kind": "APIVersions", "versions": sorted(by_group[""]), "serverAddressByClientCIDRs": []},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(group, sorted(versions)) for group, versions in sorted(by_group.items()) if group],
        },
    }
    for group, versions in by_group.items():
        for version, kinds in versions.items():
            documents[f"/apis/{group}/{version}" if group else f"/api/{version}"] = {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": kinds[0].api_version,
                "resources": [_resource(kind) for kind in kinds],
            }
    return documents


def _group(group: str, versions: list[str]) -> JsonObject:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[-1]}


def _resource(kind: Kind) -> JsonObject:
    return {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _VERBS,
        "shortNames": list(kind.short_names),
    }
