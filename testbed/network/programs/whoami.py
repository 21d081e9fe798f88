"""The program of the image whoami: answers every HTTP request with the name of the pod that it runs in.

Runs by itself with the standard library only. PORT in the environment chooses another port than 8000.
"""

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Whoami(BaseHTTPRequestHandler):
    """Says the pod's name, and from where it was asked."""

    protocol_version = "HTTP/1.1"
    # The answer leaves in one segment: headers and body are flushed together, without Nagle's delay.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        client_address, client_port = self.client_address[:2]
        body = f"{socket.gethostname()}\nclient {client_address}:{client_port}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: a pod's output is for its errors."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    with Server(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Whoami) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
