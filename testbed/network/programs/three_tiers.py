"""The programs of a three-tier application: ``frontend``, ``backend`` and ``database`` (the first argument).

The front end's page is what the back end answers, the back end counts visits in the database, and the database keeps
each value in a file. Who answered stands in every answer.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from testbed.network.programs.pages import Page, Request, port_from_environment, serve

_ANSWER_S = 5.0


def frontend_page(request: Request) -> Page:
    """What the back end says about the path."""
    status, text = ask("GET", os.environ.get("BACKEND_URL") or "http://backend:8080", request.path)
    return Page(f"frontend {socket.gethostname()}\n{text}", status)


def backend_page(request: Request) -> Page:
    """One visit more of the path."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.path).strip("-") or "home"
    database = os.environ.get("DATABASE_URL") or "http://database:7000"
    status, text = ask("POST", database, f"/{name}")
    return Page(f"backend {socket.gethostname()}\n{text}", status)


class Database:
    """Values in files: GET reads one, PUT writes it, POST adds one to a number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Page:
        name = request.path.strip("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            return Page("a value has a name of letters, digits, _, . and -\n", 404)
        file = self._folder / name
        with self._lock:
            value = file.read_text() if file.exists() else ""
            if request.method == "PUT":
                value = request.body.decode(errors="replace")
            elif request.method == "POST":
                value = str(int(value or 0) + 1) if (value or "0").isdecimal() else "1"
            elif not file.exists():
                return Page(f"there is no {name}\n", 404)
            if request.method in ("PUT", "POST"):
                new = file.with_suffix(".new")
                new.write_text(value)
                new.replace(file)
        return Page(f"database {socket.gethostname()}\n{name}={value}\n")


def ask(method: str, url: str, path: str) -> tuple[int, str]:
    """Status and text of what a server answers; 502 and why, when it does not."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        with socket.create_connection((host, port), _ANSWER_S) as connection:
            request = (
                f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            connection.sendall(request.encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError as error:
        return 502, f"{url}: {error}\n"
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split()
    if len(words) < 2 or not words[1].isdigit():
        return 502, f"{url}: no answer\n"
    return int(words[1]), body.decode(errors="replace")


def main() -> None:
    match sys.argv[1:]:
        case ["frontend", *_]:
            serve(port_from_environment(80), frontend_page)
        case ["backend", *_]:
            serve(port_from_environment(8080), backend_page)
        case ["database", *_]:
            folder = Path(os.environ.get("DATA") or "/data")
            folder.mkdir(parents=True, exist_ok=True)
            serve(port_from_environment(7000), Database(folder).answer)
    sys.exit("known: frontend, backend, database")


if __name__ == "__main__":
    main()
