"""Endpoints whose pod has gone: what both sorts of proxies forget the TCP connections of.

An endpoint that only is no longer one (its pod has another label, or is not ready) goes on with the connections that it
has, as in Kubernetes. One whose pod has gone answers nobody: a client that uses its port again would be led to it until
connection tracking forgets, after minutes or days.
"""

from __future__ import annotations

from testbed.cluster.changed_ports import changed_ports
from testbed.cluster.values import ClusterState, IPAddress, ServiceEndpoint, ServicePort

Socket = tuple[IPAddress, int]


def gone_tcp_endpoints(old: ClusterState, new: ClusterState) -> frozenset[Socket]:
    """Addresses and ports of pods that were endpoints in the old state, and have gone in the new one.

    A pod has gone when it was ending, or when the new state has pods, but not this one. (The kernels' proxies do not
    follow pods.) What is any Service's endpoint in the new state has not gone: it may be another pod's by now.
    """
    before, after = changed_ports(old.service_ports, new.service_ports)
    were = {
        (entry.endpoint_ip, entry.target_port): entry
        for port in before
        if port.protocol == "TCP"
        for entry in port.endpoints
    }
    for port in after if were else ():
        _take_out(were, port)
    follows_pods = bool(old.pods or new.pods)
    alive = {pod.pod_ip for pod in new.pods} if were else set()
    lost = {
        socket: entry
        for socket, entry in were.items()
        if entry.terminating
        or (follows_pods and entry.endpoint_ip in old.config.cluster_cidr and entry.endpoint_ip not in alive)
    }
    for port in new.service_ports if lost else ():
        _take_out(lost, port)
    return frozenset(lost)


def _take_out(sockets: dict[Socket, ServiceEndpoint], port: ServicePort) -> None:
    if port.protocol == "TCP":
        for entry in port.endpoints:
            sockets.pop((entry.endpoint_ip, entry.target_port), None)
