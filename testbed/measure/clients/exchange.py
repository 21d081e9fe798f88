"""Time exchanges of a message with the echo server, each in nanoseconds.

``exchange.py KIND ADDRESS PORT SOURCE_PORT PAYLOAD_BYTES DURATION_S WARMUP_S INTERVAL_MS TIMEOUT_S``

KIND is ``udp_rr``, ``tcp_rr`` or ``tcp_crr`` (each exchange on a connection of its own, closed by the server).
SOURCE_PORT 0 leaves the choice to the kernel. INTERVAL_MS 0 is a closed loop: the next message is sent when the answer
is there. Otherwise messages are due at fixed times, whatever becomes of the answers, and an exchange is timed from the
moment it was *due*, so a stall counts for every message that it delayed.

Standard output: one line ``sent=N lost=N byteorder=little|big``, then the times as native signed 64-bit integers.
"""

import array
import gc
import select
import socket
import struct
import sys
import time

HEADER = struct.Struct("<IBQ")
LARGEST = 1 << 16
clock = time.perf_counter_ns


class Exchange:
    """One kind of exchange with one server. ``payload`` is a whole message with its header."""

    def __init__(self, kind: str, server: tuple[str, int], source_port: int, size: int, timeout_s: float) -> None:
        self.kind, self.server, self.source_port, self.timeout_s = kind, server, source_port, timeout_s
        self.family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.payload = bytearray(size)
        HEADER.pack_into(self.payload, 0, size, kind == "tcp_crr", 0)
        self.answer = bytearray(LARGEST)
        if kind != "tcp_crr":
            self.connection = self.connect()

    def connect(self) -> socket.socket:
        udp = self.kind == "udp_rr"
        connection = socket.socket(self.family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        # The kernel's timeout instead of settimeout(), which would add a poll() to every receive.
        limit = struct.pack("@ll", int(self.timeout_s), int(self.timeout_s % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        if not udp:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.source_port:
            connection.bind(("", self.source_port))
        connection.connect(self.server)
        return connection

    def number(self, sequence: int) -> None:
        struct.pack_into("<Q", self.payload, 5, sequence)

    def once(self, sequence: int) -> bool:
        """One exchange from send to answer; False when the answer did not come in time (UDP only)."""
        if self.kind == "udp_rr":
            return self.datagram(sequence)
        connection = self.connection if self.kind == "tcp_rr" else self.connect()
        connection.sendall(self.payload)
        missing = len(self.payload)
        while missing:
            received = connection.recv_into(self.answer)
            if received == 0:
                raise ConnectionError("the server closed the connection before its answer was complete")
            missing -= received
        if self.kind == "tcp_crr":
            if connection.recv_into(self.answer) != 0:
                raise ConnectionError("more data than was sent")
            connection.close()
        return True

    def datagram(self, sequence: int) -> bool:
        self.number(sequence)
        self.connection.send(self.payload)
        while True:
            try:
                self.connection.recv_into(self.answer)
            except BlockingIOError:
                return False
            if struct.unpack_from("<Q", self.answer, 5)[0] == sequence:  # not the late answer to one given up
                return True


def closed_loop(exchange: Exchange, first: int, duration_ns: int) -> "tuple[int, int, array.array[int]]":
    """Exchanges one after the other for the given time: (sent, lost, times in ns)."""
    times = array.array("q")
    sent = lost = 0
    start = sent_at = clock()
    while sent_at - start < duration_ns:
        answered = exchange.once(first + sent)
        now = clock()
        sent += 1
        if answered:
            times.append(now - sent_at)
        else:
            lost += 1
        sent_at = clock()
    return sent, lost, times


def open_loop_connections(exchange: Exchange, count: int, interval_ns: int) -> "tuple[int, int, array.array[int]]":
    """Connections due at fixed times, one at a time: a late one starts at once and is timed from when it was due."""
    times = array.array("q")
    start = clock()
    for sequence in range(count):
        due = start + sequence * interval_ns
        ahead = due - clock()
        if ahead > 0:
            time.sleep(ahead / 1e9)
        exchange.once(sequence)
        times.append(clock() - due)
    return count, 0, times


def open_loop_messages(exchange: Exchange, count: int, interval_ns: int) -> "tuple[int, int, array.array[int]]":
    """Messages due at fixed times, any number of them under way; a time of -1 stands for an answer that never came."""
    times = array.array("q", [-1]) * count
    connection, udp = exchange.connection, exchange.kind == "udp_rr"
    size, arrived_bytes = len(exchange.payload), 0
    sent = answered = 0
    start = clock()
    deadline = start + count * interval_ns + int(exchange.timeout_s * 1e9)
    while answered < count:
        now = clock()
        due = start + sent * interval_ns
        if sent < count and now >= due:
            exchange.number(sent)
            (connection.send if udp else connection.sendall)(exchange.payload)
            sent += 1
            continue
        if now >= deadline:
            break
        limit = due if sent < count else deadline
        if not select.select([connection], [], [], (limit - now) / 1e9)[0]:
            continue
        received = connection.recv_into(exchange.answer)
        now = clock()
        if udp:
            sequence = struct.unpack_from("<Q", exchange.answer, 5)[0]
            times[sequence] = now - (start + sequence * interval_ns)
            answered += 1
            continue
        if received == 0:
            raise ConnectionError("the server closed the connection")
        arrived_bytes += received
        while answered < arrived_bytes // size:
            times[answered] = now - (start + answered * interval_ns)
            answered += 1
    return sent, count - answered, times


def main() -> None:
    kind, address = sys.argv[1], sys.argv[2]
    server_port, source_port, size = (int(text) for text in sys.argv[3:6])
    duration_s, warmup_s, interval_ms, timeout_s = (float(text) for text in sys.argv[6:10])
    gc.disable()
    exchange = Exchange(kind, (address, server_port), source_port, size, timeout_s)
    if interval_ms:
        # Timers of this process may fire 50 us late by default (prctl(2), PR_SET_TIMERSLACK).
        with open("/proc/self/timerslack_ns", "w") as slack:  # noqa: PTH123 - pathlib costs more to import than the rest
            slack.write("1")
        interval_ns = int(interval_ms * 1e6)
        warmup, count = (int(seconds * 1e9) // interval_ns for seconds in (warmup_s, duration_s))
        loop = open_loop_connections if kind == "tcp_crr" else open_loop_messages
        count = max(count, 1)
        sent, _, times = loop(exchange, warmup + count, interval_ns)
        sent -= warmup
        times = array.array("q", [value for value in times[warmup:] if value >= 0])
        lost = sent - len(times)
    else:
        warmup, _, _ = closed_loop(exchange, 0, int(warmup_s * 1e9))
        sent, lost, times = closed_loop(exchange, warmup, int(duration_s * 1e9))
    sys.stdout.buffer.write(f"sent={sent} lost={lost} byteorder={sys.byteorder}\n".encode())
    sys.stdout.buffer.write(times.tobytes())
    sys.stdout.buffer.flush()


main()
