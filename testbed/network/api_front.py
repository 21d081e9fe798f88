"""The API's front for people: takes their connections, ends TLS, and passes plain HTTP on to the API server.

One thread with one event loop serves all connections, because a TLS connection must not be read and written by two
threads at once, which streams (watches, ``kubectl exec``) would do. A connection that begins without TLS is passed on
as it is, for browsers and curl on this machine; the API server asks both for the token.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import threading
from contextlib import suppress

LOG = logging.getLogger(__name__)

_TLS_HANDSHAKE = b"\x16"  # the first byte of a TLS connection (RFC 8446, section 5.1: record type handshake)
_CHUNK_BYTES = 1 << 16
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESOURCES_RETRY_S = 1.0  # nothing tells when there are some again; asyncio's own servers wait as long


class ApiFront:
    """Passes what arrives at ``listener`` on to ``backend`` (host and port). A context manager."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext, backend: tuple[str, int]) -> None:
        self._listener, self._tls, self._backend = listener, tls, backend
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="api-front", daemon=True)

    def __enter__(self) -> ApiFront:
        self._listener.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._accepting.cancel)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._accepting = self._loop.create_task(self._accept())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._accepting)
        for task in self._connections:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._listener)
            except ConnectionAbortedError:
                continue  # the client gave up while it was queueing
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                LOG.error("the cluster API cannot take a connection: %s", error)
                await asyncio.sleep(_RESOURCES_RETRY_S)
                continue
            task = self._loop.create_task(self._serve(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            first = await self._first_byte(connection)
            person = await self._streams(connection, self._tls if first == _TLS_HANDSHAKE else None)
        except (OSError, ssl.SSLError):  # the client left, or does not accept the certificate
            connection.close()
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        try:
            api = await asyncio.open_connection(*self._backend)
            try:
                await asyncio.gather(_pass_on(person[0], api[1]), _pass_on(api[0], person[1]))
            finally:
                api[1].close()
        except (OSError, ssl.SSLError):
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
