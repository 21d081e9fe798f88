"""Capture on the fabric with packet sockets (packet(7)), and write pcap files.

tcpdump drops privileges and so writes only a header in a box made by an ordinary user; a packet socket works there.
Sockets are open only while evidence is taken: a tap costs every packet that passes it.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from testbed.network.netns import enter, home

_ETH_P_ALL = 0x0003
# asm-generic/socket.h. The socket module has no name for it.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_LONGEST_FRAME = 1 << 16

# https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap (classic pcap); this magic number means nanoseconds.
_PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _LONGEST_FRAME, 1)
_PCAP_RECORD = struct.Struct("=IIII")


@dataclass(frozen=True)
class Frame:
    """One frame as one interface saw it. A frame on a wire is seen at both ends: first ``outgoing``, then not."""

    element: str
    interface: str
    outgoing: bool
    time_ns: int
    data: bytes


class Capture:
    """Open taps on a set of interfaces."""

    def __init__(self, taps: dict[socket.socket, str], wanted: frozenset[tuple[str, str]]) -> None:
        self._taps, self._wanted = taps, wanted

    def frames(self) -> list[Frame]:
        """The frames seen since the last call, without waiting.

        A tap has its copy before the packet goes on, so all copies of a packet are here once its receiver has it.
        """
        found: list[Frame] = []
        while ready := select.select(list(self._taps), [], [], 0)[0]:
            for tap in ready:
                frame = self._read(tap)
                if (frame.element, frame.interface) in self._wanted:
                    found.append(frame)
        return found

    def _read(self, tap: socket.socket) -> Frame:
        data, ancillary, _, address = tap.recvmsg(_LONGEST_FRAME, 64)
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        outgoing = address[2] == socket.PACKET_OUTGOING
        return Frame(self._taps[tap], address[0], outgoing, seconds * 1_000_000_000 + nanoseconds, data)


@contextmanager
def capturing(uplinks: Iterable[tuple[str, str, str]]) -> Iterator[Capture]:
    """Tap the given (element, network namespace, interface); one packet socket a namespace sees all its interfaces."""
    interfaces = list(uplinks)
    taps: dict[socket.socket, str] = {}
    try:
        with home():
            for namespace, element in {namespace: element for element, namespace, _ in interfaces}.items():
                enter(namespace)
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
                taps[tap] = element
                tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        yield Capture(taps, frozenset((element, interface) for element, _, interface in interfaces))
    finally:
        _close(list(taps))


def _close(taps: Sequence[socket.socket]) -> None:
    """Close the taps side by side: the kernel makes each wait for an RCU grace period, and they can share one."""
    with ThreadPoolExecutor(max_workers=max(len(taps), 1)) as pool:
        list(pool.map(socket.socket.close, taps))


def pcap(frames: Iterable[Frame]) -> bytes:
    """The frames as a classic pcap file with nanoseconds, link type Ethernet."""
    parts = [_PCAP_HEADER]
    for frame in frames:
        seconds, nanoseconds = divmod(frame.time_ns, 1_000_000_000)
        parts += [_PCAP_RECORD.pack(seconds, nanoseconds, len(frame.data), len(frame.data)), frame.data]
    return b"".join(parts)
