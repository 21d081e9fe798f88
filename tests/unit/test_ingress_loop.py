"""The Ingress loop with a store and files: what it writes, what it forgets, and that no trouble ends it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.kinds import INGRESS, POD, SECRET
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import Expired
from testbed.cluster.store import Store
from testbed.network.ingress import control
from testbed.network.ingress.certificates import self_signed
from testbed.network.ingress.loop import IngressLoop
from tests.unit.ingress_objects import CLASS, ingress, path, rule
from tests.unit.stream_server import wait_until


@pytest.fixture
def store() -> Store:
    store = Store()
    store.create(CLASS)
    return store


@pytest.fixture
def loop(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IngressLoop]:
    monkeypatch.setattr(control, "DIRECTORY", tmp_path)
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")
    loop = IngressLoop(store)
    loop.start()
    yield loop
    loop.stop()


def _controller(name: str) -> JsonObject:
    container = {"name": "controller", "image": "registry.k8s.io/ingress-nginx/controller:v1.12"}
    spec = {"nodeName": "n1", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _ingress(name: str, **spec: object) -> JsonObject:
    made = ingress(name, rule(f"{name}.example", path("Prefix", "/", "web")), **spec)
    del made["metadata"]["uid"]
    return made


def _configuration(pod: str) -> str:
    file = control.controller_directory("default", pod) / "nginx.conf"
    return file.read_text() if file.exists() else ""


def test_a_controller_that_comes_later_has_the_rules_of_then_under_their_version(
    store: Store, loop: IngressLoop
) -> None:
    store.create(_ingress("before"))
    store.create(_controller("first"))
    wait_until(lambda: "before.example" in _configuration("first"))
    store.delete(POD, "first", "default")
    wait_until(lambda: not _configuration("first"))
    store.create(_ingress("meanwhile"))
    loop.wait_settled(10)
    store.create(_controller("second"))
    wait_until(lambda: "meanwhile.example" in _configuration("second"))
    (version,) = re.findall(r'enlist\("(\w+)"\)', _configuration("second"))
    assert loop._version == version, "otherwise it would be told to reload for ever"


def test_private_keys_and_what_was_said_go_with_their_objects(store: Store, loop: IngressLoop, tmp_path: Path) -> None:
    store.create(_controller("one"))
    wait_until(lambda: _configuration("one"))
    own = {file.name for file in (tmp_path / "certificates").iterdir()}
    certificate, _, key = self_signed("a.example").partition(b"-----BEGIN PRIVATE")
    data = {"tls.crt": certificate, "tls.key": b"-----BEGIN PRIVATE" + key}
    store.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "tls", "namespace": "default"},
            "data": {name: base64.b64encode(pem).decode() for name, pem in data.items()},
        }
    )
    store.create(_ingress("a", tls=[{"hosts": ["a.example"], "secretName": "tls"}]))
    wait_until(lambda: "/default_" in _configuration("one"))
    (named,) = set(re.findall(r"ssl_certificate (\S+/default_\w+\.pem);", _configuration("one")))
    assert Path(named).exists() and loop._told
    # As if nginx ran and had taken every configuration over.
    for pod in loop._pods.values():
        pod.attend = lambda pod=pod: setattr(pod, "trouble", "")  # type: ignore[method-assign, misc]
    store.delete(INGRESS, "a", "default")
    store.delete(SECRET, "tls", "default")
    wait_until(lambda: {file.name for file in (tmp_path / "certificates").iterdir()} == own)
    assert not [told for told in loop._told if "tls" in str(told) or "ServiceNotFound" in str(told)]


def test_no_trouble_ends_the_loop(store: Store, loop: IngressLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun = loop._begin, []

    def failing_at_first() -> None:
        begun.append(1)
        begin()
        if len(begun) == 1:
            raise ValueError("some object is odd")

    def expired(timeout_s: float | None = None) -> None:
        raise Expired("too old")

    monkeypatch.setattr(loop, "_begin", failing_at_first)
    monkeypatch.setattr(loop._watch, "next", expired)
    store.create(_controller("one"))  # wakes the watch; its next step finds that it has expired
    store.create(_ingress("after"))
    wait_until(lambda: begun and loop._thread.is_alive() and "after.example" in _configuration("one"))
