"""The subresources that are a part of the object: ``status``, what its controller says of it, and ``finalize``, what a
Namespace waits for when it is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.answers import Form
from testbed.apiserver.bodies import posted_object
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.patching import patch
from testbed.apiserver.paths import Target
from testbed.apiserver.writing import Writer

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


def answer_part(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Read the object, or change this part of it and nothing else."""
    form = Form(exchange, target)
    if exchange.method == "GET":
        exchange.answer(200, form.one(server.store.get(target.kind, *target.where)), target.headers)
    elif exchange.method == "PUT":
        writer = Writer(server, exchange, target)
        wire = posted_object(exchange, target)
        exchange.answer(200, form.one(writer.update(lambda old: wire)), writer.headers)
    else:
        code, stored, writer = patch(exchange, server, target)
        exchange.answer(code, form.one(stored), writer.headers)
