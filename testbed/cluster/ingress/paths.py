"""Paths of Ingress rules as what nginx compares a request's path with.

By the table in https://kubernetes.io/docs/concepts/services-networking/ingress/#examples: ``Prefix`` goes by whole
elements and does not mind a slash at the end, ``Exact`` minds everything. nginx takes an exact location before any
other, and of those that a path begins with the longest, which is the specification's order of precedence.
"""

from __future__ import annotations

import re

from testbed.cluster.ingress.values import Match


def plain_matches(path_type: str, path: str) -> tuple[Match, ...]:
    """The locations of a path on a host without regular expressions.

    ``ImplementationSpecific`` is a prefix by characters, as in ingress-nginx.
    """
    if path_type == "Exact":
        return (Match("exact", path),)
    if path_type == "ImplementationSpecific":
        return (Match("prefix", path),)
    stem = path.rstrip("/")
    return (Match("exact", stem), Match("prefix", f"{stem}/")) if stem else (Match("prefix", "/"),)


def regex_matches(path_type: str, path: str, is_regex: bool) -> tuple[Match, ...]:
    """The same on a host where some Ingress uses regular expressions (``is_regex``: this one does).

    There nginx would prefer any regular expression to any plain prefix, so every prefix is written as one.
    """
    if path_type == "Exact":
        return (Match("exact", path),)
    if is_regex:
        return (Match("regex", f"^{path}"),)
    if path == "/":  # what nothing else matches
        return (Match("prefix", path),)
    if path_type == "ImplementationSpecific":
        return (Match("regex", f"(?-i)^{re.escape(path)}"),)
    return (Match("regex", f"(?-i)^{re.escape(path.rstrip('/'))}(/|$)"),)
