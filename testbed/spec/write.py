"""Values back to YAML text."""

from __future__ import annotations

from typing import Any

import yaml

from testbed.spec.source import scalar


def yaml_text(value: Any) -> str:
    """A value as YAML that :func:`testbed.spec.source.read_documents` reads as the same value.

    PyYAML by itself leaves text such as ``1e3`` without quotes, which for Kubernetes and for us is a number.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        is_text = isinstance(scalar(text, True, None), str)
    except ValueError:
        is_text = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_text else '"')


_Dumper.add_representer(str, _represent_text)
