"""Values by key whose order is kept, so that one change among many costs little."""

from __future__ import annotations

import operator
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any, Generic, TypeVar

# Keys are compared: tuples of text here.
K = TypeVar("K", bound=Any)
V = TypeVar("V")


class SortedValues(Generic[K, V]):
    """A mapping that gives its values in the order of its keys.

    A value that is the ``same`` as the one it would replace does not replace it.
    """

    def __init__(self, same: Callable[[V, V], bool] = operator.eq) -> None:
        self._same = same
        self._by_key: dict[K, V] = {}
        self._keys: list[K] = []
        self._values: tuple[V, ...] | None = ()

    def get(self, key: K) -> V | None:
        return self._by_key.get(key)

    def put(self, key: K, value: V) -> None:
        known = self._by_key.get(key)
        if known is None:
            insort(self._keys, key)
        elif self._same(known, value):
            return
        self._by_key[key] = value
        self._values = None

    def remove(self, key: K) -> None:
        """Take a value out; a key that is not there is passed over."""
        if self._by_key.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
            self._values = None

    def values(self) -> tuple[V, ...]:
        """All values in order; the very same tuple while nothing has changed."""
        if self._values is None:
            self._values = tuple(map(self._by_key.__getitem__, self._keys))
        return self._values
