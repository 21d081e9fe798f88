"""The image httpd serves what a volume brings to the folder of the official image's pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.network.programs.pages import Page, Request
from testbed.network.programs.welcome import httpd_page


def _get(path: str, folder: Path) -> Page:
    return httpd_page(Request("GET", path, "HTTP/1.1", {}, b"", "10.244.0.2", 40000), folder)


def test_without_a_volume_every_page_is_the_first(tmp_path: Path) -> None:
    page = _get("/any", tmp_path / "none")
    assert page.status == 200 and b"It works!" in page.content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the kubelet writes a ConfigMap, and a folder beside it; the file above must never be seen."""
    htdocs = tmp_path / "htdocs"
    (htdocs / "..data").mkdir(parents=True)
    (htdocs / "..data/index.html").write_text("mine\n")
    (htdocs / "index.html").symlink_to("..data/index.html")
    (htdocs / "a b").mkdir()
    (htdocs / "a b/index.html").write_text("deeper\n")
    (htdocs / "dot.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "secret").write_text("secret\n")
    return htdocs


@pytest.mark.parametrize(
    ("path", "status", "content", "kind"),
    [
        ("/", 200, b"mine\n", "text/html"),
        ("/index.html?x=1", 200, b"mine\n", "text/html"),
        ("/dot.png", 200, b"\x89PNG\xff", "image/png"),
        ("/a%20b/", 200, b"deeper\n", "text/html"),
        ("/none", 404, None, "text/html; charset=utf-8"),
        ("/../secret", 404, None, "text/html; charset=utf-8"),
        ("/a%20b/..%2f..%2fsecret", 404, None, "text/html; charset=utf-8"),
        ("/%00", 404, None, "text/html; charset=utf-8"),
    ],
)
def test_files_of_a_volume_are_the_pages(
    folder: Path, path: str, status: int, content: bytes | None, kind: str
) -> None:
    page = _get(path, folder)
    assert (page.status, page.content_type) == (status, kind)
    assert b"secret" not in page.content
    assert content is None or page.content == content


def test_a_folder_is_asked_with_a_slash(folder: Path) -> None:
    page = _get("/a%20b", folder)
    assert (page.status, page.headers) == (301, {"Location": "/a%20b/"})
