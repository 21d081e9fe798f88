"""The program of the images whoami: answers every HTTP request with the name of the pod that it runs in.

PORT in the environment chooses another port than 8000. With the argument ``traefik`` it answers as that image does: on
port 80, with the request that it got.
"""

from __future__ import annotations

import socket
import sys

from testbed.network.programs.pages import Page, Request, port_from_environment, serve


def name_and_client(request: Request) -> Page:
    """The pod's name, and from where it was asked."""
    return Page(f"{socket.gethostname()}\nclient {request.address}:{request.port}\n")


def name_and_request(request: Request) -> Page:
    """As traefik/whoami says it."""
    if request.path == "/health":
        return Page("")
    lines = [f"Hostname: {socket.gethostname()}", f"RemoteAddr: {request.address}:{request.port}"]
    lines.append(f"{request.method} {request.target} {request.version}")
    lines += [f"{name.title()}: {value}" for name, value in sorted(request.headers.items())]
    return Page("\n".join(lines) + "\n\n")


def main() -> None:
    if "traefik" in sys.argv[1:]:
        serve(port_from_environment(80), name_and_request)
    serve(port_from_environment(8000), name_and_client)


if __name__ == "__main__":
    main()
