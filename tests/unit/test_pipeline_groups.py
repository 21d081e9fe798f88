"""How evenly groups spread connections, computed as Open vSwitch 3.1 does it, and how large they can be."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import IPv4Address

import pytest

from controllers.pipeline.groups import (
    MOST_DEVIATION,
    MOST_SLOTS,
    ballast_weight,
    bucket_shares,
    endpoints_problem,
    most_endpoints,
    service_group,
    webster_slots,
)
from testbed.cluster.values import Protocol, ServiceEndpoint, ServicePort


def port(endpoints: int, number: int = 0, protocol: Protocol = "TCP", timeout_s: int | None = None) -> ServicePort:
    behind = tuple(ServiceEndpoint(IPv4Address("10.200.0.0") + offset, 8080) for offset in range(endpoints))
    cluster_ip = IPv4Address("10.96.0.20")
    return ServicePort("shop", "web", "http", protocol, cluster_ip, 80, number, behind, affinity_timeout_s=timeout_s)


# As ovs-vswitchd 3.1.0 logs them (vlog/set ofproto_dpif:dbg: "Bucket 0: weight=100, target=5.33 hits=6").
@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ([100] * 3, (6, 5, 5)),
        ([100] * 3 + [2], (85, 85, 84, 2)),
        ([100] * 3 + [5], (21, 21, 21, 1)),
        ([100] * 9, (2, 2, 2, 2, 2, 2, 2, 1, 1)),
        ([1000] * 3 + [12], (85, 85, 85, 1)),
        ([1000] * 7 + [28], (37, 37, 37, 36, 36, 36, 36, 1)),
        ([1000] * 40 + [157], (*[7] * 15, *[6] * 25, 1)),
        ([1000, 1], ()),
    ],
)
def test_slots_are_those_of_open_vswitch(weights: list[int], slots: tuple[int, ...]) -> None:
    assert webster_slots(weights) == slots


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_every_endpoint_has_its_share(protocol: Protocol) -> None:
    for endpoints in (*range(1, 110), 127, 129, 200, 255, 256, 257, 500):
        shares = bucket_shares(endpoints, protocol)
        assert len(shares) == endpoints
        assert sum(shares) == 1
        assert max(abs(share * endpoints - 1) for share in shares) <= MOST_DEVIATION, endpoints


@pytest.mark.parametrize("endpoints", [1, 2, 4, 8, 16, 32, 64, 128, 256])
def test_powers_of_two_are_exact_without_ballast(endpoints: int) -> None:
    assert ballast_weight(endpoints) == 0
    assert set(bucket_shares(endpoints)) == {Fraction(1, endpoints)}


@pytest.mark.parametrize("endpoints", [3, 7, 9, 31, 40])
def test_ballast_makes_256_slots_and_has_one(endpoints: int) -> None:
    slots = webster_slots([1000] * endpoints + [ballast_weight(endpoints)])
    assert sum(slots) == MOST_SLOTS
    assert slots[-1] == 1


@pytest.mark.parametrize(
    ("endpoints", "protocol", "timeout_s"),
    [(37, "TCP", None), (100, "TCP", None), (2, "UDP", None), (16, "UDP", None), (2, "TCP", 60), (3, "SCTP", 60)],
)
def test_where_slots_will_not_do_open_vswitch_is_made_to_choose_by_scores(
    endpoints: int, protocol: Protocol, timeout_s: int | None
) -> None:
    service = port(endpoints, protocol=protocol, timeout_s=timeout_s)
    buckets = service_group(service, service.endpoints, local=False).buckets
    assert webster_slots([bucket.weight for bucket in buckets]) == ()


def test_the_ballast_falls_to_another_endpoint_of_another_service() -> None:
    ballast = {service_group(port(7, number), port(7).endpoints, False).buckets[-1].actions for number in range(7)}
    assert len(ballast) == 7


@pytest.mark.parametrize("timeout_s", [None, 10])
def test_too_many_endpoints_are_said_with_the_service_and_the_field(timeout_s: int | None) -> None:
    most = most_endpoints(timeout_s is not None)
    assert endpoints_problem(port(most, timeout_s=timeout_s)) is None
    problem = endpoints_problem(port(most + 1, timeout_s=timeout_s))
    assert problem is not None
    assert problem.startswith(f"Service shop/web: spec.ports[http] has {most + 1} usable endpoints; an OpenFlow group")
    assert problem.endswith(f"holds at most {most}")
