"""A name server of the cluster in a namespace of its own, with a store behind it and no cluster around it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from testbed.cluster.dns_addon import IMAGE, SELECTOR
from testbed.cluster.identity import DNS_NAMESPACE, pod_namespace
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.network import netns
from testbed.network.dns.cluster_dns import ClusterDns
from testbed.network.netlink import Netlink, link_up
from testbed.network.place import Place
from testbed.spec.images import container_argv

SETTLE_S = 20.0


def service(name: str, namespace: str = "default", **spec: Any) -> JsonObject:
    """A Service as the store has it."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def cluster_ip_service(name: str, cluster_ip: str, namespace: str = "default") -> JsonObject:
    """One with a cluster IP and a named port."""
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]
    return service(name, namespace, type="ClusterIP", clusterIP=cluster_ip, clusterIPs=[cluster_ip], ports=ports)


def headless_service(name: str, namespace: str = "default") -> JsonObject:
    """One without a cluster IP."""
    return service(name, namespace, type="ClusterIP", clusterIP="None", clusterIPs=["None"])


def endpoint_slice(of: str, addresses: list[str], number: int = 0) -> JsonObject:
    """The addresses behind a Service, all ready, each with the port ``peer``."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{of}-{number}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [text], "conditions": {"ready": True}} for text in addresses],
        "ports": [{"name": "peer", "port": 7000, "protocol": "TCP"}],
    }


def running_pod(name: str, pod_ip: str, namespace: str = "default", **labels: str) -> JsonObject:
    """A Pod with an address."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "pause"}]},
        "status": {"phase": "Running", "podIP": pod_ip, "podIPs": [{"ip": pod_ip}]},
    }


class NameServer:
    """The program of the image, in the network namespace of a pod."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = pod_namespace(DNS_NAMESPACE, name)
        with netns.home():
            netns.create_and_stay(self.namespace)
            with Netlink() as netlink:
                netlink.request([link_up(netlink.index("lo"))])
        self._place = Place(self.namespace, name)
        self.process: subprocess.Popen[bytes]

    @property
    def pod(self) -> JsonObject:
        """The pod that it is the container of."""
        labels = {"k8s-app": SELECTOR["k8s-app"]}
        return running_pod(self.name, "10.244.0.9", DNS_NAMESPACE, **labels)

    def start(self) -> None:
        argv = container_argv({"image": IMAGE})
        assert argv is not None
        self.process = self._place.popen(argv)

    def kill(self) -> None:
        """End it the hard way."""
        self.process.kill()
        self.process.wait()

    def ask(self, name: str, kind: str = "A", server: str = "127.0.0.1") -> dns.message.Message:
        """The response to one question over UDP, asked inside the pod."""
        query = dns.message.make_query(f"{name}.", kind)
        with netns.entered(self.namespace):
            return dns.query.udp(query, server, timeout=5)

    def ask_by_tcp(self, name: str, kind: str = "A") -> dns.message.Message:
        """The same over TCP."""
        with netns.entered(self.namespace):
            return dns.query.tcp(dns.message.make_query(f"{name}.", kind), "127.0.0.1", timeout=5)

    def records(self, name: str, kind: str = "A") -> set[str]:
        """The data of the records of one type that are answered for a name; fails unless the response is a success."""
        response = self.ask(name, kind)
        assert response.rcode() == dns.rcode.NOERROR, response
        assert response.flags & dns.flags.AA, response
        wanted = dns.rdatatype.from_text(kind)
        return {str(rdata).rstrip(".") for rrset in response.answer if rrset.rdtype == wanted for rdata in rrset}


@contextmanager
def served(*servers: NameServer) -> Iterator[tuple[Store, ClusterDns]]:
    """A store, and what keeps the given servers, started here, true to it."""
    store = Store()
    for server in servers:
        server.start()
        store.create(server.pod)
    dns_loop = ClusterDns(store)
    dns_loop.start()
    try:
        dns_loop.wait_settled(SETTLE_S)
        yield store, dns_loop
    finally:
        dns_loop.stop()
        for server in servers:
            server.kill()
