"""The page for browsers, ``/ui/``: the cluster as a living picture, served beside the API.

A browser shows no bearer token, so the link that ``testbed up`` prints has it once; a cookie takes its place, which
admits reading requests only. Scripts and styles come from here alone (Content-Security-Policy).
"""

from __future__ import annotations

from email.message import Message
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import not_found
from testbed.cluster.status import BadRequest, MethodNotAllowed, Unauthorized

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

PAGE = "/ui"

_FOLDER = Path(__file__).parent
_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_LOOPBACK = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_page(path: str) -> bool:
    """Whether a URL's path belongs to the page."""
    return path == PAGE or path.startswith(PAGE + "/")


def session(headers: Message) -> str:
    """The token in a browser's cookie; empty when there is none, or when a page of another name asks."""
    try:
        host = urlsplit(f"//{headers.get('Host', '')}").hostname
    except ValueError:
        return ""
    if host not in _LOOPBACK:
        return ""  # another site's name that leads here (DNS rebinding)
    try:
        cookie = SimpleCookie(headers.get("Cookie", "")).get(_cookie_name(headers))
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


def answer_page(exchange: Exchange, server: ApiServer) -> None:
    """Answer a request below ``/ui``. Raises ApiError."""
    if exchange.method not in ("GET", "HEAD"):
        raise MethodNotAllowed("the page can only be read")
    if exchange.path == PAGE:
        _begin_session(exchange, server)
        return
    name = exchange.path.removeprefix(PAGE + "/")
    if name in _FILES:
        file, content_type = _FILES[name]
        exchange.answer_bytes(200, content_type, (_FOLDER / file).read_bytes(), _HEADERS)
        return
    if server.page is None:
        raise not_found()
    if name == "picture":
        exchange.answer(200, server.page.picture(), _HEADERS)
    elif name == "trace":
        source, target = exchange.query.text("from"), exchange.query.text("to")
        if not source or not target:
            raise BadRequest("a trace needs from and to")
        exchange.answer(200, server.page.trace(source, target), _HEADERS)
    else:
        raise not_found()


def needs_no_session(path: str) -> bool:
    """Whether a request may come without one: that which begins it."""
    return path == PAGE


def _begin_session(exchange: Exchange, server: ApiServer) -> None:
    token = exchange.query.text("token")
    if not (server.admits(f"Bearer {token}") or server.admits(f"Bearer {session(exchange.headers)}")):
        raise Unauthorized("the link to the page has a token: testbed ps shows it")
    headers = {"Location": f"{PAGE}/", **_HEADERS}
    if token:
        headers["Set-Cookie"] = f"{_cookie_name(exchange.headers)}={token}; Path=/; HttpOnly; SameSite=Strict"
    exchange.answer_bytes(303, "text/plain; charset=utf-8", b"", headers)


def _cookie_name(headers: Message) -> str:
    """Cookies do not tell ports apart, clusters do."""
    try:
        number = urlsplit(f"//{headers.get('Host', '')}").port
    except ValueError:
        number = None
    return f"testbed-{number or 80}"


__all__ = ["PAGE", "answer_page", "is_page", "needs_no_session", "session"]
