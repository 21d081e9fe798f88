"""Pods as nobody writes them by mistake: their volumes stay within the box, and no hook waits for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testbed.network.pods.hooks import ask_page
from testbed.network.pods.host_ports import host_ports
from testbed.network.pods.volumes import CannotMount, container_mounts, make_volumes


def pod(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {"volumes": list(volumes)}}


@pytest.mark.parametrize("name", ["../victim", "../../victim", "a/b", "..", ".", "", "a\0b"])
@pytest.mark.parametrize("kind", ["emptyDir", "configMap", "persistentVolumeClaim"])
def test_a_name_leads_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    box, victim = tmp_path / "box", tmp_path / "victim"
    monkeypatch.setattr("testbed.network.pods.volumes.CLAIMS", box / "claims")
    victim.mkdir(mode=0o700)
    volumes = {
        "emptyDir": {"name": name, "emptyDir": {}},
        "configMap": {"name": name, "configMap": {"name": "c", "optional": True}},
        "persistentVolumeClaim": {"name": "v", "persistentVolumeClaim": {"claimName": name}},
    }
    with pytest.raises(CannotMount):
        make_volumes(pod(volumes[kind]), box / "pod", lambda kind, name: None)
    assert victim.stat().st_mode & 0o777 == 0o700
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []


def test_a_subpath_through_a_pods_own_link_makes_nothing_outside(tmp_path: Path) -> None:
    volumes, outside = tmp_path / "volumes", tmp_path / "outside"
    outside.mkdir()
    wire = pod({"name": "v", "emptyDir": {}})
    make_volumes(wire, volumes, lambda kind, name: None)
    (volumes / "v" / "link").symlink_to(outside)
    container = {"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "link/new"}]}
    with pytest.raises(CannotMount, match="leads out"):
        container_mounts(wire, container, volumes, {})
    assert list(outside.iterdir()) == []


def test_a_host_ip_that_is_no_address_is_in_no_rule() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1; flush ruleset"}]
    ports += [{"containerPort": 80, "hostPort": number} for number in (8081, 8082)]
    wire = {**pod(), "status": {"podIP": "10.244.0.2"}}
    wire["spec"] = {"containers": [{"name": "main", "ports": ports}]}
    assert [port.host_port for port in host_ports(wire)] == [8081, 8082]


def test_an_item_without_a_source_is_said(tmp_path: Path) -> None:
    volume = {"name": "v", "downwardAPI": {"items": [{"path": "p"}]}}
    with pytest.raises(CannotMount, match="p names no source"):
        make_volumes(pod(volume), tmp_path, lambda kind, name: None)


@contextmanager
def a_server_that_never_ends() -> Iterator[int]:
    """It answers with a byte every 20 ms, for as long as somebody listens."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                while not over.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                return

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        thread.join()


def asked(monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], limit_s: float) -> tuple[bool, str]:
    """What becomes of a hook, asked from here instead of a node."""

    @contextmanager
    def here(_node: str) -> Iterator[None]:
        yield

    monkeypatch.setattr("testbed.network.pods.hooks.netns.entered", here)
    told: list[tuple[bool, str]] = []
    answered = threading.Event()

    def done(passed: bool, text: str) -> None:
        told.append((passed, text))
        answered.set()

    ask_page("n1", "127.0.0.1", {}, wanted, limit_s, done)
    assert answered.wait(limit_s + 5)
    return told[0]


def test_a_hook_does_not_wait_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server_that_never_ends() as number:
        began = time.monotonic()
        passed, _ = asked(monkeypatch, {"port": number}, 0.3)
    assert not passed and time.monotonic() - began < 3


@pytest.mark.parametrize("wanted", [{"port": 99999}, {"port": "nobody"}, {"port": 80, "host": "ä..\0"}])
def test_a_hook_that_asks_nobody_is_told(monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any]) -> None:
    passed, text = asked(monkeypatch, wanted, 1.0)
    assert not passed and text
