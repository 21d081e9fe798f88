"""What is done with one running name server, by its control socket."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import get_args

from testbed.cluster import identity
from testbed.cluster.dns_records import CLUSTER_DOMAIN, REVERSE_DOMAINS, Record, RecordChanges, RecordType
from testbed.network.dns.control import END, END_OF_BLOCK, ControlError, Decoder, Unit, encode_unit

ZONES = (CLUSTER_DOMAIN, *REVERSE_DOMAINS)
# CoreDNS' own default: clients follow a change within seconds even if they keep answers.
TTL_S = 5

# Every server's own directory, named after its pod's host name (programs/cluster_dns.py makes it).
_DIRECTORY = Path("/run/cluster-dns")
# A transaction takes milliseconds; this long only when the server is stuck, or stopped.
_TIMEOUT_S = 10.0
_SEND_BYTES, _RECEIVE_BYTES = 1 << 16, 1 << 18

_PRIMARY = f"{identity.DNS_NAME}.{identity.DNS_NAMESPACE}.svc.{CLUSTER_DOMAIN}."
# Serial (the server counts it up), refresh, retry, expire (no secondary server asks), and how many seconds an absence
# may be remembered.
_SOA = f"{_PRIMARY} hostmaster.{CLUSTER_DOMAIN}. 1 7200 1800 86400 {TTL_S}"
_TYPES: Mapping[str, RecordType] = {name: name for name in get_args(RecordType)}


class SessionError(Exception):
    """The server is gone, does not answer, or has refused something."""


class Session:
    """One running server process. ``hostname`` is its pod's. All methods raise SessionError.

    After an error that :meth:`apply` or :meth:`resync` raises, the session is to be closed.
    """

    def __init__(self, hostname: str) -> None:
        self._path = _DIRECTORY / hostname / "knot.sock"
        try:
            with self._connect() as connection:
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            self._process = os.pidfd_open(struct.unpack("3i", credentials)[0])
        except OSError as error:
            raise SessionError(f"no connection: {error.strerror}") from error

    def fileno(self) -> int:
        """The server's process, to be waited for: it becomes readable when it ends (pidfd_open(2))."""
        return self._process

    def has_ended(self) -> bool:
        """Whether the server's process has ended."""
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Let go of the process."""
        os.close(self._process)

    def apply(self, changes: RecordChanges) -> None:
        """Change the server's records; returns when clients get the new answers. Each zone changes all at once."""
        removed, added = _by_zone(changes.removed), _by_zone(changes.added)
        with self._open() as control:
            for zone in ZONES:
                if removed[zone] or added[zone]:
                    control.ask("zone-begin", zone)
                    control.change(zone, removed[zone], added[zone])

    def resync(self, wanted: Collection[Record]) -> None:
        """Make the server's records exactly those wanted, whatever it has now. Before the first time it has no zones,
        and answers every question about them with SERVFAIL rather than that a name does not exist."""
        by_zone = _by_zone(wanted)
        with self._open() as control:
            for zone in ZONES:
                try:
                    control.ask("zone-begin", zone)
                except SessionError:  # a transaction is open since something went wrong
                    control.ask("zone-abort", zone)
                    control.ask("zone-begin", zone)
                units = control.ask("zone-get", zone)
                if not units:
                    control.ask_all("zone-set", _apex(zone))
                found = set(_records(units))
                added = [record for record in by_zone[zone] if record not in found]
                control.change(zone, found.difference(by_zone[zone]), added)

    def records(self) -> set[Record]:
        """What the server has."""
        with self._open() as control:
            return {record for zone in ZONES for record in _records(control.ask("zone-read", zone))}

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection

    def _open(self) -> _Control:
        try:
            return _Control(self._connect())
        except OSError as error:
            raise SessionError(f"no connection: {error.strerror}") from error


class _Control:
    """One conversation on a control socket. The server leads one at a time, and ends one that pauses."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __enter__(self) -> _Control:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._connection.sendall(END)
        self._connection.close()

    def change(self, zone: str, removed: Iterable[Record], added: Iterable[Record]) -> None:
        """Fill the open transaction of a zone and carry it out."""
        self.ask_all("zone-unset", (_unit(zone, record) for record in removed))
        self.ask_all("zone-set", (_unit(zone, record) for record in added))
        self.ask("zone-commit", zone)

    def ask(self, command: str, zone: str) -> list[Unit]:
        """The answer to a command about a zone."""
        return self.ask_all(command, [{"zone": f"{zone}."}])

    def ask_all(self, command: str, units: Iterable[Unit]) -> list[Unit]:
        """The answer to a command with any number of arguments, which the server takes one after the other."""
        batch = bytearray()
        try:
            for unit in units:
                batch += encode_unit({"cmd": command, **unit})
                if len(batch) > _SEND_BYTES:
                    self._connection.sendall(batch)
                    batch.clear()
            if not batch:
                return []
            self._connection.sendall(batch + END_OF_BLOCK)
            answer = self._answer()
        except (OSError, ControlError) as error:
            raise SessionError(f"{command}: {error}") from error
        for unit in answer:
            if "error" in unit:
                raise SessionError(f"{command} {unit.get('zone', '')}: {unit['error']}")
        return answer

    def _answer(self) -> list[Unit]:
        decoder = Decoder()
        units: list[Unit] = []
        while not decoder.block_ended:
            data = self._connection.recv(_RECEIVE_BYTES)
            if not data:
                raise SessionError("the server has closed the connection")
            decoder.feed(data)
            units += decoder.units()
        return units


def _unit(zone: str, record: Record) -> Unit:
    data = f"{record.data}." if record.type in ("CNAME", "PTR", "SRV") else record.data
    return {"zone": f"{zone}.", "owner": f"{record.owner}.", "ttl": str(TTL_S), "type": record.type, "data": data}


def _apex(zone: str) -> Iterator[Unit]:
    for name, data in (("SOA", _SOA), ("NS", _PRIMARY)):
        yield {"zone": f"{zone}.", "owner": f"{zone}.", "ttl": str(TTL_S), "type": name, "data": data}


def _records(units: Iterable[Unit]) -> Iterator[Record]:
    """Those among a zone's records that come from objects."""
    for unit in units:
        if known := _TYPES.get(unit["type"]):
            data = unit["data"].rstrip(".").strip('"')
            yield Record(unit["owner"].rstrip("."), known, str(ip_address(data)) if known == "AAAA" else data)


def _by_zone(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {zone: [] for zone in ZONES}
    for record in records:
        found[next(zone for zone in ZONES if record.owner.endswith(zone))].append(record)
    return found
