"""The programs of the images ``tomcat`` and ``httpd`` (the first argument): a page that names the pod.

They stand where Apache Tomcat (port 8080) and Apache's web server (port 80) would show their own. Tomcat itself needs a
Java machine: 100 MB and seconds for each pod. PORT in the environment chooses another port.
"""

from __future__ import annotations

import socket
import sys
from html import escape

from testbed.network.programs.pages import Page, Request, logged, port_from_environment, serve

_HTML = "text/html; charset=utf-8"


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


def httpd_page(_request: Request) -> Page:
    """The first page of Apache's web server, and the pod's name."""
    return Page(f"<html><body><h1>It works!</h1><p>{escape(socket.gethostname())}</p></body></html>\n", 200, _HTML)


def main() -> None:
    if "httpd" in sys.argv[1:]:
        serve(port_from_environment(80), logged(httpd_page))
    serve(port_from_environment(8080), tomcat_page)


if __name__ == "__main__":
    main()
