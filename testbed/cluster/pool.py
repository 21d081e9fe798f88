"""Numbers that are given out: each to one owner, lowest first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping


class PoolExhausted(Exception):
    """Every number of the pool is taken."""


class Pool:
    """The numbers of a range. Taking, claiming and giving back cost the same however many are taken.

    Those below ``automatic_from`` are left to claims as long as others are free (as Kubernetes does with the addresses
    and node ports that people choose: KEP-3070, KEP-3668). ``reserved`` numbers can be had by their owner only.
    """

    def __init__(
        self, numbers: range, automatic_from: int | None = None, reserved: Mapping[int, str] | None = None
    ) -> None:
        middle = numbers.start if automatic_from is None else min(max(automatic_from, numbers.start), numbers.stop)
        self.numbers = numbers
        self.reserved = dict(reserved or {})
        self._owners = dict(self.reserved)
        self._bands = (_Band(middle, numbers.stop), _Band(numbers.start, middle))

    def owner(self, number: int) -> str | None:
        """Who has the number, or who alone may have it."""
        return self._owners.get(number)

    def claim(self, number: int, owner: str) -> None:
        """Take a number of the range that is free, reserved for this owner or the owner's already."""
        assert number in self.numbers and self._owners.get(number, owner) == owner
        self._owners[number] = owner

    def take(self, owner: str) -> int:
        """Take a free number. Raises PoolExhausted."""
        for band in self._bands:
            number = band.take(self._owners)
            if number is not None:
                self._owners[number] = owner
                return number
        raise PoolExhausted

    def release(self, number: int) -> None:
        """Give a number back; one that is not taken is passed over."""
        if number not in self.reserved and self._owners.pop(number, None) is not None:
            for band in self._bands:
                band.release(number)


class _Band:
    """Part of the range. ``_freed`` may hold numbers that have been claimed again since, and some of them twice."""

    def __init__(self, first: int, end: int) -> None:
        self._first = self._next = first
        self._end = end
        self._freed: list[int] = []

    def take(self, taken: Mapping[int, str]) -> int | None:
        while self._freed:
            number = heapq.heappop(self._freed)
            if number not in taken:
                return number
        while self._next < self._end:
            number = self._next
            self._next += 1
            if number not in taken:
                return number
        return None

    def release(self, number: int) -> None:
        if self._first <= number < self._next:
            heapq.heappush(self._freed, number)
