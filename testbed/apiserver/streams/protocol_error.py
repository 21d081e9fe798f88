"""What breaks the rules of a streaming protocol."""

from __future__ import annotations


class ProtocolError(Exception):
    """The other side sent what its protocol does not allow; the connection cannot go on."""
