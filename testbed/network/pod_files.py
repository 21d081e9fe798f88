"""The files a kubelet gives a pod: /etc/hosts and /etc/resolv.conf, from the Pod object. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from testbed.cluster import identity
from testbed.cluster.dns_records import CLUSTER_DOMAIN
from testbed.cluster.objects import JsonObject, object_name, object_namespace, uses_host_network
from testbed.cluster.values import IPNetwork

# What a kubelet writes at most; it leaves out the rest (k8s.io/kubernetes/pkg/apis/core/validation).
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_LINE = 3, 32, 2048


def pod_hostname(pod: JsonObject) -> str:
    """``spec.hostname`` or the pod's name, cut to the 63 characters a Linux host name may have.

    A pod on its node's own network has the node's name too.
    """
    spec = pod["spec"]
    if uses_host_network(pod):
        return str(spec["nodeName"])
    return str(spec.get("hostname") or object_name(pod))[:63].rstrip("-.")


def hosts_file(pod: JsonObject, node_text: str) -> str:
    """What the kubelet writes to /etc/hosts: localhost, the pod's own addresses, then ``spec.hostAliases``.

    A pod on its node's own network has the node's file (``node_text``) and its aliases.
    """
    aliases = [
        f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}\n"
        for alias in pod["spec"].get("hostAliases") or ()
    ]
    if uses_host_network(pod):
        return node_text + "".join(aliases)
    # A kubelet calls ::1 localhost, too. Programs here listen on IPv4 only, and BusyBox tries one address only.
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tip6-localhost ip6-loopback"]
    names = [pod_hostname(pod)]
    if pod["spec"].get("subdomain"):
        domain = f"{pod['spec']['subdomain']}.{object_namespace(pod)}.svc.{CLUSTER_DOMAIN}"
        names.insert(0, f"{names[0]}.{domain}")
    lines += [f"{entry['ip']}\t{chr(9).join(names)}" for entry in pod["status"]["podIPs"]]
    return "\n".join(lines) + "\n" + "".join(aliases)


def resolv_conf(pod: JsonObject, service_cidr: IPNetwork, node_text: str) -> str:
    """What the kubelet writes to /etc/resolv.conf, by ``dnsPolicy`` and ``dnsConfig``.

    ``node_text`` is the node's own file: used by ``dnsPolicy: Default`` and by hostNetwork pods under ClusterFirst; its
    search domains follow the cluster's.
    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy
    """
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and uses_host_network(pod):
        policy = "Default"
    if policy == "Default" and not spec.get("dnsConfig"):
        return node_text
    resolver = _Resolver() if policy == "None" else _parse(node_text)
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        own = [f"{object_namespace(pod)}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
        nameservers = [str(service_cidr[identity.DNS_INDEX])]
        resolver = _Resolver(nameservers, own + resolver.searches, {"ndots": "5"})
    extra = spec.get("dnsConfig") or {}
    resolver.nameservers += extra.get("nameservers") or ()
    resolver.searches += extra.get("searches") or ()
    resolver.options |= {option["name"]: option.get("value") for option in extra.get("options") or ()}
    return resolver.text()


@dataclass
class _Resolver:
    """The settings of a resolv.conf(5)."""

    nameservers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: dict[str, str | None] = field(default_factory=dict)

    def text(self) -> str:
        """The file, without doubles and within a kubelet's limits."""
        lines = [f"nameserver {server}" for server in list(dict.fromkeys(self.nameservers))[:_MAX_NAMESERVERS]]
        searches = list(dict.fromkeys(self.searches))[:_MAX_SEARCHES]
        while len(" ".join(searches)) > _MAX_SEARCH_LINE:
            searches.pop()
        if searches:
            lines.append("search " + " ".join(searches))
        if self.options:
            written = (name if value is None else f"{name}:{value}" for name, value in self.options.items())
            lines.append("options " + " ".join(written))
        return "".join(f"{line}\n" for line in lines)


def _parse(text: str) -> _Resolver:
    """The settings in a file; of several search or option lines the last one holds, as for a kubelet."""
    resolver = _Resolver()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                resolver.nameservers.append(server)
            case ["search", *searches]:
                resolver.searches = [domain.removesuffix(".") or "." for domain in searches]
            case ["options", *options]:
                pairs = (option.partition(":") for option in options)
                resolver.options = {name: value if colon else None for name, colon, value in pairs}
    return resolver
