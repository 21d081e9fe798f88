"""The specification's examples of paths and hosts, row by row, and some of our own.

Source: kubernetes.io, "Ingress", sections "Examples" (of path types) and "Hostname wildcards"; in the repository
kubernetes/website it is content/en/docs/concepts/services-networking/ingress.md.
"""

from __future__ import annotations

from typing import NamedTuple

Rule = tuple[str, str]
"""pathType and path."""


class Row(NamedTuple):
    """Rules of one host, requests, and the rule that takes them all; None for the default backend."""

    rules: tuple[Rule, ...]
    requests: tuple[str, ...]
    taken_by: Rule | None


def _row(kind: str, paths: str, requests: str, taken_by: str | None) -> Row:
    rules = tuple((kind, path) for path in paths.split(", "))
    return Row(rules, tuple(requests.split(", ")), None if taken_by is None else (kind, taken_by))


# As many as there, in their order. "(all paths)" stands for three.
SPECIFIED = (
    _row("Prefix", "/", "/, /x, /all/paths/", "/"),
    _row("Exact", "/foo", "/foo", "/foo"),
    _row("Exact", "/foo", "/bar", None),
    _row("Exact", "/foo", "/foo/", None),
    _row("Exact", "/foo/", "/foo", None),
    _row("Prefix", "/foo", "/foo, /foo/", "/foo"),
    _row("Prefix", "/foo/", "/foo, /foo/", "/foo/"),
    _row("Prefix", "/aaa/bb", "/aaa/bbb", None),
    _row("Prefix", "/aaa/bbb", "/aaa/bbb", "/aaa/bbb"),
    _row("Prefix", "/aaa/bbb/", "/aaa/bbb", "/aaa/bbb/"),
    _row("Prefix", "/aaa/bbb", "/aaa/bbb/", "/aaa/bbb"),
    _row("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", "/aaa/bbb"),
    _row("Prefix", "/aaa/bbb", "/aaa/bbbxyz", None),
    _row("Prefix", "/, /aaa", "/aaa/ccc", "/aaa"),
    _row("Prefix", "/, /aaa, /aaa/bbb", "/aaa/bbb", "/aaa/bbb"),
    _row("Prefix", "/, /aaa, /aaa/bbb", "/ccc", "/"),
    _row("Prefix", "/aaa", "/ccc", None),
    Row((("Prefix", "/foo"), ("Exact", "/foo")), ("/foo",), ("Exact", "/foo")),
)

# What the text around the table says, and what is specific to this implementation.
OWN = (
    _row("Prefix", "/foo", "/FOO", None),
    _row("Exact", "/foo", "/FOO", None),
    _row("Exact", "/foo/", "/foo/", "/foo/"),
    _row("Prefix", "/foo/bar", "/foo/bar/baz", "/foo/bar"),
    _row("Prefix", "/foo/bar", "/foo/barbaz", None),
    Row((("Exact", "/foo"), ("Prefix", "/foo")), ("/foo/",), ("Prefix", "/foo")),
    Row((("Exact", "/foo"), ("Prefix", "/foo/bar")), ("/foo/bar",), ("Prefix", "/foo/bar")),
    _row("ImplementationSpecific", "/foo", "/foobar", "/foo"),
    Row((("ImplementationSpecific", "/foo"), ("Prefix", "/foo")), ("/foo/bar",), ("Prefix", "/foo")),
    Row((("Prefix", '/odd "$x" \\d{2}; }'),), ('/odd%20"$x"%20\\d{2};%20}/y',), ("Prefix", '/odd "$x" \\d{2}; }')),
)

WILDCARD = "*.foo.com"
# Host header, and whether the wildcard takes it.
HOSTS = (("bar.foo.com", True), ("baz.bar.foo.com", False), ("foo.com", False))
