"""Units and container command lines: pure functions from text to values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controllers.pipeline import groups
from testbed.cluster.values import MAX_GROUP_ENDPOINTS, MAX_GROUP_ENDPOINTS_WITH_AFFINITY
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


@pytest.mark.parametrize(
    ("parse", "text", "meant"),
    [
        (parse_rate_mbit, "100Mbps", "100Mbit"),
        (parse_rate_mbit, "1 Gb/s", "1Gbit"),
        (parse_rate_mbit, "64K", "64kbit"),
        (parse_delay_ms, "2msec", "2ms"),
        (parse_delay_ms, "5µs", "5us"),
        (parse_delay_ms, "1 second", "1s"),
        (parse_loss_pct, "0.5", "0.5%"),
        (parse_loss_pct, "2percent", "2%"),
    ],
)
def test_units_written_otherwise_are_understood_but_not_taken(
    parse: Callable[[str], float], text: str, meant: str
) -> None:
    with pytest.raises(ValueError, match=rf"; did you mean {meant}\?$"):
        parse(text)
    parse(meant)


@pytest.mark.parametrize("text", ["100", "100MB/h", "5 minutes", "x"])
def test_nothing_is_guessed_from_other_units(text: str) -> None:
    for parse in (parse_rate_mbit, parse_delay_ms):
        with pytest.raises(ValueError) as caught:
            parse(text)
        assert "did you mean" not in str(caught.value)


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
        ({"image": "busybox"}, None),
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


@pytest.mark.parametrize("words", [["-s", "file:{}"], ["file:{}"], ["cat", "{}"], ["curl", "-s", "file:{}"]])
def test_arguments_of_the_curl_image_are_curls_unless_they_are_a_command(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("what it says")
    args = [word.format(tmp_path / "file") for word in words]
    argv = container_argv({"image": "docker.io/curlimages/curl:8.10.1", "args": args})
    assert argv is not None
    assert subprocess.run(argv, capture_output=True, text=True, timeout=10).stdout == "what it says"


def test_the_whoami_image_runs_with_the_testbeds_python() -> None:
    argv = container_argv({"image": "jwilder/whoami:v1"})
    assert argv is not None
    assert argv[0] == sys.executable
    assert argv[1].endswith("/whoami.py")


def test_an_unknown_image_without_a_command_names_the_known_ones() -> None:
    with pytest.raises(UnknownImage) as caught:
        container_argv({"image": "mongo:7"})
    assert caught.value.image == "mongo:7"
    assert {"pause", "nginx", "busybox", "whoami"} <= set(caught.value.known)


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


def test_the_largest_service_is_the_largest_group_of_the_pipeline() -> None:
    assert groups.most_endpoints(affinity=False) == MAX_GROUP_ENDPOINTS
    assert groups.most_endpoints(affinity=True) == MAX_GROUP_ENDPOINTS_WITH_AFFINITY
