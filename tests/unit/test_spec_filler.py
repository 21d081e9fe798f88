"""Generated Services: as many as asked, no two with one endpoint, away from what is measured, always the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.measure.plan import source_port
from testbed.measure.probes.base import ECHO_PORT, IPERF3_PORT, SOCKPERF_PORT
from testbed.spec.filler import TooManyEndpoints, filler_pods, filler_services, filler_slices
from testbed.spec.models import Build, Generate


def pod(number: int, container_port: int = 80, **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "namespace": "default", **metadata},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "ports": [{"containerPort": container_port}]}]},
        "status": {"podIP": f"10.244.0.{number + 2}"},
    }


def endpoints(slices: list[dict[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Service to its endpoints, each an address and a port."""
    found: dict[str, list[tuple[str, int]]] = {}
    for wire in slices:
        (port,) = wire["ports"]
        service = wire["metadata"]["labels"]["kubernetes.io/service-name"]
        found.setdefault(service, []).extend((entry["addresses"][0], port["port"]) for entry in wire["endpoints"])
    return found


@given(st.integers(1, 40), st.integers(0, 30), st.integers(1, 7))
def test_every_service_has_its_endpoints_alone(services: int, each: int, pods: int) -> None:
    generate = Generate(services=services, endpoints=each)
    slices = list(filler_slices(generate, [pod(number) for number in range(pods)]))
    by_service = endpoints(slices)
    assert [len(found) for found in by_service.values()] == [each] * (services if each else 0)
    assert max(Counter(entry for found in by_service.values() for entry in found).values(), default=1) == 1
    assert set(by_service) <= {wire["metadata"]["name"] for wire in filler_services(generate)}
    names = [wire["metadata"]["name"] for wire in slices]
    assert len(set(names)) == len(names)
    # As few slices as the pods allow, and all pods alike.
    assert len(slices) == len(by_service) * -(-each // pods)
    used = Counter(address for found in by_service.values() for address, _ in found)
    assert max(used.values(), default=0) - min(used.values(), default=0) <= services or len(used) < pods


def test_no_endpoint_is_a_port_that_takes_part_in_a_measurement() -> None:
    slices = list(filler_slices(Generate(services=10_000, endpoints=2), [pod(0, 8080), pod(1, 2000)]))
    used = {number for found in endpoints(slices).values() for _, number in found}
    assert not used & {80, 8080, 2000, ECHO_PORT, SOCKPERF_PORT, IPERF3_PORT}
    drawn = {source_port(seed, Build(), round_number, "path") for seed in range(30) for round_number in range(30)}
    assert not used & drawn
    assert not used & set(range(32768, 61000))  # net.ipv4.ip_local_port_range of Linux


def test_too_few_pods_are_told_with_what_they_would_do_for() -> None:
    with pytest.raises(TooManyEndpoints) as caught:
        list(filler_slices(Generate(services=5000, endpoints=100), [pod(0), pod(1)]))
    assert caught.value.most > 0
    list(filler_slices(Generate(services=5000, endpoints=caught.value.most), [pod(0), pod(1)]))
    with pytest.raises(TooManyEndpoints):
        list(filler_slices(Generate(services=5000, endpoints=caught.value.most + 1), [pod(0), pod(1)]))
    with pytest.raises(TooManyEndpoints):
        list(filler_slices(Generate(services=1, endpoints=1), []))


def test_pods_that_stay_are_preferred() -> None:
    made = pod(1, ownerReferences=[{"kind": "ReplicaSet", "name": "web"}])
    system = pod(2, namespace="kube-system")
    host = pod(3)
    host["spec"]["hostNetwork"] = True
    assert filler_pods([pod(0), made, system, host]) == [pod(0)]
    assert filler_pods([made, system, host]) == [made]
