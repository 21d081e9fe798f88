"""The programs of the images ``tomcat`` and ``httpd`` (the first argument): a page that names the pod.

They stand where Apache Tomcat (port 8080) and Apache's web server (port 80) would show their own. Tomcat itself needs a
Java machine: 100 MB and seconds for each pod. PORT in the environment chooses another port.
"""

from __future__ import annotations

import mimetypes
import os
import socket
import sys
from html import escape
from pathlib import Path
from urllib.parse import quote

from testbed.network.programs.pages import Page, Request, logged, port_from_environment, serve

_HTML = "text/html; charset=utf-8"
_HTDOCS = Path("/usr/local/apache2/htdocs")


def tomcat_page(request: Request) -> Page:
    """The page of the root; nothing else is deployed."""
    name = escape(socket.gethostname())
    headers = {"Server": "Apache-Coyote/1.1"}
    if request.path not in ("/", "/index.jsp"):
        text = f"<html><head><title>HTTP Status 404</title></head><body><h1>404 on {name}</h1></body></html>\n"
        return Page(text, 404, _HTML, headers)
    host = escape(request.headers.get("host", ""))
    text = (
        f"<html><head><title>Apache Tomcat on {name}</title></head>"
        f"<body><h1>It works!</h1><p>pod {name}, asked for {host} by {request.address}</p></body></html>\n"
    )
    return Page(text, 200, _HTML, headers)


def httpd_page(request: Request, folder: Path = _HTDOCS) -> Page:
    """A file that a volume has brought to where the official image has its pages; else Apache's first page, with the
    pod's name."""
    if not folder.is_dir():
        return _it_works()
    try:
        file = folder / os.path.normpath(f"/{request.path}").lstrip("/")
        if file.is_dir():
            if not request.path.endswith("/"):
                return Page("", 301, _HTML, {"Location": quote(f"{request.path}/")})
            file /= "index.html"
        content = file.read_bytes()
    except (OSError, ValueError):  # a path with a NUL is a ValueError
        if request.path == "/":
            return _it_works()
        return Page(
            "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n", 404, _HTML
        )
    return Page(content, 200, mimetypes.guess_type(file.name)[0] or "text/plain")


def _it_works() -> Page:
    return Page(f"<html><body><h1>It works!</h1><p>{escape(socket.gethostname())}</p></body></html>\n", 200, _HTML)


def main() -> None:
    if "httpd" in sys.argv[1:]:
        serve(port_from_environment(80), logged(httpd_page))
    serve(port_from_environment(8080), tomcat_page)


if __name__ == "__main__":
    main()
