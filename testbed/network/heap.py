"""The C library's heap of this process."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of malloc.h


def use_one_arena() -> None:
    """Let all threads that start from here on allocate from the same arena (mallopt(3), glibc).

    Otherwise there are eight for each CPU, and threads that come and go, one for each connection to the API, scatter
    what they free over all of them: the process grows although it has no more in use. Nobody waits for the one arena,
    because one thread at a time runs Python.
    """
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
