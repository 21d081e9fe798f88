"""Makes everything that was built known to Mininet: hosts, fabric elements, bridges, and the wires between them."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.cluster import identity
from testbed.cluster.values import NodeNetwork, PodNetwork
from testbed.network.hosts import ClusterHost, ClusterNet, WiredIntf
from testbed.network.openvswitch import RUN_DIRECTORY
from testbed.network.place import Place
from testbed.network.plan import Plan
from testbed.spec.endpoints import EndpointRef


def mininet_view(plan: Plan, places: Mapping[EndpointRef, Place]) -> ClusterNet:
    """The Mininet network of a built plan.

    Hosts are the nodes, the hosts outside and the pods (those outside ``default`` are called ``name.namespace``).
    Switches are the fabric's routers and bridges, and each node's Open vSwitch as ``s-<node>``.
    """
    net = ClusterNet()
    hosts = {
        element.name: ClusterHost(element.name, places[EndpointRef(element.kind, "", element.name)])
        for element in plan.fabric.elements
        if element.kind in ("node", "ext")
    }
    switches = {
        element.name: ClusterHost(element.name, Place(element.name, element.name))
        for element in plan.fabric.elements
        if element.kind in ("router", "bridge")
    }
    _register_fabric(plan, hosts | switches)
    wires = [((link.a.element, link.a.interface), (link.b.element, link.b.interface)) for link in plan.fabric.links]
    for node in plan.state.nodes:
        switch = identity.switch_namespace(node.name)
        # ovs-ofctl and its kin find their switch by this directory.
        place = Place(switch, switch, directories={str(RUN_DIRECTORY): str(RUN_DIRECTORY / node.name)})
        bridge = switches[switch] = ClusterHost(switch, place)
        WiredIntf(identity.TUNNEL_INTERFACE, bridge, None, None, node.vtep_mac)
        prefix_length = node.pod_cidr.prefixlen
        address = str(node.gateway_ip)
        gateway = WiredIntf(identity.GATEWAY_INTERFACE, hosts[node.name], address, prefix_length, node.gateway_mac)
        WiredIntf(identity.GATEWAY_PEER, bridge, None, None, None)
        wires.append(((node.name, gateway.name), (switch, identity.GATEWAY_PEER)))
        for pod in plan.state.pods_by_node[node.name]:
            host = _pod_host(pod, node, places[EndpointRef("pod", pod.namespace, pod.name)])
            hosts[host.name] = host
            WiredIntf(pod.interface, bridge, None, None, None)
            wires.append(((host.name, identity.POD_INTERFACE_IN_POD), (switch, pod.interface)))
    net.register(hosts.values(), switches.values())
    for (first, first_interface), (second, second_interface) in wires:
        net.connect((net[first], first_interface), (net[second], second_interface))
    return net


def add_pod(net: ClusterNet, pod: PodNetwork, node: NodeNetwork, place: Place) -> None:
    """Make a pod that came later known to Mininet."""
    bridge = net[identity.switch_namespace(node.name)]
    host = _pod_host(pod, node, place)
    WiredIntf(pod.interface, bridge, None, None, None)
    net.hosts.append(host)
    net.nameToNode[host.name] = host
    net.connect((host, identity.POD_INTERFACE_IN_POD), (bridge, pod.interface))


def remove_pod(net: ClusterNet, pod: PodNetwork, node: NodeNetwork) -> None:
    """Make Mininet forget a pod, and end its shell."""
    host = net.nameToNode.pop(_host_name(pod))
    net.hosts.remove(host)
    host.terminate()
    bridge = net[identity.switch_namespace(node.name)]
    bridge.delIntf(bridge.nameToIntf[pod.interface])
    net.links = [link for link in net.links if link.intf1.node is not host and link.intf2.node is not host]


def _host_name(pod: PodNetwork) -> str:
    return pod.name if pod.namespace == "default" else f"{pod.name}.{pod.namespace}"


def _pod_host(pod: PodNetwork, node: NodeNetwork, place: Place) -> ClusterHost:
    host = ClusterHost(_host_name(pod), place)
    WiredIntf(identity.POD_INTERFACE_IN_POD, host, str(pod.pod_ip), node.pod_cidr.prefixlen, pod.pod_mac)
    return host


def _register_fabric(plan: Plan, by_name: Mapping[str, ClusterHost]) -> None:
    for name, ends in plan.fabric.ends_by_element.items():
        for end in ends:
            address = end.address
            WiredIntf(
                end.interface,
                by_name[name],
                str(address.ip) if address else None,
                address.network.prefixlen if address else None,
                None,
            )
