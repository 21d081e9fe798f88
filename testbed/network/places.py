"""The places of a plan: where programs run, for every node, outside host and pod. Pure."""

from __future__ import annotations

from testbed.cluster import identity
from testbed.cluster.objects import object_name, object_namespace, uses_host_network
from testbed.network.place import Place
from testbed.network.plan import Plan
from testbed.network.pod_files import hosts_file, pod_hostname, resolv_conf
from testbed.spec.endpoints import EndpointRef

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
        namespace, name = object_namespace(pod), object_name(pod)
        network = pod["spec"]["nodeName"] if uses_host_network(pod) else identity.pod_namespace(namespace, name)
        files = {
            "/etc/hosts": hosts_file(pod),
            "/etc/resolv.conf": resolv_conf(pod, plan.state.config.service_cidr, _NODE_RESOLV_CONF),
        }
        place = Place(network, pod_hostname(pod), files, state_name=identity.pod_namespace(namespace, name))
        places[EndpointRef("pod", namespace, name)] = place
    return places
