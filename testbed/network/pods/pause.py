"""The pause program: a process that does nothing, and so keeps a pod's namespaces for the cost of a few pages.

As Kubernetes' it ends at SIGTERM and SIGINT, and as PID 1 of a pod whose containers share their processes it leaves no
zombies. With an argument it first mounts /proc, as the program of a container has to that is PID 1.

It is a static ELF executable of one page, written out here instruction by instruction, because a machine that runs the
testbed need not have a compiler. A forked interpreter would take 1 MB for the same.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path

# In the system calls of each processor, with the ELF machine number:
#     if (argc != 1) mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
#     rt_sigaction(SIGCHLD, &ignored, NULL, 8);
#     rt_sigprocmask(SIG_BLOCK, &ending, NULL, 8);    PID 1 gets signals without a handler only while they are blocked
#     while (rt_sigtimedwait(&ending, NULL, NULL, 8) <= 0);
#     exit_group(0);
_CODE = {
    "x86_64": (
        62,
        "833c2401 7421 488d3d94000000 488d358c000000 4889fa 41ba0e000000 4531c0 b8a5000000 0f05"
        "b80d000000 bf11000000 488d3548000000 31d2 41ba08000000 0f05"
        "31ff 488d352d000000 b80e000000 0f05"
        "488d3d1f000000 31f6 31d2 b880000000 0f05 85c0 7eea"
        "b8e7000000 31ff 0f05 0f1f8000000000",
    ),
    "aarch64": (
        183,
        "e00340f9 1f0400f1 00010054 20050030 01050010 e20300aa c30180d2 040080d2 080580d2 010000d4"
        "c81080d2 200280d2 01030010 020080d2 030180d2 010000d4"
        "e81080d2 000080d2 01020010 020080d2 030180d2 010000d4"
        "281180d2 60010010 010080d2 020080d2 030180d2 010000d4 1f000071 2dffff54"
        "c80b80d2 000080d2 010000d4 1f2003d5",
    ),
}
# What the code refers to, right behind it: the set of SIGINT and SIGTERM, a struct sigaction of SIG_IGN, and /proc.
_DATA = struct.pack("<QQQQQ6s", 1 << 1 | 1 << 14, 1, 0, 0, 0, b"/proc")
_BASE, _ELF_HEADER, _PROGRAM_HEADER = 0x400000, 64, 56


def executable(machine: str) -> bytes | None:
    """The program for a processor as ``uname -m`` calls it; None for one that is not known here."""
    if machine not in _CODE:
        return None
    number, text = _CODE[machine]
    code = bytes.fromhex(text) + _DATA
    start = _ELF_HEADER + _PROGRAM_HEADER
    size = start + len(code)
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 0),  # 64 bits, little-endian, System V
        *(2, number, 1, _BASE + start, _ELF_HEADER, 0, 0),
        *(_ELF_HEADER, _PROGRAM_HEADER, 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, readable and executable
    return header + segment + code


def pause_commands(file: Path, seen_at: Path) -> tuple[list[str], list[str]]:
    """The command lines of a process that waits, and of one that mounts /proc before. The program is written to
    ``file``, which pods see at another path.

    Without a program for this processor the second one is empty.
    """
    program = executable(platform.machine())
    if program is None:
        return ["sleep", "infinity"], []
    new = file.with_suffix(".new")  # a file that is being executed cannot be written
    new.write_bytes(program)
    new.chmod(0o755)
    new.replace(file)
    return [str(seen_at)], [str(seen_at), "container"]
