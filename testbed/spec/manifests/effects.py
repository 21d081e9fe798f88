"""What an object asks for that is fine in Kubernetes and does nothing, or something else, here."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import FieldPath, field_text
from testbed.spec.manifests.fields import fields_without_effect
from testbed.spec.manifests.kinds import BY_TYPE
from testbed.spec.manifests.manifest import pod_template_path, value_at

_CLAIM = "a folder in memory stands for the claim, which needs no PersistentVolumeClaim and ends with the cluster"
_NOTHING = "has no effect here"
_OTHERWISE: dict[str | int, str] = {"grpc": "is not supported here: such a probe fails"}
_POLICY = "is stored, and not enforced by this version"
# What the API sets, and so what comes with every object that was read from it.
_DEFAULTS: dict[str | int, str] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def effects(wire: JsonObject) -> Iterator[tuple[FieldPath, str]]:
    """Where an object that its schema allows says something of that sort, and what becomes of it."""
    kind = BY_TYPE.get((wire["apiVersion"], wire["kind"]))
    if kind is None:
        return
    for path in fields_without_effect(wire, kind.fields):
        yield path, _OTHERWISE.get(path[-1], _NOTHING)
    if kind.name == "NetworkPolicy":
        yield ("spec",), _POLICY
    template = pod_template_path(kind.name)
    if template is None:
        return
    account: FieldPath = (*template, "spec", "serviceAccountName")
    if value_at(wire, account) not in (None, "", "default"):
        yield account, f"{_NOTHING}: there are no service accounts"
    volumes = value_at(wire, (*template, "spec", "volumes"))
    for index in range(len(volumes) if isinstance(volumes, list) else 0):
        claim: FieldPath = (*template, "spec", "volumes", index, "persistentVolumeClaim")
        if value_at(wire, claim) is not None:
            yield claim, _CLAIM


def effect_warnings(wire: JsonObject) -> list[str]:
    """The same in a sentence each, for somebody who sends the object over the API, which completes it.

    What is empty, or what the API would set by itself, asks for nothing.
    """
    content = {name: value for name, value in wire.items() if name != "metadata"}  # which the API knows in full
    return [
        f"{field_text(path)}: {message}"
        for path, message in effects(content)
        if (value := value_at(content, path)) and _DEFAULTS.get(path[-1]) != value
    ]
