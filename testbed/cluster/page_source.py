"""What the API's page for browsers needs of whoever runs the cluster. The running cluster implements it."""

from __future__ import annotations

from typing import Protocol

from testbed.cluster.objects import JsonObject


class PageSource(Protocol):
    """Answers may be asked for by several threads at once."""

    def picture(self) -> JsonObject:
        """The fabric, the objects that it carries, and what passes through it just now."""

    def trace(self, source: str, target: str) -> JsonObject:
        """The way of a packet, as ``testbed trace FROM TO`` tells it: ``succeeded`` and ``text``. Raises BadRequest."""
