"""Which health checks a cluster's nodes answer, and with what."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from testbed.cluster.values import ServiceEndpoint, ServicePort
from testbed.network.health_check import CheckPoint, Health, health_checks, response
from tests.unit.pipeline_states import two_nodes

STATE = two_nodes("overlay")


def endpoint(text: str, node_name: str, target_port: int = 80, **conditions: bool) -> ServiceEndpoint:
    return ServiceEndpoint(IPv4Address(text), target_port, node_name, **conditions)


def service_port(
    *endpoints: ServiceEndpoint, port_name: str = "http", check: int | None = 30500, group_number: int = 1
) -> ServicePort:
    return ServicePort(
        namespace="shop",
        name="web",
        port_name=port_name,
        protocol="TCP",
        cluster_ip=IPv4Address("10.96.3.4"),
        service_port=80,
        group_number=group_number,
        endpoints=endpoints,
        node_port=30080,
        external_local=True,
        health_check_node_port=check,
    )


def checks(*ports: ServicePort) -> dict[CheckPoint, Health]:
    return health_checks(replace(STATE, service_ports=ports))


def test_every_node_answers_with_its_own_ready_endpoints() -> None:
    found = checks(
        service_port(
            endpoint("10.244.0.2", "n1"),
            endpoint("10.244.0.3", "n1"),
            endpoint("10.244.0.4", "n1", ready=False),
            endpoint("10.244.1.2", "n2", ready=False, terminating=True),
            endpoint("192.0.2.1", ""),
        )
    )
    assert found == {
        CheckPoint("n1", 30500): Health("shop", "web", 2),
        CheckPoint("n2", 30500): Health("shop", "web", 0),
    }


def test_an_endpoint_of_several_ports_counts_once() -> None:
    first = service_port(endpoint("10.244.0.2", "n1", 80))
    second = service_port(endpoint("10.244.0.2", "n1", 443), port_name="https", group_number=2)
    assert checks(first, second)[CheckPoint("n1", 30500)].local_endpoints == 1


def test_other_services_have_no_check() -> None:
    assert checks(service_port(endpoint("10.244.0.2", "n1"), check=None)) == {}


@pytest.mark.parametrize(
    ("local_endpoints", "proxy_is_healthy", "status"), [(2, True, 200), (0, True, 503), (2, False, 503)]
)
def test_the_answer_is_kube_proxys(local_endpoints: int, proxy_is_healthy: bool, status: int) -> None:
    head, _, body = response(Health("shop", "web", local_endpoints), proxy_is_healthy).decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    assert "Content-Type: application/json" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert json.loads(body) == {
        "service": {"namespace": "shop", "name": "web"},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": proxy_is_healthy,
    }
