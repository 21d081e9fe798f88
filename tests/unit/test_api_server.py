"""The API over HTTP: what Kubernetes clients rely on, and what a hostile or broken client meets."""

from __future__ import annotations

import http.client
import json
import os
import resource
import socket
import threading
import time
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.apiserver.connection import MAX_BODY_BYTES
from testbed.apiserver.server import ApiServer
from testbed.cluster.admission import cluster_admission
from testbed.cluster.client import ApiClient
from testbed.cluster.kinds import POD
from testbed.cluster.status import Invalid
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.unit.cluster_objects import config_map, pod, service

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def server():
    """One server for all tests; each test has a fresh store behind it."""
    with ApiServer(Store(), socket.create_server(("127.0.0.1", 0)), bookmark_interval_s=0.05) as server:
        yield server


@pytest.fixture
def store(server):
    server.store = Store()
    return server.store


@pytest.fixture
def ask(server, store):
    """Send one request, get (status code, decoded answer)."""

    def ask(method, path, body=None, media="application/json", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=5)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers["Content-Type"] = media
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "application/json"
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer

    return ask


def assert_status(answer, code, reason, text=""):
    status_code, status = answer
    assert (status_code, status["code"], status["reason"]) == (code, code, reason), status
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert text in status["message"]


def names(answer):
    return [wire["metadata"]["name"] for wire in answer[1]["items"]]


# What Kubernetes clients rely on


def test_discovery(ask):
    assert ask("GET", "/version")[1]["gitVersion"].startswith("v1.")
    assert ask("GET", "/api")[1]["versions"] == ["v1"]
    groups = {group["name"]: group["preferredVersion"]["version"] for group in ask("GET", "/apis")[1]["groups"]}
    assert groups["apps"] == groups["batch"] == groups["networking.k8s.io"] == groups["discovery.k8s.io"] == "v1"
    resources = {resource["name"]: resource for resource in ask("GET", "/api/v1")[1]["resources"]}
    assert {"configmaps", "secrets", "endpoints", "namespaces", "nodes", "pods", "services", "events"} <= set(resources)
    assert (resources["nodes"]["namespaced"], resources["pods"]["shortNames"]) == (False, ["po"])


def test_an_objects_life(ask, store):
    code, created = ask("POST", PODS, pod("a"))
    assert (code, created) == (201, store.get(POD, "a"))
    assert ask("GET", f"{PODS}/a") == (200, created)
    code, replaced = ask("PUT", f"{PODS}/a", {**created, "spec": {**created["spec"], "nodeName": "n1"}})
    assert (code, replaced["spec"]["nodeName"]) == (200, "n1")
    patch = {"spec": {"nodeName": None}, "status": {"phase": "Running"}}
    code, patched = ask("PATCH", f"{PODS}/a", patch, "application/merge-patch+json")
    assert (code, patched["spec"], "status" in patched) == (200, created["spec"], False)
    code, patched = ask("PATCH", f"{PODS}/a/status", patch, "application/merge-patch+json")
    assert (code, patched["spec"], patched["status"]) == (200, created["spec"], {"phase": "Running"})
    code, terminating = ask("DELETE", f"{PODS}/a", {"kind": "DeleteOptions", "apiVersion": "v1"})
    assert (code, terminating["metadata"]["deletionGracePeriodSeconds"]) == (200, 30)
    code, deleted = ask("DELETE", f"{PODS}/a?gracePeriodSeconds=0")
    assert (code, deleted["metadata"]["uid"]) == (200, created["metadata"]["uid"])
    assert_status(ask("GET", f"{PODS}/a"), 404, "NotFound", 'pods "a" not found')


def test_how_long_a_pod_may_take_to_end_is_read_from_query_and_body(ask, store):
    for number, (query, options, seconds) in enumerate(
        [
            ("?gracePeriodSeconds=7", None, 7),
            ("", {"gracePeriodSeconds": 9}, 9),
            ("", {}, 30),
            ("?gracePeriodSeconds=9" + "0" * 17, None, 2**31 - 1),
        ]
    ):
        store.create({**pod(f"p{number}"), "status": {"phase": "Running"}})
        _, ending = ask("DELETE", f"{PODS}/p{number}{query}", options)
        assert ending["metadata"]["deletionGracePeriodSeconds"] == seconds
    for options in ({"gracePeriodSeconds": -1}, {"gracePeriodSeconds": "3"}, {"propagationPolicy": "Some"}):
        assert_status(ask("DELETE", f"{PODS}/p0", options), 400, "BadRequest")
    assert store.get(POD, "p0")


def test_what_admission_refuses_is_answered_with_its_fields():
    listener = socket.create_server(("127.0.0.1", 0))
    with ApiServer(Store(admission=cluster_admission(NetworkConfig())), listener) as server:
        api = ApiClient(server.url)
        assert api.create(service("web"))["spec"]["clusterIP"] == "10.96.1.1"
        with pytest.raises(Invalid) as caught:
            api.create(service("late", clusterIP="10.96.1.1"))
    [cause] = caught.value.details["causes"]
    assert (cause["field"], cause["message"]) == ("spec.clusterIP", "is taken by Service default/web")


def test_lists(ask, store):
    for wire in (pod("b", nodeName="n1"), pod("a", nodeName="n2"), pod("a", "shop", nodeName="n1"), config_map("c")):
        wire["metadata"]["labels"] = {"app": wire["metadata"]["name"]}
        store.create(wire)
    code, everything = ask("GET", "/api/v1/pods")
    assert (code, everything["kind"], everything["metadata"]) == (200, "PodList", {"resourceVersion": "4"})
    assert names((200, everything)) == ["a", "b", "a"]
    for query, expected in [
        ("/api/v1/namespaces/shop/pods", ["a"]),
        (f"{PODS}?labelSelector=app%3Da", ["a"]),
        ("/api/v1/pods?labelSelector=app!=a", ["b"]),
        ("/api/v1/pods?labelSelector=app,!tier", ["a", "b", "a"]),
        ("/api/v1/pods?labelSelector=tier", []),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", ["b", "a"]),
        ("/api/v1/pods?fieldSelector=spec.nodeName=n1,metadata.namespace!=shop", ["b"]),
        ("/api/v1/configmaps?fieldSelector=metadata.name==c", ["c"]),
        ("/api/v1/nodes", []),
    ]:
        assert names(ask("GET", query)) == expected, query


def test_requests_on_one_connection_follow_each_other(server, store):
    connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=5)
    for index in range(3):
        connection.request("POST", PODS, json.dumps(pod(f"p{index}")))
        response = connection.getresponse()
        response.read()
        assert response.status == 201
        connection.request("POST", PODS, b"{")
        response = connection.getresponse()
        response.read()
        assert response.status == 400
    connection.close()
    assert len(store.list(POD).items) == 3


@contextmanager
def watching(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["Transfer-Encoding"] == "chunked"
    yield response
    response.close()
    connection.close()


def next_event(response):
    return json.loads(response.readline())


def test_a_watch_goes_on_from_the_list(server, store):
    store.create(pod("before"))
    with watching(server, f"{PODS}?watch=1&resourceVersion=1") as response:
        created = store.create(pod("a"))
        store.create(pod("a", "shop"))
        store.patch(POD, "a", {"spec": {"nodeName": "n1"}})
        store.delete(POD, "a")
        assert next_event(response) == {"type": "ADDED", "object": created}
        assert next_event(response)["type"] == "MODIFIED"
        assert next_event(response)["type"] == "DELETED"


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
def test_a_watch_without_a_version_begins_with_what_exists(server, store, version):
    store.create(pod("a"))
    with watching(server, f"/api/v1/pods?watch=true{version}") as response:
        assert next_event(response)["object"]["metadata"]["name"] == "a"
        store.create(pod("b"))
        assert next_event(response)["object"]["metadata"]["name"] == "b"


def test_bookmarks_say_how_far_a_quiet_watch_is(server, store):
    with watching(server, "/api/v1/nodes?watch=1&resourceVersion=0&allowWatchBookmarks=true") as response:
        store.create(pod("a"))
        bookmark = next_event(response)
        while bookmark["object"]["metadata"]["resourceVersion"] != "1":
            bookmark = next_event(response)
        assert (bookmark["type"], bookmark["object"]["kind"]) == ("BOOKMARK", "Node")


def test_a_watch_that_comes_too_late_is_told_so(server, ask):
    server.store = Store(history=2)
    for index in range(9):
        server.store.create(pod(f"w{index}"))
    with watching(server, "/api/v1/pods?watch=1&resourceVersion=1") as response:
        event = next_event(response)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert response.readline() == b""


def test_a_watch_ends_after_its_timeout_and_the_connection_goes_on(server, store):
    connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=5)
    connection.request("GET", "/api/v1/pods?watch=1&resourceVersion=0&timeoutSeconds=1")
    assert connection.getresponse().read() == b""
    connection.request("GET", "/version")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_watcher_that_leaves_is_noticed():
    with ApiServer(Store(), socket.create_server(("127.0.0.1", 0)), bookmark_interval_s=0.02) as server:
        with watching(server, "/api/v1/pods?watch=1"):
            wait_until(lambda: len(server._watches) == 1)
        wait_until(lambda: not server._watches)


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


# What a hostile or broken client meets


@pytest.mark.parametrize(
    ("request_", "code", "reason", "text"),
    [
        (("GET", "/"), 404, "NotFound", "could not find the requested resource"),
        (("GET", "/api/v1/pots"), 404, "NotFound", ""),
        (("GET", "/apis/apps/v1/pods"), 404, "NotFound", ""),
        (("GET", "/api/v1/pods/a"), 404, "NotFound", ""),
        (("GET", f"{PODS}/a/log"), 404, "NotFound", ""),
        (("GET", "/api/v1/namespaces/default/nodes/n1"), 404, "NotFound", ""),
        (("GET", "//[x/%00%ff"), 404, "NotFound", ""),
        (("POST", PODS, b"{"), 400, "BadRequest", "not JSON"),
        (("POST", PODS, b"\xff\xfe"), 400, "BadRequest", "not JSON"),
        (("POST", PODS, b'{"a": NaN}'), 400, "BadRequest", "NaN is not JSON"),
        (("POST", PODS, b'{"a": 1e999}'), 400, "BadRequest", "1e999 is too large"),
        (("POST", PODS, b"[1]"), 400, "BadRequest", "not a JSON object"),
        (("POST", PODS, b"[" * 100_000), 400, "BadRequest", "nested too deeply"),
        (("POST", PODS, b'{"a":' * 900 + b"1" + b"}" * 900), 400, "BadRequest", "URL is for Pod"),
        (("POST", PODS, config_map("a")), 400, "BadRequest", "the URL is for Pod"),
        (("POST", PODS, pod("a", "shop")), 400, "BadRequest", "does not match the namespace on the URL"),
        (("POST", PODS, {**pod("a"), "metadata": 5}), 400, "BadRequest", "no metadata"),
        (("POST", PODS, pod("A")), 422, "Invalid", "RFC 1123"),
        (("POST", "/api/v1/pods", pod("a")), 405, "MethodNotAllowed", "namespace"),
        (("PUT", f"{PODS}/b", pod("a")), 400, "BadRequest", "does not match the name on the URL"),
        (("PUT", PODS, pod("a")), 405, "MethodNotAllowed", ""),
        (("POST", f"{PODS}/a", pod("a")), 405, "MethodNotAllowed", ""),
        (("POST", PODS, b"x", "application/xml"), 415, "UnsupportedMediaType", "application/json"),
        (("POST", PODS, b"x: [", "application/yaml"), 400, "BadRequest", "not YAML"),
        (("PATCH", f"{PODS}/a", [], "application/patch"), 415, "UnsupportedMediaType", "merge-patch"),
        (("PATCH", f"{PODS}/a", [], "application/json-patch+json"), 404, "NotFound", 'pods "a" not found'),
        (("PATCH", f"{PODS}/a", {}, "application/merge-patch+json"), 404, "NotFound", 'pods "a" not found'),
        (("DELETE", f"{PODS}/a?dryRun=Some"), 400, "BadRequest", "dryRun"),
        (("DELETE", f"{PODS}/a?dryRun=All"), 404, "NotFound", ""),
        (("GET", "/api/v1/pods?labelSelector=a+in+(b"), 400, "BadRequest", "unable to parse label selector"),
        (("GET", "/api/v1/pods?labelSelector=a%3Eb"), 400, "BadRequest", "unable to parse label selector"),
        (("GET", "/api/v1/pods?fieldSelector=spec.image=x"), 400, "BadRequest", "not supported"),
        (("GET", "/api/v1/pods?watch=1&resourceVersion=-1"), 400, "BadRequest", "no whole number"),
        (("GET", "/api/v1/pods?watch=1&timeoutSeconds=soon"), 400, "BadRequest", "no whole number"),
        (("BREW", PODS), 501, "InternalError", "BREW"),
    ],
)
def test_refusals_are_status_objects(ask, request_, code, reason, text):
    assert_status(ask(*request_), code, reason, text)


def test_conflicts_are_told(ask):
    _, created = ask("POST", PODS, pod("a"))
    assert_status(ask("POST", PODS, pod("a")), 409, "AlreadyExists", 'pods "a" already exists')
    ask("PUT", f"{PODS}/a", {**created, "spec": {**created["spec"], "nodeName": "n1"}})
    assert_status(ask("PUT", f"{PODS}/a", created), 409, "Conflict", "has been modified")


def test_a_body_that_is_too_large_is_not_read(server, store):
    with socket.create_connection(("127.0.0.1", server.tcp_port), 5) as sock:
        sock.sendall(b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (PODS.encode(), MAX_BODY_BYTES + 1))
        answer = sock.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ") and b"RequestEntityTooLarge" in answer


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"hello\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/9.9\r\n\r\n", b"HTTP/1.1 505 "),
        (b"POST %s HTTP/1.1\r\nContent-Length: ten\r\n\r\n" % PODS.encode(), b"HTTP/1.1 400 "),
        (b"POST %s HTTP/1.1\r\nContent-Length: -1\r\n\r\n" % PODS.encode(), b"HTTP/1.1 400 "),
        (b"POST %s HTTP/1.1\r\nContent-Length: %s\r\n\r\n" % (PODS.encode(), b"9" * 5000), b"HTTP/1.1 413 "),
        (b"POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % PODS.encode(), b"HTTP/1.1 411 "),
        (b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 70_000), b"HTTP/1.1 414 "),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 "),
    ],
)
def test_what_is_no_proper_http_is_refused_and_the_connection_closed(server, sent, line):
    with socket.create_connection(("127.0.0.1", server.tcp_port), 5) as sock:
        sock.sendall(sent)
        answer = sock.makefile("rb").read()
    assert answer.startswith(line), answer
    status = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert status["kind"] == "Status" and "Traceback" not in status["message"]


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError])
def test_an_internal_error_shows_the_client_no_traceback(server, ask, caplog, monkeypatch, error):
    def broken(*_):
        raise error("a secret of ours")

    monkeypatch.setattr(server.store, "list", broken)
    code, status = ask("GET", PODS)
    assert (code, status["reason"]) == (500, "InternalError")
    assert "secret" not in json.dumps(status) and "a secret of ours" in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
LIKELY = {
    "apiVersion": st.just("v1") | JSON,
    "kind": st.sampled_from(["Pod", "Node", "ConfigMap"]) | JSON,
    "metadata": st.fixed_dictionaries(
        {}, optional={"name": st.just("a") | JSON, "namespace": st.just("default") | JSON, "labels": JSON}
    )
    | JSON,
    "spec": JSON,
    "status": JSON,
    "data": JSON,
}


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    path=st.sampled_from(["/api/v1/pods", PODS, f"{PODS}/a", "/api/v1/nodes", "/api/v1/configmaps/a"]) | st.text(),
    query=st.dictionaries(
        st.sampled_from(["labelSelector", "fieldSelector", "limit", "resourceVersion"]), st.text(max_size=9)
    ),
    body=st.fixed_dictionaries({}, optional=LIKELY) | JSON,
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_meets_an_internal_error(ask, method, path, query, body):
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    url = quote(path if path.startswith("/") else f"/{path}") + (f"?{urlencode(query)}" if query else "")
    code, answer = ask(method, url, body, media)
    assert code < 500, answer
    assert code < 400 or answer["kind"] == "Status"


# The server itself


def test_only_loopback_is_served():
    with socket.create_server(("0.0.0.0", 0)) as listener, pytest.raises(ValueError, match="loopback only"):
        ApiServer(Store(), listener)


def test_stopping_ends_watches_and_connections_and_is_quick():
    server = ApiServer(Store(), socket.create_server(("127.0.0.1", 0)))
    server.start()
    with watching(server, "/api/v1/pods?watch=1&resourceVersion=0") as response:
        started = time.perf_counter()
        server.stop()
        assert response.readline() == b""
        assert time.perf_counter() - started < 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.tcp_port))
    server.stop()


def test_a_client_that_says_nothing_more_is_left(server, store, monkeypatch):
    monkeypatch.setattr("testbed.apiserver.connection._SILENT_S", 0.05)
    for said in (b"", b"GET /version HTTP", b"POST /api/v1/pods HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", server.tcp_port), timeout=5) as client:
            client.sendall(said)
            assert client.recv(1000) == b""


def test_a_server_that_has_run_out_of_descriptors_takes_connections_again(server, store, caplog, monkeypatch):
    monkeypatch.setattr("testbed.apiserver.server._RESOURCES_RETRY_S", 0.01)
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), []
    with socket.socket() as client:
        client.settimeout(5)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.dup(client.fileno()))
            client.connect(("127.0.0.1", server.tcp_port))
            wait_until(lambda: "cannot take a connection" in caplog.text)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        client.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_thousand_pods_are_listed_in_milliseconds(ask, store):
    for index in range(1000):
        store.create(pod(f"w{index}"))

    def seconds():
        """Processor time of both ends."""
        started = time.process_time()
        assert len(ask("GET", "/api/v1/pods")[1]["items"]) == 1000
        return time.process_time() - started

    assert min(seconds() for _ in range(3)) < 0.05
