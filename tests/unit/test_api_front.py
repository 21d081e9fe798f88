"""The API's front: TLS ends there, plain HTTP passes, streams flow both ways, and bad clients harm nobody."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPSConnection, IncompleteRead
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from testbed.cluster.assign import config_map
from testbed.cluster.store import Store
from testbed.network.api_process import ApiProcess
from testbed.network.kubeconfig import HOST, Door, open_door, write_kubeconfig
from testbed.network.people_access import PeopleAccess

_LIMIT_S = 10.0


class Access(NamedTuple):
    """A door, and the front that serves at it."""

    door: Door
    front: ApiProcess


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """A door with an API server behind it."""
    with open_door() as opened, PeopleAccess(opened, tmp_path_factory.mktemp("front") / "front.log") as people:
        people.open(store := Store())
        store.create(config_map("default", "large", {"text": "x" * 500_000}))
        yield Access(opened, people.front)


@pytest.fixture
def door(access: Access) -> Door:
    return access.door


def trusting(door: Door) -> ssl.SSLContext:
    """What a client trusts that has read the kubeconfig."""
    context = ssl.create_default_context(cadata=door.certificate.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python does by itself from 3.13 on
    return context


def connect(door: Door, tls: bool = True) -> HTTPConnection:
    port = door.listener.getsockname()[1]
    if tls:
        return HTTPSConnection(HOST, port, timeout=_LIMIT_S, context=trusting(door))
    return HTTPConnection(HOST, port, timeout=_LIMIT_S)


def get(door: Door, path: str, token: str | None, tls: bool = True) -> tuple[int, Any]:
    connection = connect(door, tls)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("tls", [True, False])
def test_the_token_opens_it_and_nothing_else_does(door: Door, tls: bool) -> None:
    path = "/api/v1/namespaces/default/configmaps/large"
    status, answer = get(door, path, door.token, tls)
    assert (status, len(answer["data"]["text"])) == (200, 500_000)
    for wrong in (None, "wrong", door.token[:-1], door.token + "x"):
        status, answer = get(door, path, wrong, tls)
        assert (status, answer["kind"], answer["reason"]) == (401, "Status", "Unauthorized")


def test_a_watch_says_each_change_at_once_and_ends_with_its_client(door: Door) -> None:
    header = {"Authorization": f"Bearer {door.token}"}
    watching, writing = connect(door), connect(door)
    watching.request("GET", "/api/v1/configmaps?watch=1&resourceVersion=1", headers=header)
    stream = watching.getresponse()
    for number in range(3):
        body = json.dumps(config_map("default", f"made-{number}", {}))
        made = {"Content-Type": "application/json", **header}
        writing.request("POST", "/api/v1/namespaces/default/configmaps", body=body, headers=made)
        assert writing.getresponse().read()
        assert json.loads(stream.readline())["object"]["metadata"]["name"] == f"made-{number}"
    watching.close()
    writing.close()


def test_clients_that_are_no_use_do_not_hold_up_others(door: Door) -> None:
    port = door.listener.getsockname()[1]
    silent = [socket.create_connection((HOST, port), timeout=_LIMIT_S) for _ in range(20)]
    half = socket.create_connection((HOST, port), timeout=_LIMIT_S)
    half.sendall(b"\x16\x03\x01")  # a handshake that goes no further
    socket.create_connection((HOST, port)).close()
    distrusting = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection((HOST, port)) as raw:
        distrusting.wrap_socket(raw, server_hostname=HOST)
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: get(door, "/api/v1/configmaps", door.token)[0], range(40)))
    assert statuses == [200] * 40
    for connection in (*silent, half):
        connection.close()


def test_while_it_is_killed_and_started_again_nobody_is_refused(access: Access) -> None:
    watching = connect(access.door)
    watching.request("GET", "/api/v1/configmaps?watch=1", headers={"Authorization": f"Bearer {access.door.token}"})
    stream = watching.getresponse()
    with ThreadPoolExecutor(8) as pool:
        os.kill(access.front.pid, signal.SIGKILL)
        with pytest.raises((IncompleteRead, ssl.SSLError)):
            stream.read()
        answers = [pool.submit(get, access.door, "/api/v1/configmaps", access.door.token, tls=True) for _ in range(8)]
        access.front.revive()
        assert [answer.result()[0] for answer in answers] == [200] * 8
    watching.close()


def test_it_serves_inside_the_cluster_too_and_so_does_the_one_that_takes_its_place(tmp_path: Path) -> None:
    with open_door() as opened, PeopleAccess(opened, tmp_path / "front.log") as people:
        people.open(Store())
        inside = socket.create_server((HOST, 0))
        people.serve_inside(inside)
        address = inside.getsockname()

        def ask() -> int:
            with socket.create_connection(address, _LIMIT_S) as plain:
                tls = trusting(opened).wrap_socket(plain, server_hostname="kubernetes.default.svc")
                tls.sendall(b"GET /api/v1/pods HTTP/1.1\r\nHost: kubernetes\r\n\r\n")
                return int(tls.recv(1000).split()[1])

        assert ask() == 401
        os.kill(people.front.pid, signal.SIGKILL)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(ask)  # it waits in the queue
            while not people.front.has_died:
                pass
            people.front.revive()
            assert answer.result() == 401


def test_its_end_ends_open_connections(tmp_path: Path) -> None:
    with open_door() as opened:
        address = opened.listener.getsockname()
        with PeopleAccess(opened, tmp_path / "front.log") as people:
            people.open(Store())
            watching = connect(opened)
            header = {"Authorization": f"Bearer {opened.token}"}
            watching.request("GET", "/api/v1/configmaps?watch=1", headers=header)
            stream = watching.getresponse()
        with pytest.raises((IncompleteRead, ssl.SSLError)):
            stream.read()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_the_kubeconfig_is_its_owners_alone_and_has_all_it_takes(tmp_path: Path) -> None:
    with open_door() as door, open_door() as other:
        file = tmp_path / "lab.kubeconfig"
        write_kubeconfig(file, "lab", door)
        write_kubeconfig(file, "lab", door)  # a later cluster of the same name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        config = json.loads(file.read_text())
        assert config["current-context"] == "lab"
        (cluster,) = config["clusters"]
        assert cluster["cluster"]["server"] == f"https://127.0.0.1:{door.listener.getsockname()[1]}"
        assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == door.certificate
        assert config["users"] == [{"name": "lab", "user": {"token": door.token}}]
        assert config["contexts"] == [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}]
        assert len(door.token) >= 32
        assert other.token != door.token
