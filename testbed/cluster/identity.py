"""Every identifier of the cluster network, and the one rule by which each is derived.

Addresses, MACs, interface names, OpenFlow port numbers, datapath ids and cookies are decided here, written into the
objects (spec, status, annotations) by :mod:`testbed.cluster.assign`, and only read by all other rooms. So the network
plan and the flow tables cannot disagree.
"""

from __future__ import annotations

import hashlib
import re

from testbed.cluster.values import IPAddress, IPNetwork

ANNOTATION_PREFIX = "network.testbed/"
GATEWAY_IP = ANNOTATION_PREFIX + "gateway-ip"
GATEWAY_MAC = ANNOTATION_PREFIX + "gateway-mac"
VTEP_MAC = ANNOTATION_PREFIX + "vtep-mac"
MASQUERADE_IP = ANNOTATION_PREFIX + "masquerade-ip"
DATAPATH_ID = ANNOTATION_PREFIX + "datapath-id"
POD_MAC = ANNOTATION_PREFIX + "pod-mac"
POD_INTERFACE = ANNOTATION_PREFIX + "interface"
POD_OF_PORT = ANNOTATION_PREFIX + "of-port"
GROUP_NUMBERS = ANNOTATION_PREFIX + "group-numbers"

CONFIG_NAMESPACE, CONFIG_NAME = "kube-system", "cluster-network"
STATUS_NAMESPACE, STATUS_NAME = "kube-system", "controller-status"
PROXY_STATUS_NAME = "proxy-status"  # beside it, the same for the kernels' Service proxies

# Bridge ports that every node has; pods count up from FIRST_POD_OF_PORT.
TUNNEL_OF_PORT = 1
GATEWAY_OF_PORT = 2
FIRST_POD_OF_PORT = 10
# OpenFlow 1.3 section A.2.1: OFPP_MAX is 0xffffff00, but Open vSwitch keeps its ports below 0xff00.
MAX_OF_PORT = 0xFEFF

# Interface names that are the same on every node (each in a namespace of its own).
BRIDGE = "br-pods"
GATEWAY_INTERFACE = "gw"  # the node's end of the wire to its bridge
GATEWAY_PEER = "gw-peer"  # the bridge's end
TUNNEL_INTERFACE = "vxlan0"
POD_INTERFACE_IN_POD = "eth0"
MANAGEMENT_INTERFACE = "mgmt"

# The next hop of the node's routes into the bridge. Link-local, answered by a permanent neighbour entry.
VIRTUAL_NEXT_HOP = "169.254.0.253"
VIRTUAL_ROUTER_MAC = "0e:00:00:00:00:01"
# A frame from the bridge to the gateway with this source carries a packet for a Service that has no endpoint: the
# node's kernel refuses it.
REJECT_MAC = "0e:00:00:00:00:02"

# The first address of the service CIDR is that of the API server's own Service.
API_INDEX = 1
API_NAME = "kubernetes"

# The cluster DNS has the tenth address of the service CIDR, as kubeadm gives it.
DNS_INDEX = 10
DNS_NAMESPACE, DNS_NAME = "kube-system", "kube-dns"

_IFNAMSIZ = 15  # usable characters of an interface name (IFNAMSIZ - 1, linux/if.h)
_FILE_NAME_MAX = 255  # NAME_MAX, linux/limits.h


def switch_namespace(node_name: str) -> str:
    """The network namespace that holds the node's Open vSwitch."""
    return f"s-{node_name}"


def pod_namespace(namespace: str, name: str) -> str:
    """The pod's network namespace; ``_`` cannot occur in a Kubernetes name, so the result is unambiguous.

    It is a file name, so where Kubernetes' limits (63 and 253 characters) allow more than 255, a hash ends it.
    """
    full = f"p_{namespace}_{name}"
    if len(full) <= _FILE_NAME_MAX:
        return full
    digest = hashlib.sha256(full.encode()).hexdigest()[:16]
    return f"{full[: _FILE_NAME_MAX - len(digest) - 1]}_{digest}"


def interface_name(namespace: str, name: str, attempt: int = 0) -> str:
    """The bridge-side interface of a pod: a readable start and a hash that keeps it unique, at most 15 characters.

    Should two pods' hashes be equal all the same, the later pod takes the name of the next ``attempt``.
    """
    suffix = f"#{attempt}" if attempt else ""
    digest = hashlib.sha256(f"{namespace}/{name}{suffix}".encode()).hexdigest()[:7]
    readable = re.sub(r"[^a-z0-9-]", "-", name)[: _IFNAMSIZ - len(digest) - 1]
    return f"{readable}-{digest}"


def address_mac(address: IPAddress) -> str:
    """A locally administered MAC made from an IPv4 address: ``0a:58`` and its four octets, as CNI bridge plugins do."""
    return ":".join(f"{octet:02x}" for octet in b"\x0a\x58" + address.packed[-4:])


def vtep_mac(datapath_id: int) -> str:
    """The MAC of a node's VXLAN device, made from its datapath id."""
    return ":".join(f"{octet:02x}" for octet in b"\x0e\x01" + datapath_id.to_bytes(4, "big"))


def gateway_address(pod_cidr: IPNetwork) -> IPAddress:
    """The node's own address on its bridge: the first host address of its pod CIDR."""
    return pod_cidr[1]


def masquerade_address(pod_cidr: IPNetwork) -> IPAddress:
    """What stands for clients whose address must not reach an endpoint: the pod CIDR's last host address."""
    return pod_cidr[-2]


def group_id(group_number: int, local: bool) -> int:
    """The OpenFlow group of a Service's port: over all endpoints, or over a node's own (Local traffic policy)."""
    return 2 * group_number + (3 if local else 2)


def cookie(*identity: str) -> int:
    """A flow's 64-bit cookie, made from what the flow is about (for example ``"pod", "default/web"``)."""
    return int.from_bytes(hashlib.blake2b("\0".join(identity).encode(), digest_size=8).digest(), "big")
