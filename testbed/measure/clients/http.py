"""Time HTTP/1.1 requests, each in nanoseconds, and keep who answered.

``http.py ADDRESS PORT URL DURATION_S WARMUP_S RATE_PER_S KEEP_ALIVE TIMEOUT_S``

RATE_PER_S 0 is a closed loop: the next request is due when the one before is over. Otherwise requests are due at fixed
times, whatever becomes of those before, and a request is timed from the moment it was *due*. KEEP_ALIVE 1 keeps
connections and opens one more when a request is due and all are busy; 0 takes a connection for each request.

Standard output: first ``begin NS``, the time (CLOCK_MONOTONIC) at which measuring begins, after the warm-up. At the end
one line of JSON: ``requests``, a list of [due_ns, over_ns, status, pod, problem] from the begin of measuring, where pod
and problem are places in the lists ``pods`` and ``problems``.
"""

import errno
import gc
import re
import select
import socket
import sys
import time

clock = time.perf_counter_ns

# select(2) takes no file descriptor above 1023; more requests than this at once are the client's end, not the path's.
MOST_CONNECTIONS = 500
POD_NAME = re.compile(rb"(?:Hostname: )?([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)\s*\Z")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
IN_PROGRESS = (errno.EINPROGRESS, errno.EAGAIN)


class Names:
    """Texts by number, so that a request keeps a number."""

    def __init__(self) -> None:
        self.known = {"": 0}

    def number(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


class Connection:
    """One connection, with the request that it carries (``due_ns`` is None while it is idle)."""

    def __init__(self, family: int, server: "tuple[str, int]") -> None:
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connected = False
        self.answer = b""
        self.due_ns: int | None = None
        self.deadline_ns = 0
        status = self.socket.connect_ex(server)
        if status not in (0, *IN_PROGRESS):
            self.socket.close()
            raise OSError(status, errno.errorcode.get(status, str(status)))

    def fileno(self) -> int:
        return self.socket.fileno()


class Client:
    """All requests of one cell."""

    def __init__(self, server: "tuple[str, int]", url: str, keep_alive: bool, timeout_ns: int) -> None:
        self.server, self.keep_alive, self.timeout_ns = server, keep_alive, timeout_ns
        self.family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        lines = [f"GET {url} HTTP/1.1", f"Host: {server[0]}:{server[1]}", "User-Agent: testbed"]
        lines += [] if keep_alive else ["Connection: close"]
        self.request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self.busy: set[Connection] = set()
        self.idle: list[Connection] = []
        self.pods, self.problems = Names(), Names()
        self.rows: list[tuple[int, int, int, int, int]] = []

    def start(self, due_ns: int) -> None:
        """Send a request that is due, or begin to connect for it. It may be over at once: nobody can be reached."""
        connection = self.idle.pop() if self.idle else None
        try:
            if connection is None:
                connection = Connection(self.family, self.server)
            connection.due_ns, connection.deadline_ns, connection.answer = due_ns, due_ns + self.timeout_ns, b""
            if connection.connected:
                connection.socket.sendall(self.request)
        except OSError as error:
            self.over(connection, due_ns, 0, problem=problem_text(error))
            return
        self.busy.add(connection)

    def over(self, connection: "Connection | None", due_ns: int, status: int, pod: str = "", problem: str = "") -> None:
        self.rows.append((due_ns, clock(), status, self.pods.number(pod), self.problems.number(problem)))
        if connection is not None:
            self.busy.discard(connection)
            if status and self.keep_alive and not CLOSE.search(connection.answer):
                connection.due_ns = None
                self.idle.append(connection)
            else:
                connection.socket.close()

    def wait(self, until_ns: int) -> None:
        """Take what arrives until a time, or until something has happened."""
        connecting = [connection for connection in self.busy if not connection.connected]
        deadline_ns = min((connection.deadline_ns for connection in self.busy), default=until_ns)
        pause_s = max(min(until_ns, deadline_ns) - clock(), 0) / 1e9
        readable, writable, _ = select.select([*self.busy, *self.idle], connecting, [], pause_s)
        for connection in writable:
            self.connected(connection)
        for connection in readable:
            if connection.due_ns is None:  # the server closed an idle connection: nobody has lost anything by it
                self.idle.remove(connection)
                connection.socket.close()
            elif connection in self.busy and connection.connected:
                self.receive(connection)
        now = clock()
        for connection in [each for each in self.busy if each.deadline_ns <= now]:
            self.over(connection, connection.due_ns or 0, 0, problem="timeout")

    def connected(self, connection: Connection) -> None:
        status = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if status:
                raise OSError(status, errno.errorcode.get(status, str(status)))
            connection.connected = True
            connection.socket.sendall(self.request)
        except OSError as error:
            self.over(connection, connection.due_ns or 0, 0, problem=problem_text(error))

    def receive(self, connection: Connection) -> None:
        due_ns = connection.due_ns or 0
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            self.over(connection, due_ns, 0, problem=problem_text(error))
            return
        connection.answer += data
        head, separator, body = connection.answer.partition(b"\r\n\r\n")
        if separator and whole(head, body, ended=not data):
            named = POD_NAME.match(body.partition(b"\n")[0])
            self.over(connection, due_ns, int(head[9:12]), named[1].decode() if named else "")
        elif not data:
            self.over(connection, due_ns, 0, problem="closed")


def whole(head: bytes, body: bytes, ended: bool) -> bool:
    """Whether an answer is complete (RFC 9112 section 6.3). ``ended``: the server has closed the connection."""
    length = LENGTH.search(head)
    if length:
        return len(body) >= int(length[1])
    if CHUNKED.search(head):
        return body == b"0\r\n\r\n" or body.endswith(b"\r\n0\r\n\r\n")
    return ended


def problem_text(error: OSError) -> str:
    known = {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "reset",
        errno.EPIPE: "reset",
        errno.ETIMEDOUT: "timeout",
        errno.EHOSTUNREACH: "unreachable",
        errno.ENETUNREACH: "unreachable",
    }
    return known.get(error.errno or 0, error.strerror or "failed")


def closed_loop(client: Client, end_ns: int) -> None:
    while clock() < end_ns:
        client.start(clock())
        while client.busy:
            client.wait(end_ns + client.timeout_ns)


def open_loop(client: Client, start_ns: int, end_ns: int, rate_per_s: float) -> None:
    interval_ns = 1e9 / rate_per_s
    number = 0
    due_ns = start_ns
    while due_ns < end_ns or client.busy:
        now = clock()
        if due_ns < end_ns and now >= due_ns and len(client.busy) < MOST_CONNECTIONS:
            client.start(due_ns)
            number += 1
            due_ns = start_ns + int(number * interval_ns)
            continue
        client.wait(due_ns if due_ns < end_ns else end_ns + client.timeout_ns)


def main() -> None:
    address, server_port, url = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    duration_s, warmup_s, rate_per_s, keep_alive, timeout_s = (float(text) for text in sys.argv[4:9])
    gc.disable()
    # Timers of this process may fire 50 us late by default (prctl(2), PR_SET_TIMERSLACK).
    with open("/proc/self/timerslack_ns", "w") as slack:  # noqa: PTH123 - pathlib costs more to import than the rest
        slack.write("1")
    client = Client((address, server_port), url, bool(keep_alive), int(timeout_s * 1e9))
    start = clock()
    begin = start + int(warmup_s * 1e9)
    end = begin + int(duration_s * 1e9)
    print(f"begin {begin}", flush=True)
    if rate_per_s:
        open_loop(client, start, end, rate_per_s)
    else:
        closed_loop(client, end)
    import json  # only now: what it costs to import would be part of the first requests

    rows = [[due - begin, over - begin, *rest] for due, over, *rest in client.rows if due >= begin]
    print(json.dumps({"requests": rows, "pods": list(client.pods.known), "problems": list(client.problems.known)}))


main()
