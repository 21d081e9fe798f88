"""Numbers that are given out: never twice, lowest first, whatever is claimed and given back between."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster.pool import Pool, PoolExhausted

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("claim"), st.integers(10, 19)),
        st.tuples(st.just("release"), st.integers(5, 25)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(8, 22), st.sets(st.integers(10, 19), max_size=3))
def test_every_number_has_one_owner_and_the_lowest_automatic_one_is_taken(steps, automatic_from, reserved):
    pool = Pool(range(10, 20), automatic_from, dict.fromkeys(reserved, "landlord"))
    taken: dict[int, str] = {}
    for number, (step, value) in enumerate(steps):
        owner = f"owner-{number}"
        free = [n for n in range(10, 20) if n not in taken and n not in reserved]
        if step == "take":
            preferred = [n for n in free if n >= automatic_from] or free
            if not preferred:
                with pytest.raises(PoolExhausted):
                    pool.take(owner)
                continue
            assert pool.take(owner) == preferred[0]
            taken[preferred[0]] = owner
        elif step == "claim" and value in free:
            pool.claim(value, owner)
            taken[value] = owner
        elif step == "release":
            pool.release(value)
            taken.pop(value, None)
        for n in range(10, 20):
            assert pool.owner(n) == taken.get(n, "landlord" if n in reserved else None)


def test_a_reserved_number_is_its_owners_only_and_stays_so():
    pool = Pool(range(3), reserved={1: "dns"})
    pool.claim(1, "dns")
    pool.release(1)
    assert [pool.take("a"), pool.take("b"), pool.owner(1)] == [0, 2, "dns"]


def test_taking_costs_the_same_however_many_are_taken():
    def seconds(count):
        pool = Pool(range(1 << 20))
        started = time.thread_time()
        for number in range(count):
            pool.take(str(number))
        for number in range(0, count, 2):
            pool.release(number)
            pool.take("again")
        return time.thread_time() - started

    few, many = (min(seconds(count) for _ in range(3)) for count in (2000, 20000))
    assert many < 40 * few, "ten times the numbers; a search from the start would make it a hundred"
