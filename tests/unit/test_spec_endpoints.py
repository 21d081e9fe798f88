"""How pods, nodes, outside hosts and Services are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.spec.endpoints import EndpointRef, ServiceRef, Target, parse_endpoint, parse_target


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("web", EndpointRef("pod", "default", "web")),
        ("web.1", EndpointRef("pod", "default", "web.1")),
        ("prod/web", EndpointRef("pod", "prod", "web")),
        ("pod/web", EndpointRef("pod", "default", "web")),
        ("pod/prod/web", EndpointRef("pod", "prod", "web")),
        ("pod/node/web", EndpointRef("pod", "node", "web")),
        ("pod/pod/web", EndpointRef("pod", "pod", "web")),
        ("pod/service/web", EndpointRef("pod", "service", "web")),
        ("node", EndpointRef("pod", "default", "node")),
        ("node/n1", EndpointRef("node", "", "n1")),
        ("ext/ext1", EndpointRef("ext", "", "ext1")),
    ],
)
def test_endpoints(text: str, reference: EndpointRef) -> None:
    assert parse_endpoint(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "a/", "/a", "A", "a b", "node/", "node/a/b", "a/b/c", "pod/a/b/c", "a.b/c", "-a"),
        *("service/web", "loadbalancer/web", "service/prod/web", "web:80"),
    ],
)
def test_other_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/POD"):
        parse_endpoint(text)


names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["pod", "node", "ext", "service", "loadbalancer", "default"]
)


endpoints = st.builds(EndpointRef, st.just("pod"), names, names) | st.builds(
    EndpointRef, st.sampled_from(["node", "ext"]), st.just(""), names
)
services = st.builds(ServiceRef, st.sampled_from(["service", "loadbalancer"]), names, names)
ports = st.integers(1, 65535)


@given(endpoints)
def test_a_written_endpoint_reads_back(reference: EndpointRef) -> None:
    assert parse_endpoint(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("web", Target(EndpointRef("pod", "default", "web"), None, None)),
        ("prod/web:8080", Target(EndpointRef("pod", "prod", "web"), None, 8080)),
        ("node/n1:30080", Target(EndpointRef("node", "", "n1"), None, 30080)),
        ("pod/service/web:1", Target(EndpointRef("pod", "service", "web"), None, 1)),
        ("service", Target(EndpointRef("pod", "default", "service"), None, None)),
        ("service/web:80", Target(None, ServiceRef("service", "default", "web"), 80)),
        ("service/prod/web:65535", Target(None, ServiceRef("service", "prod", "web"), 65535)),
        ("service/node/web:80", Target(None, ServiceRef("service", "node", "web"), 80)),
        ("loadbalancer/web:443", Target(None, ServiceRef("loadbalancer", "default", "web"), 443)),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        *("", ":80", "web:", "web:0", "web:65536", "web:http", "web:80:80", "web:-1", "web:8 0", "web:٨"),
        *("service/web", "service/:80", "service/a/b/c:80", "service/a.b:80", "service/A:80", "loadbalancer/web"),
    ],
)
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="service/NAME:PORT"):
        parse_target(text)


@given(st.builds(Target, endpoints, st.none(), st.none() | ports) | st.builds(Target, st.none(), services, ports))
def test_a_written_target_reads_back(target: Target) -> None:
    assert parse_target(str(target)) == target
