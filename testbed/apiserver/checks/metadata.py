"""What is wrong with an object's name, labels and annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from testbed.apiserver.checks.names import (
    key_problems,
    label_problems,
    wrong_label_name,
    wrong_name,
    wrong_service_name,
)
from testbed.apiserver.checks.words import Problem, required
from testbed.cluster.kinds import NAMESPACE, SERVICE, Kind
from testbed.cluster.objects import JsonObject

_NAMES: dict[Kind, Callable[[str], str | None]] = {NAMESPACE: wrong_label_name, SERVICE: wrong_service_name}


def metadata_problems(kind: Kind, wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with the metadata of an object; a name is not asked for where one is to be made."""
    metadata = wire["metadata"]
    name = metadata.get("name")
    if name:
        if wrong := _NAMES.get(kind, wrong_name)(name):
            yield "metadata.name", wrong
    elif not metadata.get("generateName"):
        yield "metadata.name", required("name or generateName is required")
    yield from label_problems(metadata.get("labels") or {}, "metadata.labels")
    for key in metadata.get("annotations") or {}:
        yield from key_problems(key, "metadata.annotations")
