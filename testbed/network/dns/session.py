"""One connection to the name server of one pod, opened inside the pod's network namespace."""

from __future__ import annotations

import select
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from testbed.cluster.dns_addon import DNS_PORT
from testbed.cluster.dns_records import CLUSTER_DOMAIN, REVERSE_DOMAINS, Record, RecordChanges
from testbed.network import netns
from testbed.network.dns.wire import (
    WireError,
    read_answer,
    read_transfer,
    transfer_request,
    update_messages,
    with_id,
)

ZONES = (CLUSTER_DOMAIN, *REVERSE_DOMAINS)

_CONNECT_S = 1.0
# An update takes milliseconds; this long only when the server is stuck, or stopped.
_ANSWER_S = 10.0
# How many updates are under way at once: enough to keep the server busy, few enough for the sockets' buffers.
_WINDOW = 4


class SessionError(Exception):
    """The server is gone, does not answer, or has refused something; how much it has carried out is not known."""


class Session:
    """A connection to a server, by loopback, since it takes updates from its own pod only.

    ``namespace`` is the pod's network namespace. All methods raise SessionError, after which the session is of no use.
    """

    def __init__(self, namespace: str) -> None:
        self._last_id = 0
        try:
            with netns.entered(namespace):
                self._socket = socket.create_connection(("127.0.0.1", DNS_PORT), _CONNECT_S)
        except OSError as error:
            raise SessionError(f"no connection: {error}") from error
        self._socket.settimeout(_ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self._socket.makefile("rb")

    def fileno(self) -> int:
        """The connection, to be waited for: between two calls it only becomes readable when it ends."""
        return self._socket.fileno()

    def has_ended(self) -> bool:
        """Whether the server has closed the connection. To be asked between two calls."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._input.close()
        self._socket.close()

    def apply(self, changes: RecordChanges) -> None:
        """Change the server's records; returns when clients get the new answers."""
        waiting: dict[int, str] = {}
        for zone, message in _updates(changes):
            if len(waiting) == _WINDOW:
                self._take_answer(waiting)
            waiting[self._send(message)] = zone
        while waiting:
            self._take_answer(waiting)

    def resync(self, wanted: Collection[Record]) -> None:
        """Make the server's records exactly those wanted, whatever it has now."""
        found = {record for zone in ZONES for record in self.transfer(zone)}
        added = [record for record in wanted if record not in found]
        self.apply(RecordChanges(found.difference(wanted), added))

    def transfer(self, zone: str) -> Iterator[Record]:
        """The records that the server has of one zone."""
        expected = self._send(transfer_request(zone))
        soa_count = 0
        while soa_count < 2:  # it begins and ends with the zone's SOA
            try:
                part = read_transfer(self._receive())
            except WireError as error:
                raise SessionError(f"transfer of {zone}: {error}") from error
            if part.answer.message_id != expected or part.answer.rcode:
                raise SessionError(f"transfer of {zone}: RCODE {part.answer.rcode}")
            soa_count += part.soa_count
            yield from part.records

    def _take_answer(self, waiting: dict[int, str]) -> None:
        try:
            answer = read_answer(self._receive())
            zone = waiting.pop(answer.message_id)
        except (WireError, KeyError) as error:
            raise SessionError(f"an unexpected message: {error!r}") from error
        if answer.rcode:
            raise SessionError(f"the server has refused an update of {zone}: RCODE {answer.rcode}")

    def _send(self, message: bytes) -> int:
        self._last_id = (self._last_id + 1) % 0x10000
        try:
            self._socket.sendall(len(message).to_bytes(2, "big") + with_id(message, self._last_id))
        except OSError as error:
            raise SessionError(f"the connection has ended: {error}") from error
        return self._last_id

    def _receive(self) -> bytes:
        try:
            # The server sends its second answer only when the first is acknowledged (Nagle's algorithm), and the kernel
            # would wait up to 40 ms with that. It forgets the wish, so it is told each time.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return self._read(int.from_bytes(self._read(2), "big"))
        except OSError as error:
            raise SessionError(f"no answer: {error}") from error

    def _read(self, count: int) -> bytes:
        data = self._input.read(count)
        if len(data) < count:
            raise SessionError("the server has closed the connection")
        return data


def _updates(changes: RecordChanges) -> Iterator[tuple[str, bytes]]:
    removed, added = _by_zone(changes.removed), _by_zone(changes.added)
    for zone in ZONES:
        for message in update_messages(zone, removed[zone], added[zone]):
            yield zone, message


def _by_zone(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {zone: [] for zone in ZONES}
    for record in records:
        found[next(zone for zone in ZONES if record.owner.endswith(zone))].append(record)
    return found
