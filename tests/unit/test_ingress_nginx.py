"""What a real nginx does with Ingresses: on loopback, with an ordinary user's ports, without a cluster."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from testbed.cluster.ingress.nginx import Files, configuration
from testbed.cluster.ingress.values import Key
from testbed.cluster.objects import JsonObject
from testbed.network.ingress import control
from testbed.network.ingress.certificates import self_signed
from tests.unit.free_ports import free_ports
from tests.unit.ingress_objects import findings, ingress, path, rule, translated
from tests.unit.ingress_table import HOSTS, OWN, SPECIFIED, WILDCARD, Rule

SERVICES = ("first", "second", "third", "spare")
_SPARE = {"service": {"name": "spare", "port": {"number": 80}}}


class _Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the answer leaves in one segment

    def do_GET(self) -> None:
        body = f"{self.server.name} {self.path}\n{self.headers}".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Nginx:
    """An nginx with the configuration of some Ingresses, on ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.tls_port, self._health_port = free_ports(3)
        self._certificates: dict[Key | None, Path] = {}
        for name in ("own", "tls"):
            file = directory / f"{name}.pem"
            file.write_bytes(self_signed(f"{name}.example"))
            self._certificates[None if name == "own" else ("default", name)] = file
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, *ingresses: dict[str, object]) -> str:
        """Write the configuration, and return its version."""
        translation = translated(*ingresses, services=SERVICES)
        assert findings(translation) == []
        files = Files(str(self.directory), str(control.LUA), lambda key: str(self._certificates[key]))
        text, version = configuration(translation.servers, files)
        for known, own in ((80, self.port), (443, self.tls_port), (10254, self._health_port)):
            text = re.sub(rf"listen {known}\b", f"listen 127.0.0.1:{own}", text)
        (self.directory / "nginx.conf").write_text(text)
        return version

    def start(self, table: str, version: str) -> None:
        (self.directory / "endpoints").write_text(table)
        argv = ["/usr/sbin/nginx", "-e", "stderr", "-c", str(self.directory / "nginx.conf")]
        with (self.directory / "out").open("ab") as output, (self.directory / "log").open("ab") as errors:
            self.process = subprocess.Popen(argv, stdout=output, stderr=errors)
        self.wait_for(version)

    def wait_for(self, version: str) -> None:
        """Wait until every worker that takes connections has this configuration."""
        deadline = time.monotonic() + 10
        while True:
            try:
                state = control.read_state(self.directory)
                if state.configurations == {version}:
                    return
            except control.NginxUnreachable:
                pass
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.005)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def get(self, host: str, url: str = "/") -> tuple[int, str]:
        """Status and body, or the target of a redirect."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", url, headers={"Host": host})
        response = connection.getresponse()
        text = response.headers.get("Location") or response.read().decode()
        connection.close()
        return response.status, text

    def name_of_certificate(self, host: str) -> bytes:
        """The certificate that is shown to a client that asks for a host."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.tls_port), timeout=10)
        with context.wrap_socket(plain, server_hostname=host) as secure:
            return secure.getpeercert(binary_form=True) or b""


@pytest.fixture(scope="module")
def table() -> Iterator[str]:
    """A server for each Service, and the table of their endpoints."""
    servers = []
    for name in SERVICES:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
        server.name = name  # type: ignore[attr-defined]
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append((name, server))
    yield "v1\n" + "".join(f"default/{name}/80 127.0.0.1:{server.server_port}\n" for name, server in servers)
    for _, server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    one = Nginx(tmp_path)
    yield one
    if one.process is not None:
        one.stop()


def test_the_specifications_table_of_paths(nginx: Nginx, table: str) -> None:
    rows = (*SPECIFIED, *OWN)
    hosts = [
        ingress(f"row-{number}", rule(f"row-{number}.example", *_paths(row.rules))) for number, row in enumerate(rows)
    ]
    nginx.start(table, nginx.write(*hosts, ingress("default", defaultBackend=_SPARE)))
    found, wanted = [], []
    for number, row in enumerate(rows):
        by_service = {"spare": None, **dict(zip(SERVICES, row.rules, strict=False))}
        for request in row.requests:
            _, text = nginx.get(f"row-{number}.example", request)
            found.append((row.rules, request, by_service[text.split()[0]]))
            wanted.append((row.rules, request, row.taken_by))
    assert found == wanted


def _paths(rules: Iterable[Rule]) -> list[JsonObject]:
    """Each rule leads to another Service."""
    return [path(kind, text, service) for (kind, text), service in zip(rules, SERVICES, strict=False)]


def test_hosts_and_wildcards(nginx: Nginx, table: str) -> None:
    wild = ingress("wild", rule(WILDCARD, path("Prefix", "/", "first")))
    exact = ingress("exact", rule("exact.foo.com", path("Prefix", "/", "second")))
    nginx.start(table, nginx.write(wild, exact))
    for host, matches in HOSTS:
        status, text = nginx.get(host)
        assert (status, text.split()[0] == "first") == ((200, True) if matches else (404, False)), host
    assert nginx.get("exact.foo.com")[1].startswith("second")
    assert nginx.get("EXACT.foo.com:8080")[1].startswith("second")


def test_the_default_backend_takes_what_nothing_else_does(nginx: Nginx, table: str) -> None:
    some = ingress("some", rule("a.example", path("Exact", "/here", "first")), defaultBackend=_SPARE)
    nginx.start(table, nginx.write(some))
    assert nginx.get("a.example", "/here")[1].startswith("first")
    assert nginx.get("a.example", "/there")[1].startswith("spare /there")
    assert nginx.get("b.example", "/here")[1].startswith("spare")


def test_a_rule_without_host_takes_all_other_hosts(nginx: Nginx, table: str) -> None:
    nginx.start(table, nginx.write(ingress("any", rule(None, path("Prefix", "/x", "first")))))
    assert nginx.get("whoever", "/x/y")[1].startswith("first /x/y")
    assert nginx.get("127.0.0.1", "/")[0] == 404


def test_rewrites(nginx: Nginx, table: str) -> None:
    rewriting = ingress(
        "rewriting",
        rule("a.example", path("ImplementationSpecific", "/something(/|$)(.*)", "first")),
        annotations={"nginx.rewrite-target": "/$2"},
    )
    plain = ingress("plain", rule("a.example", path("Prefix", "/plain", "second"), path("Exact", "/one", "third")))
    nginx.start(table, nginx.write(rewriting, plain))
    assert nginx.get("a.example", "/something/new?q=1")[1].startswith("first /new?q=1")
    assert nginx.get("a.example", "/something")[1].startswith("first /\n")
    assert nginx.get("a.example", "/plain/x")[1].startswith("second /plain/x")
    assert nginx.get("a.example", "/one")[1].startswith("third /one")
    assert [nginx.get("a.example", url)[0] for url in ("/plainx", "/PLAIN", "/one/")] == [404, 404, 404]


def test_certificates_by_name_and_redirects(nginx: Nginx, table: str) -> None:
    secure = ingress(
        "secure",
        rule("tls.example", path("Prefix", "/", "first")),
        tls=[{"hosts": ["tls.example"], "secretName": "tls"}],
    )
    plain = ingress("plain", rule("plain.example", path("Prefix", "/", "second")))
    forced = ingress(
        "forced", rule("forced.example", path("Prefix", "/", "third")), annotations={"nginx.force-ssl-redirect": "true"}
    )
    nginx.start(table, nginx.write(secure, plain, forced))
    by_name = {name: nginx.name_of_certificate(name) for name in ("tls.example", "plain.example", "unknown.example")}
    assert by_name["tls.example"] != by_name["plain.example"] == by_name["unknown.example"]
    assert b"tls.example" in by_name["tls.example"]
    assert nginx.get("tls.example", "/x?y=1") == (308, "https://tls.example/x?y=1")
    assert nginx.get("forced.example") == (308, "https://forced.example/")
    assert nginx.get("plain.example")[1].startswith("second")


def test_what_the_backend_hears_of_the_client(nginx: Nginx, table: str) -> None:
    nginx.start(table, nginx.write(ingress("one", rule("a.example", path("Prefix", "/", "first")))))
    _, text = nginx.get("a.example", "/a%2Fb?c=d")
    headers = dict(line.split(": ", 1) for line in text.splitlines()[1:] if line)
    assert text.startswith("first /a%2Fb?c=d")
    assert (headers["Host"], headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == (
        "a.example",
        "127.0.0.1",
        "http",
    )
    assert "Connection" not in headers


def test_endpoints_change_while_it_runs(nginx: Nginx, table: str) -> None:
    servers = dict(line.split() for line in table.splitlines()[1:])
    version = nginx.write(ingress("one", rule("a.example", path("Prefix", "/", "first"))))
    nginx.start(f"v1\ndefault/first/80 {servers['default/first/80']}\n", version)
    assert nginx.get("a.example")[1].startswith("first")
    both = f"{servers['default/first/80']} {servers['default/second/80']}"
    control.send_endpoints(nginx.directory, f"v2\ndefault/first/80 {both}\n")
    answers = [nginx.get("a.example")[1].split()[0] for _ in range(10)]
    assert sorted(answers) == ["first"] * 5 + ["second"] * 5
    control.send_endpoints(nginx.directory, "v3\ndefault/first/80\n")
    assert nginx.get("a.example")[0] == 503
    # Nobody listens at one of them: another one is asked.
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    control.send_endpoints(nginx.directory, f"v4\ndefault/first/80 {dead} {servers['default/second/80']}\n")
    assert {nginx.get("a.example")[1].split()[0] for _ in range(10)} == {"second"}
    assert control.read_state(nginx.directory).endpoints == "v4"


def test_each_request_is_logged_with_its_backend_and_the_endpoint_that_answered(nginx: Nginx, table: str) -> None:
    nginx.start(table, nginx.write(ingress("one", rule("a.example", path("Prefix", "/", "first")))))
    assert [nginx.get("a.example", "/x")[0], nginx.get("b.example")[0]] == [200, 404]
    nginx.stop()
    served, refused = (nginx.directory / "out").read_text().splitlines()
    endpoint = dict(line.split() for line in table.splitlines()[1:])["default/first/80"]
    assert served.startswith("127.0.0.1 - - [") and '"GET /x HTTP/1.1" 200 ' in served
    assert f" [default/first/80] [] {endpoint} " in served
    assert '"GET / HTTP/1.1" 404 ' in refused and " [] [] - - - - " in refused
    assert (nginx.directory / "log").read_text() == "", "and nothing is wrong"


def test_a_reload_brings_rules_and_keeps_endpoints(nginx: Nginx, table: str) -> None:
    nginx.start(table, nginx.write(ingress("one", rule("a.example", path("Prefix", "/", "first")))))
    newest = table.replace("v1", "v2")
    control.send_endpoints(nginx.directory, newest)
    version = nginx.write(ingress("one", rule("b.example", path("Prefix", "/", "second"))))
    control.reload(nginx.directory)
    nginx.wait_for(version)
    assert nginx.get("b.example")[1].startswith("second")
    assert nginx.get("a.example")[0] == 404
    assert control.read_state(nginx.directory).endpoints == "v2"
