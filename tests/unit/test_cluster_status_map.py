"""The status ConfigMap against the real API."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from testbed.apiserver.server import ApiServer
from testbed.cluster.client import ApiClient
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import resource_version
from testbed.cluster.status import NotFound
from testbed.cluster.status_map import StatusMap
from testbed.cluster.store import Store

NAME, NAMESPACE = "some-status", "kube-system"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def status(store: Store) -> Iterator[StatusMap]:
    server = ApiServer(store, socket.create_server(("127.0.0.1", 0)))
    server.start()
    yield StatusMap(ApiClient(server.url, timeout_s=5), NAME)
    server.stop()


def test_a_first_process_finds_none_and_a_second_what_the_first_left(store: Store, status: StatusMap) -> None:
    assert status.existing() is None
    assert store.get(CONFIG_MAP, NAME, NAMESPACE)["data"] == {}
    status.write({}, {"n1": "Node=1"})
    assert status.existing() == {"n1": "Node=1"}


def test_only_the_difference_is_written(store: Store, status: StatusMap) -> None:
    status.existing()
    before = {"n1": "Node=1", "n2": "Node=1", "n2.error": "not connected"}
    status.write({}, before)
    store.patch(CONFIG_MAP, NAME, {"data": {"n1": "of another hand"}}, NAMESPACE)
    wanted = {"n1": "Node=1", "n2": "Node=2"}
    assert status.write(before, wanted) == wanted
    found = store.get(CONFIG_MAP, NAME, NAMESPACE)
    assert found["data"] == {"n1": "of another hand", "n2": "Node=2"}
    status.write(wanted, dict(wanted))
    assert resource_version(store.get(CONFIG_MAP, NAME, NAMESPACE)) == resource_version(found)


def test_a_status_that_was_deleted_meanwhile_is_told(store: Store, status: StatusMap) -> None:
    status.existing()
    store.delete(CONFIG_MAP, NAME, NAMESPACE)
    with pytest.raises(NotFound):
        status.write({}, {"n1": "Node=1"})
