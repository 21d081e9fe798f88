"""One HTTP connection: its requests are read, admitted and answered one after the other."""

from __future__ import annotations

import logging
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from testbed.apiserver.dispatch import dispatch
from testbed.apiserver.exchange import Exchange, Query
from testbed.apiserver.page import needs_no_session, session
from testbed.cluster.status import (
    ApiError,
    BadRequest,
    LengthRequired,
    RequestEntityTooLarge,
    Unauthorized,
)

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 3 * 1024 * 1024  # what the Kubernetes API server accepts

_SILENT_S = 90.0  # as long as the Kubernetes API server waits for the next request

# What Kubernetes shows to everybody (ClusterRole system:public-info-viewer).
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


class Connection(BaseHTTPRequestHandler):
    """Serves a connection until it is closed. Every refusal is a ``Status`` object."""

    protocol_version = "HTTP/1.1"
    server_version = "testbed"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together, at the flush
    server: ApiServer  # type: ignore[assignment]

    def __init__(self, connection: object, peer: object, server: ApiServer) -> None:
        super().__init__(connection, peer, server)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        # A client that says nothing more would keep its thread for good; answers may take as long as they like.
        self.connection.settimeout(_SILENT_S)
        super().handle_one_request()

    def do_GET(self) -> None:
        exchange = None
        path, _, query = self.path.partition("?")
        try:
            # Also of who is not admitted: closing on what is unread would take the refusal away from the client.
            exchange = Exchange(self, path, Query(query), self._body())
            self._admit(path)
            self.connection.settimeout(None)
            dispatch(exchange, self.server)
        except ApiError as error:
            self._refuse(exchange, error)
        except (ConnectionError, TimeoutError):
            raise  # the client left
        except RecursionError:
            self._refuse(exchange, BadRequest("the object is nested too deeply"))
        except Exception:
            _log.exception("%s %s", self.command, self.path)
            self.close_connection = True
            self._refuse(exchange, ApiError("an internal error occurred; the log of the testbed has the details"))

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own refusals (a malformed request line, an unknown method), as a Status like all others."""
        error = ApiError(message or self.responses.get(code, ("refused", ""))[0])
        error.code, error.reason = int(code), "BadRequest" if code < 500 else "InternalError"
        self.close_connection = True
        self.request_version = self.protocol_version  # a request line that is no HTTP/1.x still gets a whole answer
        self._refuse(None, error)

    def _admit(self, path: str) -> None:
        authorization = self.headers.get("Authorization", "")
        # A GET that asks for another protocol runs programs in pods, and browsers let every page ask so.
        if not authorization and self.command in ("GET", "HEAD") and "Upgrade" not in self.headers:
            if needs_no_session(path):
                return
            # A browser's cookie lets it read, and nothing else: another site's page cannot have it change anything.
            authorization = f"Bearer {token}" if (token := session(self.headers)) else ""
        is_anonymous = not authorization and path.rstrip("/") in _PUBLIC
        if not is_anonymous and not self.server.admits(authorization):
            raise Unauthorized("Unauthorized")

    def _refuse(self, exchange: Exchange | None, error: ApiError) -> None:
        if exchange is not None and exchange.is_answered:
            self.close_connection = True  # too late to say it: the client sees an answer that breaks off
            return
        (exchange or Exchange(self, "", Query(""), b"")).answer(error.code, error.status())

    def _body(self) -> bytes:
        """The request's body, read whole, so that the next request on the connection begins where it should."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise LengthRequired("a request body needs a Content-Length")
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit():
            self.close_connection = True
            raise BadRequest(f"Content-Length is no number: {text!r}")
        if len(text) > 12 or int(text) > MAX_BODY_BYTES:
            self.close_connection = True
            raise RequestEntityTooLarge(f"the request body has more than {MAX_BODY_BYTES} bytes")
        return self.rfile.read(int(text))
