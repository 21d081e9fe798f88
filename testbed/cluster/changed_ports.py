"""Which ports of Services are other ones in two states: what did not change is the very same object in both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import is_not

from testbed.cluster.values import ServicePort


def changed_ports(
    old: Sequence[ServicePort], new: Sequence[ServicePort]
) -> tuple[list[ServicePort], list[ServicePort]]:
    """Those of the old state and of the new one, in their order; a port that only moved may be among them.

    There may be 10,000 of them, and mostly one has changed.
    """
    if len(old) == len(new):
        differ = list(map(is_not, old, new))
        return list(compress(old, differ)), list(compress(new, differ))
    before, after = set(map(id, old)), set(map(id, new))
    return [port for port in old if id(port) not in after], [port for port in new if id(port) not in before]
