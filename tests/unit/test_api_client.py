"""The client and its list-and-watch loop, against the real server and against servers that misbehave."""

from __future__ import annotations

import http.client
import queue
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.apiserver.server import ApiServer
from testbed.cluster.client import ApiClient, ListWatch, Selection, _ChunkedBody
from testbed.cluster.confirm import parse_versions
from testbed.cluster.kinds import CONFIG_MAP, NODE, POD
from testbed.cluster.status import AlreadyExists, BadRequest, Conflict, Expired, NotFound
from testbed.cluster.store import Store
from tests.unit.cluster_objects import config_map, pod

SETTINGS = Selection(CONFIG_MAP, "kube-system", "metadata.name=cluster-network")
ALL = [Selection(NODE), Selection(POD), SETTINGS]


def serve(store, tcp_port=0):
    listener = socket.create_server(("127.0.0.1", tcp_port))
    server = ApiServer(store, listener, bookmark_interval_s=0.05)
    server.start()
    return server


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def server(store):
    server = serve(store)
    yield server
    server.stop()


@pytest.fixture
def api(server):
    return ApiClient(server.url, timeout_s=5)


@contextmanager
def following(api, selections=ALL):
    """A running ListWatch and the queue of its batches."""
    batches = queue.Queue()
    follower = ListWatch(api, selections, batches.put)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        yield follower, batches
    finally:
        follower.stop()
        thread.join(5)
        assert not thread.is_alive()


def take(batches):
    return batches.get(timeout=5)


def brief(batch):
    return [(event.type, event.object["metadata"]["name"]) for event in batch.events]


# Requests


def test_an_objects_life(api, store):
    created = api.create(pod("a", "shop"))
    assert created == store.get(POD, "a", "shop") == api.get(POD, "a", "shop")
    listed = api.list(Selection(POD, label_selector="!app"))
    assert (listed.items, listed.resource_version) == ([created], 1)
    assert api.list(Selection(POD, "default")).items == []
    replaced = api.replace({**created, "spec": {**created["spec"], "nodeName": "n1"}})
    assert api.patch(POD, "a", {"spec": {"nodeName": None}}, "shop")["spec"] == created["spec"]
    assert api.delete(POD, "a", "shop")["metadata"]["uid"] == replaced["metadata"]["uid"]


def test_refusals_come_out_as_typed_errors(api):
    created = api.create(pod("a"))
    api.patch(POD, "a", {"spec": {"nodeName": "n1"}})
    for error, act in [
        (NotFound, lambda: api.get(POD, "b")),
        (AlreadyExists, lambda: api.create(pod("a"))),
        (Conflict, lambda: api.replace(created)),
        (BadRequest, lambda: api.list(Selection(POD, field_selector="x=y"))),
        (BadRequest, lambda: api.patch(POD, "a", {"kind": "Node"})),
    ]:
        with pytest.raises(error) as caught:
            act()
        assert caught.value.code == error.code


def test_only_plain_http_urls_with_a_port_are_taken():
    for url in ("https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1"):
        with pytest.raises(ValueError, match="http://HOST:PORT"):
            ApiClient(url)


def test_watch_yields_changes_until_the_server_ends_it(api, store, server):
    store.create(pod("a"))
    events = api.watch(Selection(POD), 1)
    store.create(pod("b"))
    event = next(events)
    assert (event.type, event.object) == ("ADDED", store.get(POD, "b"))
    server.stop()
    assert list(events) == []


def test_watch_raises_when_the_version_is_gone(api, store):
    with pytest.raises(Expired):
        list(api.watch(Selection(POD), 99))
    with pytest.raises(BadRequest):
        list(api.watch(Selection(POD, field_selector="x=y"), 0))


# ListWatch


def test_the_first_batch_has_everything_and_later_ones_what_changed(api, store):
    store.create(config_map("cluster-network", "kube-system", mode="overlay"))
    store.create(config_map("controller-status", "kube-system"))
    store.create(pod("a"))
    with following(api) as (follower, batches):
        first = take(batches)
        assert sorted(brief(first)) == [("ADDED", "a"), ("ADDED", "cluster-network")]
        assert parse_versions(first.versions) == {"ConfigMap": 3, "Node": 3, "Pod": 3}
        store.patch(CONFIG_MAP, "controller-status", {"data": {"n1": "x"}}, "kube-system")
        patched = store.patch(POD, "a", {"spec": {"nodeName": "n1"}})
        second = take(batches)
        assert brief(second) == [("MODIFIED", "a")]
        assert parse_versions(second.versions)["Pod"] == 5
        assert follower.objects[Selection(POD)] == {("default", "a"): patched}
        store.delete(POD, "a")
        assert brief(take(batches)) == [("DELETED", "a")]
        assert follower.objects[Selection(POD)] == {}


def test_an_empty_cluster_gives_no_batch_until_something_is_there(api, store):
    with following(api) as (_, batches):
        store.create(pod("a"))
        assert brief(take(batches)) == [("ADDED", "a")]


def test_what_arrives_while_a_batch_is_handled_is_the_next_batch(api, store):
    busy, go_on, batches = threading.Event(), threading.Event(), []

    def slowly(batch):
        batches.append(batch)
        busy.set()
        assert go_on.wait(5)
        if sum(len(each.events) for each in batches) == 101:
            follower.stop()

    follower = ListWatch(api, ALL, slowly)
    thread = threading.Thread(target=follower.run)
    store.create(pod("first"))
    thread.start()
    assert busy.wait(5)
    for index in range(50):
        store.create(pod(f"w{index}"))
        store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{index}"}})
    wait_until(lambda: no_events_under_way(follower))
    go_on.set()
    thread.join(5)
    assert [len(batch.events) for batch in batches] == [1, 100]


def no_events_under_way(follower):
    """Whether the server has sent all events: each stream's socket holds the last one."""
    streams = [source.stream for source in follower._sources if source.selection.kind in (NODE, POD)]
    received = [stream._sock.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT) for stream in streams]
    return all(b'49"' in text for text in received)


def wait_until(condition):
    deadline = time.monotonic() + 5
    while True:
        try:
            if condition():
                return
        except BlockingIOError:
            pass
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_a_broken_connection_is_taken_up_where_it_stopped(api, store, server):
    store.create(pod("a"))
    with following(api) as (_, batches):
        take(batches)
        with server._lock:
            connections = list(server._connections)
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)
        store.create(pod("b"))
        assert brief(take(batches)) == [("ADDED", "b")]


def test_a_server_that_does_not_know_the_version_gives_the_difference(api, store, server):
    for name in ("gone", "changed", "also-gone"):
        store.create(pod(name))
    with following(api) as (follower, batches):
        take(batches)
        server.stop()
        other = Store()
        for name in ("new", "changed"):
            other.create(pod(name))
        second = serve(other, server.tcp_port)
        try:
            assert sorted(brief(take(batches))) == [
                ("ADDED", "new"),
                ("DELETED", "also-gone"),
                ("DELETED", "gone"),
                ("MODIFIED", "changed"),
            ]
            assert {name for _, name in follower.objects[Selection(POD)]} == {"changed", "new"}
        finally:
            second.stop()


def test_a_follower_that_fell_behind_the_history_lists_again():
    small = Store(history=4)
    server = serve(small)
    try:
        small.create(pod("w0"))
        api = ApiClient(server.url)
        follower = ListWatch(api, [Selection(POD)], lambda batch: None)
        batches = queue.Queue()
        follower._on_batch = batches.put
        follower._sources[0].version = 0
        for index in range(1, 20):
            small.create(pod(f"w{index}"))
        thread = threading.Thread(target=follower.run)
        thread.start()
        assert len(take(batches).events) == 20
        small.create(pod("last"))
        assert brief(take(batches)) == [("ADDED", "last")]
        follower.stop()
        thread.join(5)
    finally:
        server.stop()


def test_a_server_that_comes_late_is_waited_for(store):
    listener = socket.create_server(("127.0.0.1", 0))
    tcp_port = listener.getsockname()[1]
    listener.close()
    store.create(pod("a"))
    with following(ApiClient(f"http://127.0.0.1:{tcp_port}")) as (_, batches):
        server = serve(store, tcp_port)
        try:
            assert brief(take(batches)) == [("ADDED", "a")]
        finally:
            server.stop()


def test_a_request_that_is_wrong_is_not_repeated(api):
    follower = ListWatch(api, [Selection(POD, field_selector="x=y")], lambda batch: None)
    with pytest.raises(BadRequest):
        follower.run()


def test_an_error_of_the_receiver_ends_the_loop(api, store):
    store.create(pod("a"))

    def broken(batch):
        raise ZeroDivisionError

    follower = ListWatch(api, ALL, broken)
    with pytest.raises(ZeroDivisionError):
        follower.run()
    follower.stop()


@pytest.mark.parametrize("answer", [b"", b"not http\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"])
def test_something_that_is_no_api_is_an_error_not_a_hang(answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once():
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=answer_once)
        thread.start()
        api = ApiClient(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises((OSError, http.client.HTTPException, ValueError)):
            list(api.watch(Selection(POD), 0))
        thread.join()


def test_an_event_reaches_the_follower_in_well_under_a_millisecond_or_so(api, store):
    with following(api) as (_, batches):
        store.create(pod("first"))
        take(batches)
        latencies = []
        for index in range(50):
            started = time.perf_counter()
            store.create(pod(f"w{index}"))
            take(batches)
            latencies.append(time.perf_counter() - started)
    # 0.2 ms on the build machine when it is quiet; the bound only tells waking from polling.
    assert sorted(latencies)[len(latencies) // 2] < 0.005


def test_it_runs_in_a_green_thread_under_eventlets_monkey_patches(store, server):
    store.create(pod("a"))
    program = """
        import eventlet
        eventlet.monkey_patch()
        import sys
        from testbed.cluster.client import ApiClient, ListWatch, Selection
        from testbed.cluster.kinds import NODE, POD

        ticks = []
        def tick():
            while True:
                ticks.append(1)
                eventlet.sleep(0.001)
        eventlet.spawn(tick)

        api = ApiClient(sys.argv[1])
        def on_batch(batch):
            print([event.object["metadata"]["name"] for event in batch.events], flush=True)
            if batch.events[-1].object["metadata"]["name"] == "a":
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}
                api.create({**pod, "spec": {"containers": [{"name": "c", "image": "i"}]}})
            else:
                follower.stop()
        follower = ListWatch(api, [Selection(NODE), Selection(POD)], on_batch)
        eventlet.spawn(follower.run).wait()
        assert ticks, "the hub stood still"
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), server.url], capture_output=True, text=True, timeout=30
    )
    assert (finished.returncode, finished.stdout) == (0, "['a']\n['b']\n"), finished.stderr


def test_it_can_be_stopped_just_when_something_arrives_under_eventlet(store, server):
    store.create(pod("a"))
    program = """
        import eventlet
        eventlet.monkey_patch()
        import sys
        from eventlet.patcher import original
        from testbed.cluster.client import ApiClient, ListWatch, Selection
        from testbed.cluster.kinds import POD

        # Of the two the hub takes either first.
        batches = []
        followers = [ListWatch(ApiClient(sys.argv[1]), [Selection(POD)], batches.append) for _ in range(8)]
        running = [eventlet.spawn(follower.run) for follower in followers]
        while len(batches) < len(followers):
            eventlet.sleep(0.001)
        print("now", flush=True)
        # The hub stands still until there is something to read, and then finds that and the wish to stop together.
        for follower in followers:
            original("select").select([follower._sources[0].stream.fileno()], [], [])
            follower.stop()
        for each in running:
            each.wait()
    """
    argv = [sys.executable, "-c", textwrap.dedent(program), server.url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n", process.stderr.read()
        store.create(pod("b"))
        assert process.wait(30) == 0, process.stderr.read()


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_chunks_are_decoded_whatever_the_pieces(chunks, data):
    encoded = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=8)))
    body = _ChunkedBody()
    payload, ended = b"", False
    for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True):
        if ended:
            break
        assert not ended
        piece, ended = body.feed(encoded[start:end])
        payload += piece
    assert (payload, ended) == (b"".join(chunks), True)
