"""The annotations ``nginx.ingress.kubernetes.io/...`` that have an effect.

https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.cluster.objects import JsonObject

_PREFIX = "nginx.ingress.kubernetes.io/"
_SWITCHES = ("use-regex", "ssl-redirect", "force-ssl-redirect")
_TARGET = "rewrite-target"
# No variables of nginx's but what the regular expression caught.
_TARGET_FORM = re.compile(r"/(?:[A-Za-z0-9._~%&=?@:+,()*!/-]|\$[0-9])*")


@dataclass(frozen=True)
class Annotations:
    """What an Ingress's annotations ask for."""

    rewrite: str = ""
    use_regex: bool = False
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False

    @property
    def has_regex(self) -> bool:
        """Whether the Ingress's paths are regular expressions; a rewrite makes them so, as in ingress-nginx."""
        return self.use_regex or bool(self.rewrite)


def read_annotations(ingress: JsonObject) -> Annotations:
    """The annotations that can be read; see :func:`annotation_problems` for the others."""
    found = _own(ingress)
    target = found.get(_TARGET, "")
    return Annotations(
        target if _TARGET_FORM.fullmatch(target) else "",
        found.get("use-regex") == "true",
        found.get("ssl-redirect") != "false",
        found.get("force-ssl-redirect") == "true",
    )


def annotation_problems(ingress: JsonObject) -> Iterator[str]:
    """A sentence for every annotation of nginx's that does nothing."""
    for name, value in _own(ingress).items():
        if name == _TARGET:
            if not _TARGET_FORM.fullmatch(value):
                yield f"annotation {_PREFIX}{name} is not a path: {value}"
        elif name not in _SWITCHES:
            yield f"annotation {_PREFIX}{name} has no effect here"
        elif value not in ("true", "false"):
            yield f'annotation {_PREFIX}{name} must be "true" or "false", not {value}'


def _own(ingress: JsonObject) -> dict[str, str]:
    annotations = ingress["metadata"].get("annotations") or {}
    return {name.removeprefix(_PREFIX): value for name, value in annotations.items() if name.startswith(_PREFIX)}
