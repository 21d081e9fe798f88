"""What web servers of the catalogue write about their requests, as the official images' do: by ``kubectl logs``."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from testbed.network.pods.image_files import write_image_files
from testbed.spec.images import container_argv
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


def _nginx(folder: Path, port: int) -> list[str]:
    """The command line of the image nginx, with the image's files in a folder instead of a pod's root."""
    write_image_files(folder)
    places = ("/etc/nginx/conf.d", "/var/log/nginx", "/run/")
    text = (folder / "etc/nginx/nginx.conf").read_text().replace("user nginx", "user root")
    for place in places:
        text = text.replace(f" {place}", f" {folder}{place}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    text = text.replace("http {", "http {" + "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds))
    (folder / "etc/nginx/nginx.conf").write_text(text)
    (folder / "run").mkdir()
    site = folder / "etc/nginx/conf.d/default.conf"
    site.write_text(site.read_text().replace("listen 80", f"listen 127.0.0.1:{port}"))
    program, *arguments = container_argv({"image": "nginx"}) or []
    return [f"/usr/sbin/{program}", *arguments, "-e", "stderr", "-c", str(folder / "etc/nginx/nginx.conf")]


def test_nginx_logs_requests_to_its_output_and_errors_to_its_errors(start: Start, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = start("nginx", _nginx(tmp_path, port), {})
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


def test_nginx_reloads_what_its_users_write(start: Start, tmp_path: Path) -> None:
    first, second = free_ports(2)
    argv = _nginx(tmp_path, first)
    process = start("nginx", argv, {})
    assert _ask(first, "/") == [200]
    site = f"server {{ listen 127.0.0.1:{second}; location / {{ return 204; }} }}"
    (tmp_path / "etc/nginx/conf.d/my.conf").write_text(site)
    subprocess.run([*argv, "-s", "reload"], stderr=subprocess.DEVNULL, timeout=10, check=True)
    assert _ask(second, "/") == [204]
    assert _ask(first, "/") == [200]
    assert process.poll() is None
    process.send_signal(signal.SIGQUIT)
    assert process.wait(10) == 0


def test_users_of_images_are_known_and_root(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    (machine / "etc").mkdir(parents=True)
    (machine / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nnginx:x:101:102::/:/bin/false\n")
    (machine / "etc/group").write_text("root:x:0:\nnginx:x:102:\nnginx2:x:103:\n")
    for _ in range(2):  # the parent of the pods' processes may be started again
        write_image_files(tmp_path / "images", machine)
    users = (tmp_path / "images/etc/passwd").read_text().splitlines()
    assert users == ["root:x:0:0:root:/root:/bin/bash", "nginx:x:0:0::/nonexistent:/bin/false"]
    groups = (tmp_path / "images/etc/group").read_text().splitlines()
    assert groups == ["root:x:0:", "nginx2:x:103:", "nginx:x:0:"]


def test_httpd_logs_requests_in_the_common_format(start: Start, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    start("httpd", container_argv({"image": "httpd:2.4"}) or [], {"PORT": str(port)})
    assert _ask(port, "/", '/"x') == [200, 200]
    first, second = (tmp_path / "httpd.out").read_text().splitlines()
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_MOMENT} "GET / HTTP/1\.1" 200 \d+', first)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_MOMENT} "GET /\\"x HTTP/1\.1" 200 \d+', second)
    assert (tmp_path / "httpd.err").read_bytes() == b""
