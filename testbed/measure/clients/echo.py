"""Echo server: ``echo.py udp|tcp ADDRESS PORT``. Serves one TCP connection at a time."""

import socket
import struct
import sys

HEADER = struct.Struct("<IBQ")
LARGEST = 1 << 16


def serve_udp(server: socket.socket) -> None:
    buffer = bytearray(LARGEST)
    view = memoryview(buffer)
    receive, send = server.recvfrom_into, server.sendto
    while True:
        size, client = receive(buffer)
        send(view[:size], client)


def serve_tcp(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                serve_connection(connection)
            except OSError:  # the client went away: its affair, the next one is served
                continue


def serve_connection(connection: socket.socket) -> None:
    """Answer message after message until the client closes, or a message asks the server to.

    Several messages may be under way at once, and arrive together or in pieces.
    """
    buffer = bytearray(2 * LARGEST)
    view = memoryview(buffer)
    size = 0
    while True:
        received = connection.recv_into(view[size:])
        if received == 0:
            return
        size += received
        complete = close = 0
        while size - complete >= HEADER.size and not close:
            length, wants_close, _ = HEADER.unpack_from(buffer, complete)
            if size - complete < length:
                break
            complete, close = complete + length, wants_close
        if complete:
            connection.sendall(view[:complete])
            view[: size - complete] = view[complete:size]
            size -= complete
        if close:
            return


def main() -> None:
    protocol, address, server_port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    if protocol == "tcp":
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, server_port))
    if protocol == "tcp":
        server.listen(64)
    (serve_udp if protocol == "udp" else serve_tcp)(server)


main()
