"""Session affinity by client address: the bridge itself remembers which endpoint it gave a client.

The learned flows are in SessionAffinity and nothing else is. Each new connection of the client uses its flow, which
starts the flow's time again; when it has not been used for the Service's timeout, it is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controllers.pipeline.fields import family
from controllers.pipeline.flow import Action, Flow, GotoTable, Learn, Match, Resubmit, ToGroup, match, set_field
from controllers.pipeline.groups import to_endpoint
from controllers.pipeline.tables import (
    AFFINITY_CHECK,
    AFFINITY_ENDPOINT,
    AFFINITY_LEARN,
    AFFINITY_NONE,
    NORMAL,
    REG_ENDPOINT_IP,
    REG_ENDPOINT_PORT,
    REG_GROUP,
    SESSION_AFFINITY,
    service_cookie,
)
from testbed.cluster.values import ServiceEndpoint, ServicePort

# A flow's idle timeout is a 16-bit number of seconds; Kubernetes allows a day.
LONGEST_TIMEOUT_S = 0xFFFF


def remembered(group_id: int) -> tuple[Action, ...]:
    """Ask for the endpoint remembered for this client, and go on to check it."""
    return (set_field(REG_GROUP, group_id), Resubmit(SESSION_AFFINITY.name), GotoTable(AFFINITY_CHECK.name))


def flows(port: ServicePort, group_id: int, endpoints: Iterable[ServiceEndpoint]) -> Iterator[Flow]:
    """What session affinity adds for one group; nothing if the Service has none."""
    if port.affinity_timeout_s is None:
        return
    for endpoint in endpoints:
        yield known_flow(port, group_id, endpoint)
        yield learn_flow(port, group_id, endpoint, port.affinity_timeout_s)
    yield unknown_flow(port, group_id)


def known_flow(port: ServicePort, group_id: int, endpoint: ServiceEndpoint) -> Flow:
    """The flow that gives a client the endpoint it had before, while that is still one of the usable ones."""
    conditions = _endpoint(group_id, endpoint)
    return Flow(AFFINITY_CHECK, AFFINITY_ENDPOINT, conditions, (to_endpoint(endpoint),), service_cookie(port.key))


def unknown_flow(port: ServicePort, group_id: int) -> Flow:
    """The flow that has the group choose for a client without an endpoint, or whose endpoint is gone."""
    conditions = match(eth_type=family(port.cluster_ip).eth_type, **{REG_GROUP: group_id})
    return Flow(AFFINITY_CHECK, AFFINITY_NONE, conditions, (ToGroup(group_id),), service_cookie(port.key))


def learn_flow(port: ServicePort, group_id: int, endpoint: ServiceEndpoint, timeout_s: int) -> Flow:
    """The flow that remembers which endpoint the group chose for this client, and begins the connection.

    The bucket cannot do that itself: of what sends a packet on, a bucket does one thing only.
    """
    cookie = service_cookie(port.key)
    learn = Learn(
        SESSION_AFFINITY.name,
        NORMAL,
        min(timeout_s, LONGEST_TIMEOUT_S),
        cookie,
        same=(REG_GROUP, "ipv4_src"),
        remembered=(REG_ENDPOINT_IP, REG_ENDPOINT_PORT),
    )
    return Flow(AFFINITY_LEARN, NORMAL, _endpoint(group_id, endpoint), (learn, to_endpoint(endpoint)), cookie)


def _endpoint(group_id: int, endpoint: ServiceEndpoint) -> Match:
    return match(
        **{
            "eth_type": family(endpoint.endpoint_ip).eth_type,
            REG_GROUP: group_id,
            REG_ENDPOINT_IP: int(endpoint.endpoint_ip),
            REG_ENDPOINT_PORT: endpoint.target_port,
        }
    )
