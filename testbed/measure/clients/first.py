"""Time the first exchange after the caches were emptied: ``first.py ADDRESS PORT SOURCE_PORT PAYLOAD_BYTES TIMEOUT_S``.

It is already running when the caches are emptied, so that starting it is not measured. It says ``ready``, and then for
each line ``udp`` or ``tcp`` on standard input one line: the time in nanoseconds, or ``lost``. ``udp``: from sending one
datagram to its answer. ``tcp``: from the begin of connecting to the end of the answer to the first request.
"""

import gc
import socket
import struct
import sys
import time

HEADER = struct.Struct("<IBQ")
clock = time.perf_counter_ns


def receive(connection: socket.socket, size: int) -> None:
    while size > 0:
        received = len(connection.recv(1 << 16))
        if received == 0:
            raise ConnectionError("the server closed the connection before its answer was complete")
        size -= received


def timed(protocol: str, server: tuple[str, int], source_port: int, message: bytes, timeout_s: float) -> str:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        if protocol == "udp":
            connection.bind(("", source_port))
            connection.connect(server)  # sends nothing (udp(7))
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = clock()
        try:
            if protocol == "tcp":
                connection.connect(server)
            connection.send(message)
            receive(connection, len(message))
        except TimeoutError:
            return "lost"
        return str(clock() - start)


def main() -> None:
    address, server_port, source_port, size, timeout_s = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
    gc.disable()
    message = HEADER.pack(size, 0, 0).ljust(size, b"\0")
    print("ready", flush=True)
    for line in sys.stdin:
        print(timed(line.strip(), (address, server_port), source_port, message, timeout_s), flush=True)


main()
