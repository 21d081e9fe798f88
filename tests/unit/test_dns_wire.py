"""DNS messages: what is written is read by another implementation (dnspython), and the other way round."""

from __future__ import annotations

import struct
from contextlib import suppress

import dns.message
import dns.rdatatype
import dns.update
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.dns_records import Record
from testbed.network.dns.wire import (
    TTL_S,
    WireError,
    read_answer,
    read_transfer,
    transfer_request,
    update_messages,
    with_id,
)

ZONE = "cluster.local"
RECORDS = [
    Record("web.shop.svc.cluster.local", "A", "10.96.3.4"),
    Record("web.shop.svc.cluster.local", "AAAA", "fd00::12"),
    Record("db.shop.svc.cluster.local", "CNAME", "db.example.com"),
    Record("_http._tcp.web.shop.svc.cluster.local", "SRV", "0 100 80 web.shop.svc.cluster.local"),
    Record("dns-version.cluster.local", "TXT", "1.1.0"),
]


def _read(message: bytes) -> dns.update.UpdateMessage:
    read = dns.message.from_wire(with_id(message, 77))
    assert isinstance(read, dns.update.UpdateMessage)
    assert read.id == 77
    return read


def _entries(message: bytes) -> list[tuple[str, str, str, int, bool]]:
    """(owner, type, data, time to live, whether it is removed) as the other implementation reads them."""
    return [
        (
            str(rrset.name).rstrip("."),
            dns.rdatatype.to_text(rrset.rdtype),
            rdata.to_text().strip('"').rstrip("."),
            rrset.ttl,
            rrset.deleting == dns.rdataclass.NONE,
        )
        for rrset in _read(message).update
        for rdata in rrset
    ]


def test_an_update_is_read_as_it_was_meant() -> None:
    (message,) = update_messages(ZONE, RECORDS[:2], RECORDS[2:])
    assert [str(rrset.name) for rrset in _read(message).zone] == ["cluster.local."]
    assert sorted(_entries(message)) == sorted(
        [(*record, 0, True) for record in RECORDS[:2]] + [(*record, TTL_S, False) for record in RECORDS[2:]]
    )


def test_pointers_are_written_below_their_zone() -> None:
    pointer = Record("4.3.96.10.in-addr.arpa", "PTR", "web.shop.svc.cluster.local")
    (message,) = update_messages("in-addr.arpa", [], [pointer])
    assert _entries(message) == [(*pointer, TTL_S, False)]


def test_nothing_to_change_is_no_message() -> None:
    assert list(update_messages(ZONE, [], [])) == []


def test_of_one_name_the_removals_come_first_and_in_the_same_message() -> None:
    """A server carries out an update in order, and adds no alias beside an address (RFC 2136 section 3.4.2.2)."""
    names = [f"s{number}.shop.svc.cluster.local" for number in range(4000)]
    removed = [Record(name, "A", "10.96.3.4") for name in names]
    added = [Record(name, "CNAME", "db.example.com") for name in names]
    messages = list(update_messages(ZONE, removed, added))
    assert len(messages) > 1
    seen = []
    for message in messages:
        assert len(message) <= 65_535
        entries = _entries(message)
        for remove, add in zip(entries[::2], entries[1::2], strict=True):
            assert (remove[4], add[4]) == (True, False)
            assert remove[0] == add[0]
            seen.append(remove[0])
    assert seen == names


def test_a_name_with_more_than_fits_is_split() -> None:
    addresses = [f"10.244.{number // 250}.{number % 250 + 1}" for number in range(4000)]
    messages = list(update_messages(ZONE, [], [Record("big.shop.svc.cluster.local", "A", text) for text in addresses]))
    assert len(messages) > 1
    assert max(map(len, messages)) <= 65_535
    assert [entry[2] for message in messages for entry in _entries(message)] == addresses


def test_a_transfer_request_is_one() -> None:
    message = dns.message.from_wire(with_id(transfer_request("in-addr.arpa"), 5))
    (question,) = message.question
    assert (message.id, str(question.name), question.rdtype) == (5, "in-addr.arpa.", dns.rdatatype.AXFR)


def _transfer_message(records: list[Record]) -> bytes:
    """A transfer in one message, with compressed names, as the other implementation writes it."""
    request = dns.message.from_wire(transfer_request(ZONE))
    response = dns.message.make_response(request)
    response.id = 9
    soa = "kube-dns.cluster.local. hostmaster.cluster.local. 1 2 3 4 5"
    response.answer.append(dns.rrset.from_text(f"{ZONE}.", 5, "IN", "SOA", soa))
    response.answer.append(dns.rrset.from_text(f"{ZONE}.", 5, "IN", "NS", "kube-dns.cluster.local."))
    for owner, name, data in records:
        text = f"{data}." if name in ("CNAME", "PTR", "SRV") else data
        response.answer.append(dns.rrset.from_text(f"{owner}.", 5, "IN", name, text))
    response.answer.append(dns.rrset.from_text(f"{ZONE}.", 5, "IN", "SOA", soa))
    return response.to_wire()


def test_a_transfer_is_read() -> None:
    part = read_transfer(_transfer_message(RECORDS))
    assert part.records == RECORDS
    assert part.soa_count == 2
    assert part.answer == (9, 0)


def test_names_are_read_in_lower_case() -> None:
    """A server may keep the case in which it was told a name; they are the same (RFC 4343)."""
    message = _transfer_message([Record("Web.SHOP.svc.cluster.local", "A", "10.96.3.4")])
    assert read_transfer(message).records == [RECORDS[0]]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=40))
def test_damaged_messages_are_refused_and_nothing_else(cut: int, rest: bytes) -> None:
    with suppress(WireError):
        read_transfer(_transfer_message(RECORDS)[:cut] + rest)


@pytest.mark.parametrize("message", [b"", struct.pack("!6H", 1, 0, 0, 0, 0, 0)])
def test_what_is_no_response_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        read_answer(message)


def test_a_refusal_is_read() -> None:
    assert read_answer(struct.pack("!6H", 8, 0x8000 | 5 << 11 | 5, 0, 0, 0, 0)) == (8, 5)
