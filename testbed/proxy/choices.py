"""Among which endpoints a node chooses for a port of a Service: what rules with chains begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from testbed.cluster.values import NodeNetwork, ServiceEndpoint, ServicePort

Choice = Literal["service", "local"]  # among all usable endpoints, or those on the node


@dataclass(frozen=True)
class Choices:
    """``among`` has the choices that something leads to and that have endpoints; none, if there is no endpoint.

    ``inside`` is the choice of those who use the cluster's own address (``internalTrafficPolicy``). ``is_external``:
    the port can be reached from outside too, by node port or load balancer; ``drops_outsiders``: but not on this node
    (``externalTrafficPolicy: Local`` without an endpoint here).
    """

    among: Mapping[Choice, tuple[ServiceEndpoint, ...]]
    inside: Choice
    is_external: bool
    drops_outsiders: bool

    @property
    def endpoints(self) -> list[ServiceEndpoint]:
        """All that can be chosen, in order."""
        return sorted({endpoint for endpoints in self.among.values() for endpoint in endpoints})


def choices(node: NodeNetwork, port: ServicePort) -> Choices:
    """The choices for a port on a node."""
    everywhere = port.cluster_endpoints
    here = port.local_endpoints(node.name) if port.internal_local or port.external_local else ()
    is_external = port.node_port is not None or port.load_balancer_ip is not None
    inside: Choice = "local" if port.internal_local else "service"
    among: dict[Choice, tuple[ServiceEndpoint, ...]] = {}
    if everywhere and (inside == "service" or is_external):
        among["service"] = everywhere
    if here and (inside == "local" or (is_external and port.external_local)):
        among["local"] = here
    return Choices(among, inside, is_external, is_external and port.external_local and not here)
