"""The pause program: a process that does nothing, and so keeps a pod's namespaces for the cost of a few pages.

It is a static ELF executable of one page that waits for signals for ever, written out here instruction by instruction,
because a machine that runs the testbed need not have a compiler. A forked interpreter would take 1 MB for the same.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path

# The loop `while (1) pause();` in the system calls of each processor (ppoll without descriptors where there is no
# pause), and the ELF machine number.
_CODE = {
    "x86_64": (62, "b822000000 0f05 ebf7"),  # mov eax, 34; syscall; jmp
    "aarch64": (183, "000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),  # ppoll(0, 0, 0, 0); b
}
_BASE, _ELF_HEADER, _PROGRAM_HEADER = 0x400000, 64, 56


def executable(machine: str) -> bytes | None:
    """The program for a processor as ``uname -m`` calls it; None for one that is not known here."""
    if machine not in _CODE:
        return None
    number, text = _CODE[machine]
    code = bytes.fromhex(text)
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


def pause_command(file: Path) -> list[str]:
    """The command line of a process that waits for ever; where the program is known, it is put into ``file``."""
    program = executable(platform.machine())
    if program is None:
        return ["sleep", "infinity"]
    file.write_bytes(program)
    file.chmod(0o755)
    return [str(file)]
