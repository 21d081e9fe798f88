"""How much a transaction may hold: iptables-restore and nft send each to the kernel as one netlink message.

A message longer than its socket's send buffer is refused (EMSGSIZE). Both programs raise the buffer by SO_SNDBUFFORCE,
which only the machine's root may do, whatever namespaces an ordinary user has made; neither tries SO_SNDBUF. So for an
ordinary user ``net.core.wmem_default`` is the limit, and a large change takes several transactions there: each Service
still changes at once, but not all of them together.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator

from testbed.proxy.rules import Change

_NETLINK_NETFILTER = 12
_SO_SNDBUFFORCE = 32
# Bytes of a message for one character of the text that it is made from. Measured: iptables-restore 3.9 to 6.2
# (comments of any length take 256 bytes), nft 2 to 4.
_BYTES_PER_CHARACTER = 7


def limit() -> int | None:
    """How long a transaction's text may be in this process; None where there is no limit."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        usual = kernel.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        try:
            kernel.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, usual)
        except PermissionError:
            return usual // _BYTES_PER_CHARACTER
    return None


def fits(text: str, limit: int | None) -> bool:
    """Whether a text can be one transaction."""
    return limit is None or len(text) <= limit


def batches(changes: list[Change], length: Callable[[Change], int], limit: int | None) -> Iterator[list[Change]]:
    """The changes, as few together as it takes. What goes comes first, so that others can have its addresses."""
    if limit is None:
        yield changes
        return
    batch: list[Change] = []
    left = limit
    for change in sorted(changes, key=lambda change: (change.new is not None, change.old is None)):
        needed = length(change)
        if batch and needed > left:
            yield batch
            batch, left = [], limit
        batch.append(change)
        left -= needed
    yield batch


def parts(lines: Iterable[str], limit: int | None) -> Iterator[list[str]]:
    """Lines of text, as few together as it takes; none if there are none."""
    part: list[str] = []
    left = limit or 0
    for line in lines:
        needed = len(line) + 1  # its end
        if limit is not None and part and needed > left:
            yield part
            part, left = [], limit
        part.append(line)
        left -= needed
    if part:
        yield part
