"""The page for browsers: who may see it, what it may load, and that a cookie lets nobody change anything."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.apiserver.server import ApiServer
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest
from testbed.cluster.store import Store

TOKEN = "a-token"


class Source:
    """A cluster that has one answer for everything."""

    def picture(self) -> JsonObject:
        return {"name": "lab"}

    def trace(self, source: str, target: str) -> JsonObject:
        if source == "nobody":
            raise BadRequest("there is no nobody")
        return {"succeeded": True, "text": f"{source} -> {target}"}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer(Store(), socket.create_server(("127.0.0.1", 0)), token=TOKEN) as running:
        running.page = Source()
        yield running


def ask(
    server: ApiServer, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.tcp_port, timeout=5)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def cookie(server: ApiServer) -> str:
    status, headers, _ = ask(server, f"/ui?token={TOKEN}")
    assert (status, headers["Location"]) == (303, "/ui/")
    text, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    return text


@pytest.mark.parametrize("path", ["/ui", "/ui?token=", "/ui?token=wrong", "/ui/", "/ui/page.js", "/ui/picture"])
def test_nobody_sees_it_without_the_token(server: ApiServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert status == 401 and b"lab" not in body


def test_the_link_begins_a_session(server: ApiServer) -> None:
    session = cookie(server)
    status, headers, body = ask(server, "/ui/", Cookie=session)
    assert status == 200 and headers["Content-Type"].startswith("text/html") and body.startswith(b"<!doctype html>")
    assert ask(server, "/ui/picture", Cookie=session)[2] == b'{"name":"lab"}'
    assert ask(server, "/ui", Cookie=session)[0] == 303  # also without the token, once it began


def test_nothing_is_loaded_from_elsewhere(server: ApiServer) -> None:
    session = cookie(server)
    for path in ("/ui/", "/ui/page.js", "/ui/page.css"):
        _, headers, body = ask(server, path, Cookie=session)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        urls = set(re.findall(rb"\w+://[^\s\"'<>]+", body))
        assert urls <= {b"http://www.w3.org/2000/svg"}, urls  # a name, which nobody loads


def test_a_cookie_reads_objects_and_changes_none(server: ApiServer) -> None:
    session = cookie(server)
    assert ask(server, "/api/v1/pods", Cookie=session)[0] == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        status, _, _ = ask(server, "/api/v1/namespaces/default/configmaps", method, "{}", Cookie=session)
        assert status == 401, method


def test_a_cookie_opens_no_other_protocol(server: ApiServer) -> None:
    wanted = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://127.0.0.1:1"}
    for subresource in ("exec?command=id", "attach", "portforward?ports=80"):
        path = f"/api/v1/namespaces/default/pods/a/{subresource}"
        assert ask(server, path, Cookie=cookie(server), **wanted)[0] == 401, subresource


def test_a_page_of_another_name_that_leads_here_gets_nothing(server: ApiServer) -> None:
    session = cookie(server)
    name, _, value = session.partition("=")
    for host in (f"evil.example:{server.tcp_port}", "evil.example", "", "["):
        assert ask(server, "/ui/picture", Cookie=session, Host=host)[0] == 401
    other = name.rpartition("-")[0] + f"-{server.tcp_port + 1}={value}"
    assert ask(server, "/ui/picture", Cookie=other)[0] == 401  # another cluster's


def test_a_trace(server: ApiServer) -> None:
    session = cookie(server)
    path = "/ui/trace?from=pod/default/a%26b&to=service/default/web:80"
    assert (
        ask(server, path, Cookie=session)[2] == b'{"succeeded":true,"text":"pod/default/a&b -> service/default/web:80"}'
    )
    status, _, body = ask(server, "/ui/trace?from=nobody&to=web", Cookie=session)
    assert status == 400 and b"there is no nobody" in body
    assert ask(server, "/ui/trace?from=a", Cookie=session)[0] == 400
    assert ask(server, "/ui/other", Cookie=session)[0] == 404


def test_it_can_only_be_read(server: ApiServer) -> None:
    headers: dict[str, Any] = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(server, "/ui/", "POST", "x=1", **headers)[0] == 405
