"""The API's front for people, a process of its own: takes their connections, ends TLS, and passes plain HTTP on.

``python -m testbed.network.api_front --api URL --listener DESCRIPTOR --identity DESCRIPTOR --more DESCRIPTOR``: the
socket that people connect to, a file with a private key and its certificate (PEM), and a Unix socket by which it is
given further sockets to listen at, all inherited. Whoever starts it keeps them, too; so while the front is started
again, connections wait in the sockets' queues and none is refused.

One event loop serves all connections, because a TLS connection must not be read and written by two threads at once,
which streams (watches, ``kubectl exec``) would do. A connection that begins without TLS is passed on as it is, for
browsers and curl on this machine; the API server asks both for the token.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

# Nothing of the testbed is imported: the front is away for as long as its imports take.

LOG = logging.getLogger(__name__)

_TLS_HANDSHAKE = b"\x16"  # the first byte of a TLS connection (RFC 8446, section 5.1: record type handshake)
_CHUNK_BYTES = 1 << 16
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESOURCES_RETRY_S = 1.0  # nothing tells when there are some again; asyncio's own servers wait as long


class ApiFront:
    """Passes what arrives at ``listener``, and at those that come by ``more``, on to ``backend`` (host and port)."""

    def __init__(
        self, listener: socket.socket, more: socket.socket, tls: ssl.SSLContext, backend: tuple[str, int]
    ) -> None:
        self._listener, self._more, self._tls, self._backend = listener, more, tls, backend
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve for good. Raises OSError when the listener is of no use any more."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._more, self._take_listeners)
        print("ready", flush=True)
        await self._listen(self._listener)

    def _take_listeners(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._more, 1, 1)
        if not data:  # nobody is there any more who could send some
            self._loop.remove_reader(self._more)
        for descriptor in descriptors:
            self._start(self._listen(socket.socket(fileno=descriptor)))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue  # the client gave up while it was queueing
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                LOG.error("the cluster API cannot take a connection: %s", error)
                await asyncio.sleep(_RESOURCES_RETRY_S)
                continue
            self._start(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        try:
            first = await self._first_byte(connection)
            person = await self._streams(connection, self._tls if first == _TLS_HANDSHAKE else None)
        except OSError:  # the client left, or does not accept the certificate
            connection.close()
            return
        try:
            api = await asyncio.open_connection(*self._backend)
            try:
                await asyncio.gather(_pass_on(person[0], api[1]), _pass_on(api[0], person[1]))
            finally:
                api[1].close()
        except OSError:
            pass  # one of the two left
        finally:
            person[1].close()

    async def _first_byte(self, connection: socket.socket) -> bytes:
        """What a connection begins with, which is left in it."""
        connection.setblocking(False)
        readable = asyncio.Event()
        self._loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(connection)
        return connection.recv(1, socket.MSG_PEEK)

    async def _streams(
        self, connection: socket.socket, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader(limit=_CHUNK_BYTES, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and tell it; TLS knows no half of a connection, so there the whole one is closed."""
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The API's front for people.")
    parser.add_argument("--api", metavar="URL", required=True, help="the API server, plain HTTP")
    for name in ("--listener", "--identity", "--more"):
        parser.add_argument(name, metavar="DESCRIPTOR", type=int, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"/proc/self/fd/{given.identity}")
    backend = urlsplit(given.api)
    listener, more = socket.socket(fileno=given.listener), socket.socket(fileno=given.more)
    asyncio.run(ApiFront(listener, more, tls, (str(backend.hostname), int(backend.port or 80))).serve())


if __name__ == "__main__":
    main()
