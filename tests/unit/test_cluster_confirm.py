"""Waiting for the bridges' confirmations."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster import identity
from testbed.cluster.confirm import NotConfirmed, parse_versions, versions_text, wait_confirmed, wait_versions
from testbed.cluster.kinds import CONFIG_MAP, NODE, POD
from testbed.cluster.store import Store
from tests.unit.cluster_objects import config_map, pod


@given(st.dictionaries(st.sampled_from(["Pod", "Node", "ConfigMap"]), st.integers(0)))
def test_versions_are_read_back(versions):
    assert parse_versions(versions_text(versions)) == versions


def test_the_text_is_pinned():
    assert versions_text({"Pod": 1003, "ConfigMap": 7, "Node": 4}) == "ConfigMap=7 Node=4 Pod=1003"
    assert parse_versions("") == {}


@pytest.fixture
def store():
    store = Store()
    store.create(config_map("controller-status", "kube-system"))
    return store


def confirm(store, **entries):
    store.patch(CONFIG_MAP, "controller-status", {"data": entries}, "kube-system")


def test_confirmed_already(store):
    changed = store.create(pod("a"))
    confirm(store, n1="Pod=2", n2="Pod=3")
    wait_confirmed(store, ["n1", "n2"], [changed], 0)


def test_a_confirmation_of_another_kind_or_an_older_version_does_not_count(store):
    first, second = store.create(pod("a")), store.create(pod("b"))
    confirm(store, n1="ConfigMap=99 Pod=2")
    wait_confirmed(store, ["n1"], [first], 0)
    with pytest.raises(NotConfirmed, match="bridges of n1"):
        wait_confirmed(store, ["n1"], [first, second], 0.01)


def test_the_wait_ends_with_the_last_node(store):
    changed = store.create(pod("a"))
    done = threading.Event()

    def wait():
        wait_confirmed(store, ["n1", "n2"], [changed], 5)
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    confirm(store, n1="Pod=2")
    store.create(config_map("of-no-interest"))
    assert not done.wait(0.05)
    confirm(store, n2="Pod=2")
    assert done.wait(5)
    thread.join()


def test_who_is_missing_is_named(store):
    changed = store.create(pod("a"))
    confirm(store, n2="Pod=2")
    with pytest.raises(NotConfirmed) as caught:
        wait_confirmed(store, ["n1", "n2", "n3"], [changed], 0.01)
    assert caught.value.nodes == ("n1", "n3")
    assert "is the controller running" in str(caught.value)


def test_what_the_controller_says_about_a_missing_bridge_is_passed_on(store):
    changed = store.create(pod("a"))
    confirm(store, **{"n1.error": "OFPET_BAD_MATCH", "n2": "Pod=2", "n2.error": "disconnected"})
    with pytest.raises(NotConfirmed, match=r"bridges of n1: n1: OFPET_BAD_MATCH$") as caught:
        wait_confirmed(store, ["n1", "n2"], [changed], 0.01)
    assert caught.value.errors == {"n1": "OFPET_BAD_MATCH"}


def test_a_status_that_does_not_exist_yet_is_waited_for():
    store = Store()
    changed = store.create(pod("a"))
    creator = threading.Timer(0.02, lambda: store.create(config_map("controller-status", "kube-system", n1="Pod=1")))
    creator.start()
    wait_confirmed(store, ["n1"], [changed], 5)
    creator.join()


def test_the_service_proxies_confirm_in_a_status_of_their_own(store):
    changed = store.create(pod("a"))
    confirm(store, n1="Pod=9")
    with pytest.raises(NotConfirmed, match="from the proxy rules of n1: is the Service proxy running"):
        wait_confirmed(store, ["n1"], [changed], 0.01, identity.PROXY_STATUS_NAME)
    store.create(config_map(identity.PROXY_STATUS_NAME, "kube-system", n1="Pod=9"))
    wait_confirmed(store, ["n1"], [changed], 0, identity.PROXY_STATUS_NAME)


def test_the_newest_versions_of_kinds_can_be_waited_for(store):
    store.create(pod("a"))
    store.create(pod("b"))
    versions = store.newest_versions([POD, NODE])
    assert versions == {"Pod": 3, "Node": 0}
    confirm(store, n1="Node=0 Pod=2")
    with pytest.raises(NotConfirmed):
        wait_versions(store, ["n1"], versions, 0.01)
    confirm(store, n1="Node=0 Pod=3")
    wait_versions(store, ["n1"], versions, 0)
