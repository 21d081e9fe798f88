"""The programs of the images that answer with what they were asked, or who they are.

The first argument is the image: ``netexec`` (agnhost, HTTP on 8080 and UDP on 8081), ``serve-hostname`` (9376),
``hello-app`` (8080), ``echoserver`` (8080) and ``http-echo`` (5678). Their options are those of the images.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Sequence

from testbed.network.programs.pages import Answer, Page, Request, port_from_environment, serve


def hostname_page(_request: Request) -> Page:
    """The pod's name and nothing else."""
    return Page(f"{socket.gethostname()}\n")


def hello_page(version: str) -> Answer:
    """As hello-app greets; the image's tag is its version."""
    return lambda _request: Page(f"Hello, world!\nVersion: {version}\nHostname: {socket.gethostname()}\n")


def echo_page(request: Request) -> Page:
    """Who was asked, by whom, and what."""
    lines = [f"Hostname: {socket.gethostname()}", "", f"client_address={request.address}", f"method={request.method}"]
    lines += [f"request_uri={request.target}", "", "HEADERS:"]
    lines += [f"{name}={value}" for name, value in sorted(request.headers.items())]
    lines += ["", "BODY:", request.body.decode(errors="replace") or "-no body in request-"]
    return Page("\n".join(lines) + "\n")


def netexec_page(request: Request) -> Page:
    """agnhost netexec: what tests of Kubernetes' network ask pods."""
    match request.path:
        case "/hostname" | "/hostName":
            return Page(socket.gethostname())
        case "/clientip":
            return Page(f"{request.address}:{request.port}")
        case "/echo":
            return Page(request.parameter("msg") or "")
        case "/healthz":
            return Page("OK")
        case "/header":
            return Page(request.headers.get((request.parameter("key") or "").lower(), ""))
        case "/exit":
            os._exit(int(request.parameter("code") or 0))
        case "/":
            return Page(f"NOW: {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n")
    return Page("", 404)


def _serve_udp(port: int) -> None:
    """``hostname`` and ``echo TEXT`` by datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", port))
        while True:
            data, client = server.recvfrom(65536)
            command, _, text = data.decode(errors="replace").strip().partition(" ")
            known = {"hostname": socket.gethostname(), "echo": text, "clientip": f"{client[0]}:{client[1]}"}
            server.sendto(known.get(command, "").encode(), client)


def _option(arguments: Sequence[str], name: str, default: str) -> str:
    """The value of ``-name VALUE``, ``--name=VALUE`` and so on."""
    for index, word in enumerate(arguments):
        if word.lstrip("-") == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if word.startswith("-") and word.lstrip("-").startswith(f"{name}="):
            return word.partition("=")[2]
    return default


def main() -> None:
    kind, arguments = (sys.argv[1] if len(sys.argv) > 1 else "netexec"), sys.argv[2:]
    match kind:
        case "serve-hostname":
            serve(int(_option(arguments, "port", "9376")), hostname_page)
        case "hello-app":
            serve(port_from_environment(8080), hello_page(_version(arguments)))
        case "echoserver":
            serve(port_from_environment(8080), echo_page)
        case "http-echo":
            text = _option(arguments, "text", socket.gethostname())
            listen = _option(arguments, "listen", ":5678")
            serve(int(listen.rpartition(":")[2]), lambda _request: Page(f"{text}\n"))
        case "netexec":
            udp_port = int(_option(arguments, "udp-port", "8081"))
            if udp_port > 0:
                threading.Thread(target=_serve_udp, args=(udp_port,), daemon=True).start()
            serve(int(_option(arguments, "http-port", "8080")), netexec_page)
        case "pause":
            threading.Event().wait()
    sys.exit(f"unknown: {kind}; known: netexec, serve-hostname, hello-app, echoserver, http-echo, pause")


def _version(arguments: Sequence[str]) -> str:
    """The tag ``2.0`` as the image of that tag says it: 2.0.0."""
    tag = arguments[0] if arguments else "1.0"
    return f"{tag}.0" if tag.count(".") == 1 and tag.replace(".", "").isdecimal() else (tag or "1.0.0")


if __name__ == "__main__":
    main()
