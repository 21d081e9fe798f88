"""The cluster's DNS server as Kubernetes objects: a Deployment and the Service ``kube-system/kube-dns`` before it.

Name, labels, ports and address of the Service are those that kubeadm gives it, so that whatever looks for the cluster
DNS finds it. Behind it stands no CoreDNS, so the Deployment is not called that.
"""

from __future__ import annotations

from testbed.cluster import identity
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import IPNetwork

DEPLOYMENT_NAME = IMAGE = "cluster-dns"
SELECTOR = {"k8s-app": "kube-dns"}
DNS_PORT = 53


def dns_addon(service_cidr: IPNetwork) -> list[JsonObject]:
    """The manifests, to be added to those of an experiment.

    One server (kubeadm starts two): the testbed measures the network, and each server costs a pod's place.
    """
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    service: JsonObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": identity.DNS_NAME,
            "namespace": identity.DNS_NAMESPACE,
            "labels": {**SELECTOR, "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "selector": dict(SELECTOR),
            "clusterIP": str(service_cidr[identity.DNS_INDEX]),
            "ports": [
                {"name": name, "port": DNS_PORT, "protocol": protocol, "targetPort": DNS_PORT}
                for name, protocol in ports
            ],
        },
    }
    deployment: JsonObject = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": DEPLOYMENT_NAME, "namespace": identity.DNS_NAMESPACE, "labels": dict(SELECTOR)},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": dict(SELECTOR)},
            "template": {
                "metadata": {"labels": dict(SELECTOR)},
                "spec": {
                    "dnsPolicy": "Default",
                    "containers": [
                        {
                            "name": "dns",
                            "image": IMAGE,
                            "ports": [
                                {"name": name, "containerPort": DNS_PORT, "protocol": protocol}
                                for name, protocol in ports
                            ],
                            "readinessProbe": {"tcpSocket": {"port": DNS_PORT}, "periodSeconds": 10},
                        }
                    ],
                },
            },
        },
    }
    return [service, deployment]
