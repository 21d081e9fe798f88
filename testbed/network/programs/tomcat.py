"""The program of the image tomcat: a page on port 8080 that names the pod, where Apache Tomcat would show its own.

Tomcat itself needs a Java machine: 100 MB and seconds for each pod.
"""

from __future__ import annotations

import socket
from html import escape

from testbed.network.programs.pages import Page, Request, port_from_environment, serve


def welcome(request: Request) -> Page:
    """The page of the root; nothing else is deployed."""
    name = escape(socket.gethostname())
    headers = {"Server": "Apache-Coyote/1.1"}
    if request.path not in ("/", "/index.jsp"):
        text = f"<html><head><title>HTTP Status 404</title></head><body><h1>404 on {name}</h1></body></html>\n"
        return Page(text, 404, "text/html; charset=utf-8", headers)
    host = escape(request.headers.get("host", ""))
    text = (
        f"<html><head><title>Apache Tomcat on {name}</title></head>"
        f"<body><h1>It works!</h1><p>pod {name}, asked for {host} by {request.address}</p></body></html>\n"
    )
    return Page(text, 200, "text/html; charset=utf-8", headers)


def main() -> None:
    serve(port_from_environment(8080), welcome)


if __name__ == "__main__":
    main()
