"""The places of a plan: where programs run, for every node, outside host and pod. Pure."""

from __future__ import annotations

from testbed.cluster import identity
from testbed.cluster.objects import JsonObject, object_name, object_namespace, uses_host_network
from testbed.cluster.values import NetworkConfig
from testbed.network.place import Place, Processes
from testbed.network.plan import Plan
from testbed.network.pod_files import hosts_file, pod_hostname, resolv_conf
from testbed.spec.endpoints import EndpointRef, pod_reference

_NODE_RESOLV_CONF = "# no name server: the box has no way out\n"


def make_places(plan: Plan) -> dict[EndpointRef, Place]:
    """Where programs run, for every node, outside host and pod."""
    known = "".join(
        f"{plan.fabric.address(element.name).ip}\t{element.name}\n"
        for element in plan.fabric.elements
        if element.kind in ("node", "ext")
    )
    places = {}
    for element in plan.fabric.elements:
        if element.kind in ("node", "ext"):
            files = {"/etc/hosts": f"127.0.0.1\tlocalhost\n{known}", "/etc/resolv.conf": _NODE_RESOLV_CONF}
            places[EndpointRef(element.kind, "", element.name)] = Place(element.name, element.name, files)
    for pod in plan.pods:
        node = places[EndpointRef("node", "", pod["spec"]["nodeName"])]
        places[pod_reference(pod)] = pod_place(pod, plan.state.config, node)
    return places


def pod_place(pod: JsonObject, config: NetworkConfig, node: Place) -> Place:
    """Where the programs of a pod run that has its node and address."""
    own = identity.pod_namespace(object_namespace(pod), object_name(pod))
    files = {
        "/etc/hostname": f"{pod_hostname(pod)}\n",
        "/etc/hosts": hosts_file(pod, node.files["/etc/hosts"]),
        "/etc/resolv.conf": resolv_conf(pod, config.service_cidr, _NODE_RESOLV_CONF),
    }
    network = node.namespace if uses_host_network(pod) else own
    return Place(network, pod_hostname(pod), files, state_name=own, of_pod=True, processes=_processes(pod))


def _processes(pod: JsonObject) -> Processes:
    if pod["spec"].get("hostPID"):
        return "node"
    return "pod" if pod["spec"].get("shareProcessNamespace") else "container"
