"""Checks of the topology, its links and the address ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import combinations

from testbed.errors import Problem
from testbed.spec.checked import link_shaping, make_fabric
from testbed.spec.field_types import parse_cidr
from testbed.spec.models import Build, LinkProperties, Network, Topology
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import Document, FieldPath
from topologies import TOPOLOGIES
from topologies.fabric import Fabric, Shaping

# Ranges that the pods' and Services' addresses must keep clear of, whatever the topology.
RESERVED = {
    IPv4Network("172.31.0.0/16"): "the management network between switches and controller",
    IPv4Network("169.254.0.0/16"): "link-local addresses (RFC 3927)",
    IPv4Network("127.0.0.0/8"): "loopback addresses",
    IPv4Network("0.0.0.0/8"): "addresses without a host (RFC 1122)",
    IPv4Network("224.0.0.0/3"): "multicast and reserved addresses",
}


def topology_problems(
    document: Document, topology: Topology | None, links: Mapping[str, LinkProperties], builds: Mapping[int, Build]
) -> Iterator[Problem]:
    """Names, parameters and link roles against what the topology declares."""
    if topology is None:
        return
    if topology.name not in TOPOLOGIES:
        message = f"there is no such topology{suggestion(topology.name, TOPOLOGIES)}"
        yield document.problem(("topology", "name"), message, topology.name, names_text(TOPOLOGIES))
        return
    declared = TOPOLOGIES[topology.name].parameters()
    places: list[tuple[FieldPath, Mapping[str, int]]] = [(("topology", "parameters"), topology.parameters)]
    places += [(("builds", index, "parameters"), build.parameters) for index, build in builds.items()]
    for path, parameters in places:
        for name, value in parameters.items():
            if name not in declared:
                message = f"{topology.name} has no such parameter{suggestion(name, declared)}"
                yield document.problem((*path, name), message, allowed=names_text(declared))
            elif not declared[name].accepts(value):
                yield document.problem((*path, name), "is out of range", value, declared[name].allowed)
    roles = TOPOLOGIES[topology.name].ROLES
    for role, properties in links.items():
        if role not in roles:
            message = f"{topology.name} has no links of this role{suggestion(role, roles)}"
            yield document.problem(("topology", "links", role), message, allowed=names_text(roles))
        if properties.jitter is not None and properties.delay is None:
            yield document.problem(("topology", "links", role, "jitter"), "needs delay beside it", properties.jitter)


def range_problems(document: Document, network: Network, fabrics: Sequence[Fabric]) -> Iterator[Problem]:
    """Address ranges that run into each other, or into the subnets of one of the fabrics."""
    names = ("clusterCIDR", "serviceCIDR", "loadBalancerCIDR")
    ranges = {name: parse_cidr(getattr(network, name)) for name in names}
    for earlier, later in combinations(names, 2):
        if ranges[later].overlaps(ranges[earlier]):
            message = f"overlaps {earlier} {ranges[earlier]}"
            yield document.problem(("network", later), message, str(ranges[later]))
    taken = dict(RESERVED)
    for fabric in fabrics:
        for segment in fabric.segments:
            taken.setdefault(segment.subnet, "a subnet of the topology, between " + _ends(fabric, segment.subnet))
    for name, cidr in ranges.items():
        other = next((other for other in taken if other.overlaps(cidr)), None)
        if other is not None:
            message = f"overlaps {other}, {taken[other]}"
            yield document.problem(("network", name), message, str(cidr), "for example 10.244.0.0/16")
    if network.nodeCIDRMaskSize < ranges["clusterCIDR"].prefixlen:
        message = f"a node's pod CIDR would be larger than clusterCIDR {ranges['clusterCIDR']}"
        allowed = f"from {max(16, ranges['clusterCIDR'].prefixlen)} to 29"
        yield document.problem(("network", "nodeCIDRMaskSize"), message, network.nodeCIDRMaskSize, allowed)


def _ends(fabric: Fabric, subnet: IPv4Network) -> str:
    segment = next(segment for segment in fabric.segments if segment.subnet == subnet)
    return names_text(dict.fromkeys(end.element for end in segment.ends))


@dataclass(frozen=True)
class BuiltFabric:
    """A build with its fabric. ``index`` is its place in the file; ``where`` says which build in a message, and is
    empty when there is only one."""

    index: int
    build: Build
    fabric: Fabric
    where: str


def fabrics_of(topology: Topology, builds: Mapping[int, Build]) -> list[BuiltFabric]:
    """Each build's fabric, for a topology and parameters that are in order."""
    several = len(builds) > 1
    return [
        BuiltFabric(index, build, make_fabric(topology, build, {}), f" in build {build.name}" if several else "")
        for index, build in builds.items()
    ]


def shaping_of(links: Mapping[str, LinkProperties]) -> dict[str, Shaping]:
    """Link role to shaping."""
    return {role: link_shaping(properties) for role, properties in links.items()}
