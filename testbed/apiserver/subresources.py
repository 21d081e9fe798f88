"""The subresources of objects (``pods/NAME/log``): a table that says who answers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.apiserver.ephemeral_containers import answer_ephemeral_containers
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.object_status import answer_part
from testbed.apiserver.paths import Target
from testbed.apiserver.pod_actions import answer_binding, answer_eviction
from testbed.apiserver.scale import answer_scale
from testbed.apiserver.streams.attach import answer_attach
from testbed.apiserver.streams.exec import answer_exec
from testbed.apiserver.streams.log import answer_log
from testbed.apiserver.streams.port_forward import answer_port_forward
from testbed.apiserver.writing import WITH_STATUS
from testbed.cluster.kinds import DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, STATEFUL_SET, Kind

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer


@dataclass(frozen=True)
class Subresource:
    """One subresource: which requests ``answer`` is called for, and how discovery describes it.

    ``answer`` raises ApiError to refuse. It runs in the thread of the connection and may take as long as it likes.
    """

    kind: Kind
    name: str
    methods: tuple[str, ...]
    answers_kind: str
    """The kind that discovery names for it: ``Pod`` for ``log``, ``PodExecOptions`` for ``exec``."""
    verbs: tuple[str, ...]
    answer: Callable[[Exchange, ApiServer, Target], None]


_CHANGES = ("GET", "PUT", "PATCH")
_CHANGE_VERBS = ("get", "patch", "update")

_ALL: tuple[Subresource, ...] = (
    *(Subresource(kind, "status", _CHANGES, kind.name, _CHANGE_VERBS, answer_part) for kind in WITH_STATUS),
    *(
        Subresource(kind, "scale", _CHANGES, "Scale", _CHANGE_VERBS, answer_scale)
        for kind in (DEPLOYMENT, REPLICA_SET, STATEFUL_SET)
    ),
    Subresource(NAMESPACE, "finalize", ("PUT",), "Namespace", ("update",), answer_part),
    Subresource(POD, "binding", ("POST",), "Binding", ("create",), answer_binding),
    Subresource(POD, "eviction", ("POST",), "Eviction", ("create",), answer_eviction),
    Subresource(POD, "ephemeralcontainers", _CHANGES, "Pod", _CHANGE_VERBS, answer_ephemeral_containers),
    Subresource(POD, "log", ("GET",), "Pod", ("get",), answer_log),
    Subresource(POD, "exec", ("GET", "POST"), "PodExecOptions", ("create", "get"), answer_exec),
    Subresource(POD, "attach", ("GET", "POST"), "PodAttachOptions", ("create", "get"), answer_attach),
    Subresource(POD, "portforward", ("GET", "POST"), "PodPortForwardOptions", ("create", "get"), answer_port_forward),
)

SUBRESOURCES: dict[tuple[Kind, str], Subresource] = {(entry.kind, entry.name): entry for entry in _ALL}
