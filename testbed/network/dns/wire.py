"""DNS messages as bytes: the updates (RFC 2136) and the zone transfer (RFC 5936) that keep a name server true. Pure."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from testbed.cluster.dns_records import Record, RecordType

# CoreDNS' own default: clients follow a change within seconds even if they keep answers.
TTL_S = 5

_TYPES: dict[RecordType, int] = {"A": 1, "CNAME": 5, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}
_TYPE_NAMES = {number: name for name, number in _TYPES.items()}
_SOA, _AXFR = 6, 252
_IN, _NONE = 1, 254
_QUERY, _UPDATE = 0, 5
# A message over TCP has at most 65,535 bytes (RFC 1035 section 4.2.2).
_MAX_MESSAGE = 65_535
_MAX_LABEL = 63
_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")  # type, class, time to live, length of the data
# The zone's name stands right behind the header; names below it refer there (RFC 1035 section 4.1.4).
_ZONE_POINTER = struct.pack("!H", 0xC000 | _HEADER.size)


class WireError(ValueError):
    """Bytes that are no DNS message, or not the one that was expected."""


class Answer(NamedTuple):
    """The parts of a response that its client looks at. ``rcode`` 0 is success."""

    message_id: int
    rcode: int


@dataclass
class TransferPart:
    """One message of a zone transfer: its records of the known types, and how often the zone's SOA stands in it."""

    answer: Answer
    records: list[Record]
    soa_count: int


def encode_name(name: str) -> bytes:
    """A name without final dot as labels; "" is the root."""
    return b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split(".") if label) + b"\0"


def with_id(message: bytes, message_id: int) -> bytes:
    """The message under another id."""
    return message_id.to_bytes(2, "big") + message[2:]


def update_messages(zone: str, removed: Iterable[Record], added: Iterable[Record]) -> Iterator[bytes]:
    """The messages (with id 0) that change a zone; a server carries each out as a whole or not at all.

    Everything about one name goes into one message, the removals before the additions, so that no name is ever seen
    half changed (but for a name with more than about 60,000 bytes of changes).
    """
    by_owner: dict[str, list[bytes]] = defaultdict(list)
    for record in removed:
        by_owner[record.owner].append(_resource(record, zone, _NONE, 0))
    for record in added:
        by_owner[record.owner].append(_resource(record, zone, _IN, TTL_S))
    head = encode_name(zone) + struct.pack("!HH", _SOA, _IN)
    room = _MAX_MESSAGE - _HEADER.size - len(head)
    batch: list[bytes] = []
    size = 0
    for resources in by_owner.values():
        together = sum(map(len, resources)) <= room - size
        for resource in resources:
            if size + len(resource) > room or not together:
                if batch:
                    yield _update(head, batch)
                batch, size, together = [], 0, True
            batch.append(resource)
            size += len(resource)
    if batch:
        yield _update(head, batch)


def transfer_request(zone: str) -> bytes:
    """Asks (with id 0) for all records of a zone."""
    question = encode_name(zone) + struct.pack("!HH", _AXFR, _IN)
    return _HEADER.pack(0, _QUERY << 11, 1, 0, 0, 0) + question


def read_answer(message: bytes) -> Answer:
    """Whom a message answers, and with which success. Raises WireError."""
    if len(message) < _HEADER.size or not message[2] & 0x80:
        raise WireError("this is no response")
    return Answer(int.from_bytes(message[:2], "big"), message[3] & 0x0F)


def read_transfer(message: bytes) -> TransferPart:
    """One message of a zone transfer. Raises WireError."""
    part = TransferPart(read_answer(message), [], 0)
    try:
        _, _, questions, answers, _, _ = _HEADER.unpack_from(message)
        offset = _HEADER.size
        for _ in range(questions):
            _, offset = _read_name(message, offset)
            offset += 4
        for _ in range(answers):
            owner, offset = _read_name(message, offset)
            number, _, _, length = _FIXED.unpack_from(message, offset)
            offset += _FIXED.size
            if number == _SOA:
                part.soa_count += 1
            elif number in _TYPE_NAMES:
                name = _TYPE_NAMES[number]
                part.records.append(Record(owner, name, _read_data(message, name, offset, length)))
            offset += length
    except (struct.error, IndexError, ValueError) as error:
        raise WireError(f"a damaged message: {error}") from error
    return part


def _update(head: bytes, resources: list[bytes]) -> bytes:
    return _HEADER.pack(0, _UPDATE << 11, 1, 0, len(resources), 0) + head + b"".join(resources)


def _resource(record: Record, zone: str, record_class: int, ttl_s: int) -> bytes:
    below = record.owner.removesuffix(zone).rstrip(".")
    owner = encode_name(below)[:-1] + _ZONE_POINTER
    data = _data(record)
    return owner + _FIXED.pack(_TYPES[record.type], record_class, ttl_s, len(data)) + data


def _data(record: Record) -> bytes:
    match record.type:
        case "A":
            return IPv4Address(record.data).packed
        case "AAAA":
            return IPv6Address(record.data).packed
        case "CNAME" | "PTR":
            return encode_name(record.data)
        case "SRV":
            priority, weight, number, target = record.data.split(" ")
            return struct.pack("!HHH", int(priority), int(weight), int(number)) + encode_name(target)
        case "TXT":
            text = record.data.encode()
            return bytes((len(text),)) + text


def _read_data(message: bytes, name: RecordType, offset: int, length: int) -> str:
    match name:
        case "A":
            return str(IPv4Address(message[offset : offset + length]))
        case "AAAA":
            return str(IPv6Address(message[offset : offset + length]))
        case "CNAME" | "PTR":
            return _read_name(message, offset)[0]
        case "SRV":
            numbers = struct.unpack_from("!HHH", message, offset)
            return " ".join(map(str, (*numbers, _read_name(message, offset + 6)[0])))
        case "TXT":
            return message[offset + 1 : offset + 1 + message[offset]].decode()


def _read_name(message: bytes, offset: int) -> tuple[str, int]:
    """A name, and where what follows it begins."""
    labels = []
    after = 0
    while length := message[offset]:
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | message[offset + 1]
            after = after or offset + 2
            if target >= offset:
                raise WireError("a name refers forward")
            offset = target
        elif length > _MAX_LABEL:
            raise WireError("a label of an unknown kind")
        else:
            labels.append(message[offset + 1 : offset + 1 + length].decode("ascii"))
            offset += 1 + length
    return ".".join(labels).lower(), after or offset + 1
