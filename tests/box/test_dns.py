"""The cluster's name server: what a real client is answered, how it follows the store, and that it is mended."""

from __future__ import annotations

import random
from typing import Any

import dns.flags
import dns.query
import dns.rcode
import dns.rdatatype
import dns.update
import pytest

from testbed.cluster.dns_records import DnsRecords, Record
from testbed.cluster.kinds import ENDPOINT_SLICE, POD, SERVICE
from testbed.cluster.store import Store
from testbed.network import netns
from testbed.network.dns.session import Session
from tests.box.dns_harness import (
    SETTLE_S,
    NameServer,
    cluster_ip_service,
    endpoint_slice,
    headless_service,
    running_pod,
    served,
    service,
)
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box


def names_are_answered() -> None:
    server = NameServer("dns-a")
    with served(server) as (store, dns_loop):
        store.create(cluster_ip_service("web", "10.96.3.4"))
        store.create(headless_service("ring"))
        store.create(endpoint_slice("ring", ["10.244.1.2", "10.244.1.3"]))
        store.create(headless_service("empty"))
        store.create(service("db", type="ExternalName", externalName="web.default.svc.cluster.local"))
        store.create(service("far", type="ExternalName", externalName="www.example.com"))
        store.create(running_pod("a", "10.244.1.2"))
        dns_loop.wait_settled(SETTLE_S)

        assert server.records("dns-version.cluster.local", "TXT") == {'"1.1.0"'}
        assert server.records("web.default.svc.cluster.local") == {"10.96.3.4"}
        assert server.records("WEB.Default.SVC.cluster.local") == {"10.96.3.4"}
        srv = "_http._tcp.web.default.svc.cluster.local"
        assert server.records(srv, "SRV") == {"0 100 80 web.default.svc.cluster.local"}
        assert [str(rrset.name) for rrset in server.ask(srv, "SRV").additional] == ["web.default.svc.cluster.local."]
        assert server.records("4.3.96.10.in-addr.arpa", "PTR") == {"web.default.svc.cluster.local"}
        assert server.records("ring.default.svc.cluster.local") == {"10.244.1.2", "10.244.1.3"}
        assert server.records("10-244-1-3.ring.default.svc.cluster.local") == {"10.244.1.3"}
        assert server.records("_peer._tcp.ring.default.svc.cluster.local", "SRV") == {
            f"0 100 7000 10-244-1-{number}.ring.default.svc.cluster.local" for number in (2, 3)
        }
        assert server.records("2.1.244.10.in-addr.arpa", "PTR") == {"10-244-1-2.ring.default.svc.cluster.local"}
        assert server.records("10-244-1-2.default.pod.cluster.local") == {"10.244.1.2"}
        # An alias inside the cluster is followed; there is nothing to follow one with that leads outside.
        assert server.records("db.default.svc.cluster.local") == {"10.96.3.4"}
        assert server.records("db.default.svc.cluster.local", "CNAME") == {"web.default.svc.cluster.local"}
        assert server.records("far.default.svc.cluster.local") == set()
        assert server.records("far.default.svc.cluster.local", "CNAME") == {"www.example.com"}

        for name, kind in (
            ("web.default.svc.cluster.local", "AAAA"),
            ("ring.default.svc.cluster.local", "AAAA"),
            ("default.svc.cluster.local", "A"),
            ("_tcp.web.default.svc.cluster.local", "SRV"),
        ):
            response = server.ask(name, kind)
            assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, []), response
            assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA], response
        for name, zone in (
            ("none.default.svc.cluster.local", "cluster.local."),
            ("empty.default.svc.cluster.local", "cluster.local."),
            ("_dns._udp.web.default.svc.cluster.local", "cluster.local."),
            ("10-244-9-9.default.pod.cluster.local", "cluster.local."),
            ("9.9.244.10.in-addr.arpa", "in-addr.arpa."),
            # The search path of a pod makes such names; then there is the outside, where nothing is.
            ("www.example.com.default.svc.cluster.local", "cluster.local."),
            ("www.example.com", "."),
        ):
            response = server.ask(name)
            assert response.rcode() == dns.rcode.NXDOMAIN, response
            assert [str(rrset.name) for rrset in response.authority] == [zone], response


@pytest.mark.parametrize("user", USERS)
def test_names_are_answered_as_the_specification_says(user: str) -> None:
    run_in_box(names_are_answered, user)


def large_answers_arrive() -> None:
    server = NameServer("dns-a")
    addresses = [f"10.244.{number // 200}.{number % 200 + 1}" for number in range(1000)]
    with served(server) as (store, dns_loop):
        store.create(headless_service("big"))
        for number in range(10):
            store.create(endpoint_slice("big", addresses[number * 100 : (number + 1) * 100], number))
        dns_loop.wait_settled(SETTLE_S)
        truncated = server.ask("big.default.svc.cluster.local")
        assert truncated.flags & dns.flags.TC
        response = server.ask_by_tcp("big.default.svc.cluster.local")
        assert {str(rdata) for rrset in response.answer for rdata in rrset} == set(addresses)
        # Clients take the first address; it is not always the same one.
        firsts = {str(server.ask_by_tcp("big.default.svc.cluster.local").answer[0][0]) for _ in range(30)}
        assert len(firsts) > 5


def test_a_large_headless_service_is_answered_in_full_by_tcp_and_in_turns() -> None:
    run_in_box(large_answers_arrive, USERS[0])


def _random_change(store: Store, choose: random.Random) -> None:
    """Create, replace or delete one Service, slice or pod."""
    name = f"s{choose.randrange(6)}"
    kind, wire = choose.choice(
        [
            (SERVICE, cluster_ip_service(name, f"10.96.0.{choose.randrange(20, 30)}")),
            (SERVICE, headless_service(name)),
            (SERVICE, service(name, type="ExternalName", externalName=f"e{choose.randrange(3)}.example.com")),
            (
                ENDPOINT_SLICE,
                endpoint_slice(name, [f"10.244.1.{n}" for n in choose.sample(range(2, 12), choose.randrange(5))]),
            ),
            (POD, running_pod(f"p{choose.randrange(4)}", f"10.244.2.{choose.randrange(2, 6)}")),
        ]
    )
    known = {one["metadata"]["name"]: one for one in store.list(kind).items}
    own_name = wire["metadata"]["name"]
    if own_name not in known:
        store.create(wire)
    elif choose.random() < 0.4:
        store.delete(kind, own_name, grace_period_s=0)
    else:
        store.replace(wire)


def _computed_anew(store: Store) -> set[Record]:
    records = DnsRecords()
    for kind in (SERVICE, ENDPOINT_SLICE, POD):
        for wire in store.list(kind).items:
            records.put(wire)
    records.changes()
    return set(records.records())


def _held_by(server: NameServer) -> set[Record]:
    """What the server really has."""
    session = Session(server.name)
    try:
        return session.records()
    finally:
        session.close()


def random_changes_arrive() -> None:
    servers = [NameServer("dns-a"), NameServer("dns-b")]
    choose = random.Random(3)
    sizes = set()
    with served(*servers) as (store, dns_loop):
        for _ in range(40):
            for _ in range(choose.randrange(1, 40)):
                _random_change(store, choose)
            dns_loop.wait_settled(SETTLE_S)
            expected = _computed_anew(store)
            for server in servers:
                assert _held_by(server) == expected
            sizes.add(len(expected))
    assert len(sizes) > 10, "the changes changed too little to prove anything"


def test_after_any_changes_every_server_has_what_a_full_computation_gives() -> None:
    run_in_box(random_changes_arrive, USERS[0])


def servers_are_mended() -> None:
    server = NameServer("dns-a")
    with served(server) as (store, dns_loop):
        store.create(cluster_ip_service("web", "10.96.3.4"))
        dns_loop.wait_settled(SETTLE_S)
        for cluster_ip in ("10.96.3.5", "10.96.3.6"):
            server.kill()
            store.replace(cluster_ip_service("web", cluster_ip))
            with pytest.raises(Exception, match="not up to date: kube-system/dns-a"):
                dns_loop.wait_settled(0.1)
            server.start()
            dns_loop.wait_settled(SETTLE_S)
            assert server.records("web.default.svc.cluster.local") == {cluster_ip}
            assert _held_by(server) == _computed_anew(store)


@pytest.mark.parametrize("user", USERS)
def test_a_server_that_starts_again_is_filled_again(user: str) -> None:
    run_in_box(servers_are_mended, user)


def servers_come_and_go() -> None:
    first, second = NameServer("dns-a"), NameServer("dns-b")
    with served(first) as (store, dns_loop):
        store.create(cluster_ip_service("web", "10.96.3.4"))
        second.start()
        store.create(second.pod)
        dns_loop.wait_settled(SETTLE_S)
        assert second.records("web.default.svc.cluster.local") == {"10.96.3.4"}
        store.delete(POD, first.name, first.pod["metadata"]["namespace"], grace_period_s=0)
        first.kill()
        store.replace(cluster_ip_service("web", "10.96.3.5"))
        dns_loop.wait_settled(SETTLE_S)
        assert second.records("web.default.svc.cluster.local") == {"10.96.3.5"}
        second.kill()


def test_servers_may_come_and_go() -> None:
    run_in_box(servers_come_and_go, USERS[0])


def a_burst_is_survived() -> None:
    server = NameServer("dns-a")
    with served(server) as (store, dns_loop):
        for number in range(20_000):  # more than the store keeps for those who follow
            store.create(running_pod(f"p{number}", f"10.{128 + number // 50_000}.{number // 250}.{number % 250 + 1}"))
        dns_loop.wait_settled(60)
        assert _held_by(server) == _computed_anew(store)


def test_a_burst_beyond_the_stores_history_is_caught_up_with() -> None:
    run_in_box(a_burst_is_survived, USERS[0])


def strangers_change_nothing() -> None:
    server = NameServer("dns-a")
    with served(server):
        with netns.entered(server.namespace):
            update: Any = dns.update.UpdateMessage("cluster.local")
            update.add("evil.default.svc", 5, "A", "10.0.0.1")
            response = dns.query.tcp(update, "127.0.0.1", timeout=5)
            transfer = dns.message.make_query("cluster.local.", "AXFR")
            refused = dns.query.tcp(transfer, "127.0.0.1", timeout=5)
        assert response.rcode() == dns.rcode.NOTAUTH
        assert refused.rcode() == dns.rcode.NOTAUTH
        assert server.ask("evil.default.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN


def test_only_the_testbed_may_change_records() -> None:
    run_in_box(strangers_change_nothing, USERS[0])
