"""Makes testbed/apiserver/protobuf_fields.json out of Kubernetes' ``generated.proto`` files.

Usage: ``python scripts/protobuf_fields.py FOLDER``, where FOLDER has the files under the paths by which they import
each other (``k8s.io/api/core/v1/generated.proto``, from https://github.com/kubernetes/api and .../apimachinery).
Only what the bodies of requests can contain is kept: for each message the number, name and type of its fields.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_ROOTS = (
    *("ConfigMap", "Secret", "Event", "Namespace", "Node", "Pod", "Service", "Endpoints", "Binding"),
    *(
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "ControllerRevision",
        "Job",
        "CronJob",
        "Lease",
        "EndpointSlice",
    ),
    *("Ingress", "IngressClass", "NetworkPolicy", "PodDisruptionBudget", "Scale", "Eviction", "DeleteOptions"),
    *("SelfSubjectAccessReview", "SelfSubjectRulesReview", "SelfSubjectReview"),
)
_NEVER = ("k8s.io.api.extensions.v1beta1.",)  # of this group only the Ingress is served
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(optional|repeated|map<string, *([\w.]+)>)\s*([\w.]*)\s+(\w+) = (\d+);", re.MULTILINE)
_NAMES = {"aPIGroup": "apiGroup"}  # where JSON has another name
_SCALARS = {"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"}

Fields = dict[str, list[str]]


def _read(folder: Path) -> dict[str, Fields]:
    messages: dict[str, Fields] = {}
    for path in sorted(folder.rglob("generated.proto")):
        package = ".".join(path.relative_to(folder).parts[:-1])
        for name, body in _MESSAGE.findall(path.read_text()):
            messages[f"{package}.{name}"] = {
                number: [_NAMES.get(field, field), _full(value or kind, package), "map" if value else card]
                for card, value, kind, field, number in _FIELD.findall(body)
            }
    return messages


def _full(kind: str, package: str) -> str:
    if kind in _SCALARS:
        return kind
    return kind.lstrip(".") if "." in kind else f"{package}.{kind}"


def main() -> None:
    messages = _read(Path(sys.argv[1]))
    waiting = [
        name
        for name in messages
        if name.rpartition(".")[2] in _ROOTS and (not name.startswith(_NEVER) or name.endswith(".Ingress"))
    ]
    kept: dict[str, Fields] = {}
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = messages[name]
            waiting += [kind for _, kind, _ in messages[name].values() if kind not in _SCALARS]
    lines = (f"{json.dumps(name)}: {json.dumps(kept[name], separators=(',', ':'))}" for name in sorted(kept))
    target = Path(__file__).parent.parent / "testbed/apiserver/protobuf_fields.json"
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
