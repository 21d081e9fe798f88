"""The files a kubelet gives a pod: /etc/hosts and /etc/resolv.conf, from the Pod object. Pure."""

from __future__ import annotations

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.values import IPNetwork

# The address kubeadm gives the cluster DNS Service: the tenth of the Service range.
_DNS_INDEX = 10
_CLUSTER_DOMAIN = "cluster.local"


def pod_hostname(pod: JsonObject) -> str:
    """``spec.hostname`` or the pod's name, cut to the 63 characters a Linux host name may have."""
    return str(pod["spec"].get("hostname") or object_name(pod))[:63].rstrip("-.")


def hosts_file(pod: JsonObject) -> str:
    """What the kubelet writes to /etc/hosts: localhost, the pod's own addresses, then ``spec.hostAliases``."""
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    names = [pod_hostname(pod)]
    if pod["spec"].get("subdomain"):
        domain = f"{pod['spec']['subdomain']}.{object_namespace(pod)}.svc.{_CLUSTER_DOMAIN}"
        names.insert(0, f"{names[0]}.{domain}")
    lines += [f"{entry['ip']}\t{chr(9).join(names)}" for entry in pod["status"]["podIPs"]]
    for alias in pod["spec"].get("hostAliases") or ():
        lines.append(f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}")
    return "\n".join(lines) + "\n"


def resolv_conf(pod: JsonObject, service_cidr: IPNetwork, node_text: str) -> str:
    """What the kubelet writes to /etc/resolv.conf, by ``dnsPolicy`` and ``dnsConfig``.

    ``node_text`` is the node's own file, used by ``dnsPolicy: Default`` and by hostNetwork pods under ClusterFirst.
    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy
    """
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "Default":
        return node_text
    nameservers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy != "None":
        nameservers.append(str(service_cidr[_DNS_INDEX]))
        searches += [f"{object_namespace(pod)}.svc.{_CLUSTER_DOMAIN}", f"svc.{_CLUSTER_DOMAIN}", _CLUSTER_DOMAIN]
        options["ndots"] = "5"
    extra = spec.get("dnsConfig") or {}
    nameservers += extra.get("nameservers") or ()
    searches += extra.get("searches") or ()
    options |= {option["name"]: option.get("value") for option in extra.get("options") or ()}
    lines = [f"nameserver {server}" for server in dict.fromkeys(nameservers)]
    if searches:
        lines.append("search " + " ".join(dict.fromkeys(searches)))
    if options:
        written = (name if value is None else f"{name}:{value}" for name, value in options.items())
        lines.append("options " + " ".join(written))
    return "\n".join(lines) + "\n"
