"""Which container of which pod a request is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.apiserver.exchange import Exchange
from testbed.apiserver.paths import Target, not_found
from testbed.cluster.objects import JsonObject
from testbed.cluster.pod_access import PodAccess
from testbed.cluster.status import BadRequest

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""The annotation that names the container that is meant when none is."""


def pod_access(server: ApiServer) -> PodAccess:
    """The way into the pods. Raises NotFound when this server has none."""
    if server.pods is None:
        raise not_found()
    return server.pods


def wanted_pod(server: ApiServer, target: Target) -> JsonObject:
    """The pod that a request names, on a node. Raises NotFound, BadRequest."""
    pod = server.store.get(target.kind, *target.where)
    if not pod["spec"].get("nodeName"):
        raise BadRequest(f"pod {target.name} does not have a host assigned")
    return pod


def wanted_container(exchange: Exchange, pod: JsonObject) -> str:
    """The container that the query names, or the pod's annotation; else the only one. Raises BadRequest."""
    name = pod["metadata"]["name"]
    parts = ("containers", "initContainers", "ephemeralContainers")
    main, init, ephemeral = ([one["name"] for one in pod["spec"].get(key, ())] for key in parts)
    wanted = exchange.query.text("container") or pod["metadata"].get("annotations", {}).get(DEFAULT_CONTAINER)
    if wanted:
        if wanted not in main + init + ephemeral:
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return str(wanted)
    if len(main) == 1:
        return str(main[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
    raise BadRequest(text + (f" or one of the init containers: [{' '.join(init)}]" if init else ""))
