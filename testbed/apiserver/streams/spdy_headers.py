"""The header blocks of SPDY/3.1: names and values with their lengths, in one compressed stream per direction.

Source: the draft "SPDY Protocol - Draft 3.1", sections 2.6.10 and 2.6.10.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from testbed.apiserver.streams.protocol_error import ProtocolError

MAX_BLOCK_BYTES = 64 * 1024
"""How long a decompressed block may be. The draft names no limit; a few hundred bytes are usual here."""

# The draft's dictionary: words with their lengths, then text that needs none.
_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|"
    "authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|"
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|"
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|"
    "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|"
    "keep-alive|origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split("|")) + _TEXT.encode()


class HeaderWriter:
    """Compresses the header blocks of one direction of a connection."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def block(self, headers: Mapping[str, str]) -> bytes:
        """The block of some headers, whose names are lower-case."""
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.encode(), value.encode()):
                plain += struct.pack(">I", len(text)) + text
        return self._compressor.compress(plain) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class HeaderReader:
    """Decompresses the header blocks of one direction of a connection, all of them and in their order."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)

    def headers(self, block: bytes) -> dict[str, str]:
        """The headers in a block. Raises ProtocolError."""
        try:
            plain = self._decompressor.decompress(block, MAX_BLOCK_BYTES)
        except zlib.error as error:
            raise ProtocolError(f"a header block cannot be decompressed: {error}") from None
        if self._decompressor.unconsumed_tail:
            raise ProtocolError(f"a header block has more than {MAX_BLOCK_BYTES} bytes")
        return _parse(plain)


def _parse(plain: bytes) -> dict[str, str]:
    position = 0

    def number() -> int:
        nonlocal position
        position += 4
        if position > len(plain):
            raise ProtocolError("a header block ends too early")
        return int.from_bytes(plain[position - 4 : position], "big")

    def text() -> str:
        nonlocal position
        length = number()
        position += length
        if position > len(plain):
            raise ProtocolError("a header block ends too early")
        return plain[position - length : position].decode("utf-8", "replace")

    found: dict[str, str] = {}
    for _ in range(number()):
        name = text()
        if not name or name in found:
            raise ProtocolError(f"a header has no name, or comes twice: {name!r}")
        found[name] = text()
    return found
