"""Requests that no client should send: the API refuses each of them, says why, and goes on."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.apiserver.connection import MAX_BODY_BYTES
from testbed.apiserver.patching import PATCHES
from testbed.apiserver.protobuf_objects import PROTOBUF
from testbed.apiserver.server import ApiServer
from testbed.cluster.admission import cluster_admission
from testbed.cluster.kinds import KINDS
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig
from tests.unit.api_requests import TABLE, request
from tests.unit.cluster_objects import pod, service


@pytest.fixture(scope="module")
def server():
    store = Store(admission=cluster_admission(NetworkConfig()))
    for wire in (pod("a"), service("a")):
        store.create(wire)
    with ApiServer(store, socket.create_server(("127.0.0.1", 0)), bookmark_interval_s=0.02) as server:
        yield server
        assert request(server.tcp_port, "GET", "/readyz").code == 200
        assert not server._watches


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["a", "default", "b"]) | st.text(max_size=4)
PARTS = st.sampled_from(["metadata", "spec", "status", "data", "kind", "ports", "containers", "template", "selector"])
LIKELY = st.recursive(JSON, lambda inner: st.dictionaries(PARTS | NAMES, inner, max_size=4), max_leaves=8)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES | JSON,
        "generateName": NAMES | JSON,
        "namespace": NAMES | JSON,
        "labels": JSON,
        "annotations": JSON,
        "ownerReferences": JSON,
        "finalizers": JSON,
        "managedFields": JSON,
        "resourceVersion": JSON,
    },
)


@st.composite
def requests(draw):
    kind = draw(st.sampled_from(KINDS))
    path = kind.path("default") + draw(
        st.sampled_from(["", "/a", "/a/status", "/a/scale", "/a/eviction", "/a/binding"])
    )
    known = ["limit", "continue", "labelSelector", "fieldSelector", "resourceVersion", "dryRun", "fieldValidation"]
    known += ["fieldManager", "force", "resourceVersionMatch", "gracePeriodSeconds", "propagationPolicy"]
    texts = st.sampled_from(["1", "0", "All", "a=b", "a in (b)", "Orphan", "Strict", "me", "true"]) | st.text(
        max_size=4
    )
    query = draw(st.dictionaries(st.sampled_from(known), texts, max_size=3))
    wire = {
        "apiVersion": draw(st.just(kind.api_version) | JSON),
        "kind": draw(st.just(kind.name) | st.sampled_from(["Scale", "Eviction", "Binding"]) | JSON),
        "metadata": draw(METADATA | JSON),
        **draw(st.fixed_dictionaries({}, optional={"spec": LIKELY, "status": LIKELY, "data": JSON, "target": JSON})),
    }
    operation = st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]) | JSON},
        optional={
            "path": st.sampled_from(["/spec", "/metadata/labels", "/x/-", ""]) | JSON,
            "value": JSON,
            "from": JSON,
        },
    )
    body = draw(st.just(wire) | JSON | st.lists(operation, max_size=3))
    media = draw(st.sampled_from([*PATCHES, "application/json", "application/yaml", PROTOBUF]))
    method = draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]))
    return method, path, query, json.dumps(body).encode(), media, draw(st.sampled_from(["*/*", TABLE]))


@given(requests())
@settings(max_examples=60, deadline=None)
def test_no_request_meets_an_internal_error(server, sent):
    method, path, query, body, media, accept = sent
    answer = request(server.tcp_port, method, f"{path}?{urlencode(query)}", body, media, Accept=accept)
    assert answer.code < 500, answer.body
    assert answer.code < 400 or answer.body["kind"] == "Status"


@given(
    st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"k8s\0\x0a\x0b\x0a\x02v1\x12\x03Pod\x12" + tail)
)
@settings(max_examples=100, deadline=None)
def test_no_bytes_in_protocol_buffers_meet_an_internal_error(server, body):
    answer = request(server.tcp_port, "POST", "/api/v1/namespaces/default/pods", body, PROTOBUF)
    assert answer.code in (400, 409, 422)


@given(st.binary(max_size=200), st.sampled_from([b"", b"GET ", b"POST /api/v1/pods HTTP/1.1\r\n", b"\r\n"]))
@settings(max_examples=60, deadline=None)
def test_bytes_that_are_no_http_end_their_connection_only(server, noise, start):
    with socket.create_connection(("127.0.0.1", server.tcp_port), 5) as sock:
        sock.sendall(start + noise + b"\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", b'{"a":' * 50_000),
        ("application/yaml", b"[" * 3_000),
        ("application/yaml", b"a: &a [x]\nb: [" + b"*a," * 1000 + b"]"),
        ("application/apply-patch+yaml", b"{a: " * 5_000),
        ("application/json-patch+json", json.dumps([{"op": "add", "path": "/spec", "value": 1}] * 10_001).encode()),
        (PROTOBUF, b"k8s\0" + b"\x0a\x80" * 1000),
    ],
    ids=["deep JSON", "deep YAML", "many references", "deep apply", "many operations", "broken lengths"],
)
def test_large_and_deep_bodies(server, media, body):
    for method, path in (("POST", "/api/v1/namespaces/default/pods"), ("PATCH", "/api/v1/namespaces/default/pods/a")):
        answer = request(server.tcp_port, method, f"{path}?fieldManager=me", body, media)
        assert 400 <= answer.code < 500 and answer.body["kind"] == "Status"


def test_fields_of_managers_that_are_nested_deeply(server):
    deep = json.loads('{"f:a":' * 450 + "{}" + "}" * 450)
    wire = pod("deep")
    wire["metadata"]["managedFields"] = [{"manager": "m", "operation": "Update", "fieldsV1": deep}]
    assert request(server.tcp_port, "POST", "/api/v1/namespaces/default/pods", wire, User_Agent="x/1").code in (
        201,
        400,
    )
    assert request(server.tcp_port, "GET", "/api/v1/namespaces/default/pods", Accept=TABLE).code == 200


def test_references_in_yaml_do_not_multiply(server):
    """A thousand million lols: the document is small, what it stands for is not."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    answer = request(
        server.tcp_port, "POST", "/api/v1/namespaces/default/pods", "\n".join(lines).encode(), "application/yaml"
    )
    assert answer.code == 400


def test_a_body_of_the_allowed_size_is_read(server):
    body = b" " * (MAX_BODY_BYTES - 2) + b"{}"
    assert request(server.tcp_port, "POST", "/api/v1/namespaces/default/pods", body).code == 400
