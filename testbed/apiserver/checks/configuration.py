"""What is wrong with the keys of ConfigMaps and Secrets."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.apiserver.checks.names import wrong_config_key
from testbed.apiserver.checks.words import Problem
from testbed.cluster.objects import JsonObject


def configuration_problems(wire: JsonObject) -> Iterator[Problem]:
    for part in ("data", "binaryData"):
        for key in wire.get(part) or {}:
            if wrong := wrong_config_key(key):
                yield f"{part}[{key}]", wrong
