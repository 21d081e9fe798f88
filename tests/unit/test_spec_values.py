"""Units, endpoints and container command lines: pure functions from text to values."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.spec.endpoints import EndpointRef, parse_endpoint
from testbed.spec.images import UnknownImage, catalogue, container_argv, container_environment, image_name
from testbed.spec.units import parse_delay_ms, parse_loss_pct, parse_rate_mbit


@pytest.mark.parametrize(
    ("text", "mbit"), [("100Mbit", 100), ("1Gbit", 1000), ("64kbit", 0.064), ("2.5 gbit", 2500), ("8kbit", 0.008)]
)
def test_rates_are_in_mbit(text: str, mbit: float) -> None:
    assert parse_rate_mbit(text) == pytest.approx(mbit)


@pytest.mark.parametrize(("text", "ms"), [("500us", 0.5), ("2ms", 2), ("0ms", 0), ("1s", 1000), ("0.25 ms", 0.25)])
def test_delays_are_in_ms(text: str, ms: float) -> None:
    assert parse_delay_ms(text) == pytest.approx(ms)


@pytest.mark.parametrize(("text", "percent"), [("0.1%", 0.1), ("0%", 0), ("100%", 100), ("2 %", 2)])
def test_losses_are_in_percent(text: str, percent: float) -> None:
    assert parse_loss_pct(text) == pytest.approx(percent)


@pytest.mark.parametrize("text", ["", "5", "ms", "5 minutes", "-1ms", "1,5ms", "61s", "1e3ms", "5ms ", "٥ms"])
def test_other_delays_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="for example 500us"):
        parse_delay_ms(text)


@pytest.mark.parametrize("text", ["100", "100Mbps", "1kbit", "401Gbit", "10MB", "bit"])
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="for example 100Mbit"):
        parse_rate_mbit(text)


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
        ("node", EndpointRef("pod", "default", "node")),
        ("node/n1", EndpointRef("node", "", "n1")),
        ("ext/ext1", EndpointRef("ext", "", "ext1")),
    ],
)
def test_endpoints(text: str, reference: EndpointRef) -> None:
    assert parse_endpoint(text) == reference


@pytest.mark.parametrize(
    "text", ["", "/", "a/", "/a", "A", "a b", "node/", "node/a/b", "a/b/c", "pod/a/b/c", "a.b/c", "-a"]
)
def test_other_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/POD"):
        parse_endpoint(text)


names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["pod", "node", "ext", "default"]
)


@given(
    st.builds(EndpointRef, st.just("pod"), names, names)
    | st.builds(EndpointRef, st.sampled_from(["node", "ext"]), st.just(""), names)
)
def test_a_written_endpoint_reads_back(reference: EndpointRef) -> None:
    assert parse_endpoint(str(reference)) == reference


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27", "nginx"),
        ("docker.io/library/nginx:1.27-alpine", "nginx"),
        ("registry.k8s.io:443/pause@sha256:0123", "pause"),
        ("localhost:5000/team/whoami", "whoami"),
        ("", ""),
    ],
)
def test_images_are_known_by_their_last_name(reference: str, name: str) -> None:
    assert image_name(reference) == name


@pytest.mark.parametrize(
    ("container", "argv"),
    [
        ({"image": "pause"}, None),
        ({"image": "pause", "command": ["sleep", "1"]}, ["sleep", "1"]),
        ({"image": "iperf3"}, ["iperf3", "-s"]),
        ({"image": "iperf3", "args": ["-s", "-p", "80"]}, ["iperf3", "-s", "-p", "80"]),
        ({"image": "iperf3", "command": ["echo"]}, ["echo"]),
        ({"image": "other", "command": ["/bin/echo"], "args": ["a", "b"]}, ["/bin/echo", "a", "b"]),
        ({"image": "busybox"}, ["busybox", "sleep", "infinity"]),
        ({"image": "busybox", "command": ["httpd", "-f"]}, ["busybox", "httpd", "-f"]),
        ({"image": "busybox", "command": ["/bin/sh", "-c", "x"]}, ["/bin/sh", "-c", "x"]),
        ({"image": "busybox", "args": ["nc", "-l"]}, ["busybox", "nc", "-l"]),
        (
            {
                "image": "x",
                "command": ["echo", "$(A)-$(B)", "$$(A)", "$(C)"],
                "env": [{"name": "A", "value": "1"}, {"name": "B"}],
            },
            ["echo", "1-", "$(A)", "$(C)"],
        ),
    ],
)
def test_a_container_runs_what_kubernetes_would_run(container: dict[str, Any], argv: list[str] | None) -> None:
    assert container_argv(container) == argv


def test_the_whoami_image_runs_with_the_testbeds_python() -> None:
    argv = container_argv({"image": "traefik/whoami:v1"})
    assert argv is not None
    assert argv[0] == sys.executable
    assert argv[1].endswith("/whoami.py")


def test_an_unknown_image_without_a_command_names_the_known_ones() -> None:
    with pytest.raises(UnknownImage) as caught:
        container_argv({"image": "redis:7"})
    assert caught.value.image == "redis:7"
    assert set(caught.value.known) == {"pause", "nginx", "busybox", "whoami", "iperf3", "sockperf", "cluster-dns"}


def test_an_environment_refers_to_what_stands_before_it() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}, {"name": "C", "value": "$(D)"}, {"name": "D"}]
    assert container_environment({"env": env}) == {"A": "1", "B": "12", "C": "$(D)", "D": ""}


def test_every_image_of_the_catalogue_has_a_command_line_or_none() -> None:
    for name, image in catalogue().items():
        argv = container_argv({"image": name})
        assert (argv is None) == (not image.process)
        assert image.about
        for word in argv or ():
            assert "{" not in word
