"""Is a TCP port of a Service answered at its cluster IP, from every node? If not, a trace tells where it ends."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.cluster.values import ServicePort
from testbed.network import netns

# Connections that are tried at most; node after node, so that each node has its share.
_MOST, _AT_ONCE, _TIMEOUT_S = 64, 16, 2.0


@dataclass(frozen=True)
class Answer:
    """A connection from a node to a port of a Service; ``error`` is "" when it was made, else ``cause`` says why."""

    node: str
    service: str
    error: str = ""
    cause: str = ""


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each Service that does not answer from a node although it has endpoints."""
    wanted = [
        (node.name, port)
        for port in cluster.answered_ports
        for node in cluster.nodes
        if port.protocol == "TCP"
        and (port.local_endpoints(node.name) if port.internal_local else port.cluster_endpoints)
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda one: _connect(cluster, *one), islice(wanted, _MOST)))
    return judge(answers, cluster.name)


def _connect(cluster: RunningCluster, node: str, port: ServicePort) -> Answer:
    service = f"service/{port.service_key}:{port.service_port}"
    with netns.entered(node):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect((str(port.cluster_ip), port.service_port))
        except OSError as error:
            return Answer(node, service, str(error), cluster.why(f"node/{node}", service))
    return Answer(node, service)


def judge(answers: list[Answer], cluster: str) -> list[Finding]:
    """What the connections came to; nodes from which a Service fails alike are named together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for answer in answers:
        if answer.error:
            alike.setdefault((answer.service, answer.error, answer.cause), []).append(answer.node)
    found = [
        Finding(
            "services",
            "fault",
            f"{service} does not answer from {', '.join(nodes)}: {error}",
            cause or "a trace finds nothing that stops it",
            f"endpoints, plugin and proxy, above; testbed trace --name {cluster} node/{nodes[0]} {service}",
        )
        for (service, error, cause), nodes in alike.items()
    ]
    if found or not answers:
        return found
    return [Finding("services", "ok", f"connections from nodes to cluster IPs that were answered: {len(answers)}")]
