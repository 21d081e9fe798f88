"""The C library's heap of a process with many threads."""

import subprocess
import sys

import pytest

# malloc_info(3) writes an element for each arena.
_PROGRAM = """
import ctypes, threading
from testbed.network.heap import use_one_arena
{first}
together = threading.Barrier(20)
def allocate():
    together.wait()
    kept = [bytearray(2000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize(("first", "is_one"), [("use_one_arena()", True), ("", False)])
def test_threads_share_an_arena_where_asked(first, is_one):
    argv = [sys.executable, "-c", _PROGRAM.format(first=first)]
    told = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
    assert (told.count("<heap nr=") == 1) == is_one
