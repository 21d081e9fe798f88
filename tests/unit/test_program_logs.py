"""What web servers of the catalogue write about their requests, as the official images' do: by ``kubectl logs``."""

from __future__ import annotations

import http.client
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from testbed.spec.images import PROGRAMS, container_argv
from tests.unit.free_ports import free_ports

_MOMENT = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
_CLIENT = {"User-Agent": 'curl "x"', "Referer": "http://a/"}

Start = Callable[[str, list[str], Mapping[str, str]], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program whose standard output and errors go to files, opened as a container's log is."""
    started = []

    def run(name: str, argv: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.out").open("ab") as output, (tmp_path / f"{name}.err").open("ab") as errors:
            started.append(subprocess.Popen(argv, env=environment, stdout=output, stderr=errors))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def _ask(port: int, *paths: str) -> list[int]:
    """Statuses, asked on one connection once the server listens."""
    deadline = time.monotonic() + 10
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while True:
        try:
            connection.connect()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    statuses = []
    for path in paths:
        connection.request("GET", path, headers=_CLIENT)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


def test_nginx_logs_requests_to_its_output_and_errors_to_its_errors(start: Start, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    text = (PROGRAMS / "nginx.conf").read_text()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(text.replace("listen 80", f"listen 127.0.0.1:{port}").replace("/run/", f"{tmp_path}/"))
    argv = [word.replace(str(PROGRAMS), str(tmp_path)) for word in container_argv({"image": "nginx"}) or ()]
    process = start("nginx", ["/usr/sbin/nginx", *argv[1:]], {})
    assert _ask(port, "/", "/none") == [200, 404]
    process.terminate()
    process.wait()
    good, missing = (tmp_path / "nginx.out").read_text().splitlines()
    # As https://github.com/nginx/docker-nginx has it: log_format main.
    tail = r'"http://a/" "curl \\x22x\\x22" "-"'
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_MOMENT} "GET / HTTP/1\.1" 200 \d+ {tail}', good)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_MOMENT} "GET /none HTTP/1\.1" 404 \d+ {tail}', missing)
    errors = (tmp_path / "nginx.err").read_text()
    assert "[notice]" in errors and re.search(r'\[error\] .*/none" failed .*, client: 127\.0\.0\.1', errors)


def test_httpd_logs_requests_in_the_common_format(start: Start, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    start("httpd", container_argv({"image": "httpd:2.4"}) or [], {"PORT": str(port)})
    assert _ask(port, "/", '/"x') == [200, 200]
    first, second = (tmp_path / "httpd.out").read_text().splitlines()
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_MOMENT} "GET / HTTP/1\.1" 200 \d+', first)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_MOMENT} "GET /\\"x HTTP/1\.1" 200 \d+', second)
    assert (tmp_path / "httpd.err").read_bytes() == b""
