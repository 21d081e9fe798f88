"""Checks of the topology, its links and the address ranges; and of where each build's pods go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from itertools import combinations

from testbed.cluster import identity
from testbed.cluster.assign import AssignmentError, AssignmentProblem
from testbed.cluster.objects import JsonObject
from testbed.errors import Problem
from testbed.spec.checked import link_shaping, make_fabric, make_objects, wants_dns
from testbed.spec.filler import TooManyEndpoints
from testbed.spec.manifests import Manifest, replica_count
from testbed.spec.models import Build, LinkProperties, Network, Probe, Scale, Topology, parse_cidr
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.overrides import parse_field
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


def dns_problems(document: Document, network: Network, manifests: Sequence[Manifest]) -> Iterator[Problem]:
    """A cluster's DNS that has no address, or that the manifests bring, too."""
    if not wants_dns(network, manifests):
        return
    if parse_cidr(network.serviceCIDR).num_addresses <= identity.DNS_INDEX + 1:
        message = "has no tenth address, which the cluster's DNS gets"
        allowed = "a larger network, or network.dns: off"
        yield document.problem(("network", "serviceCIDR"), message, network.serviceCIDR, allowed)
    own = [each for each in manifests if (each.namespace, each.name) == (identity.DNS_NAMESPACE, identity.DNS_NAME)]
    for manifest in own:
        message = f"the manifests have the Service {identity.DNS_NAMESPACE}/{identity.DNS_NAME} themselves"
        where = f"{message}, at {manifest.file}:{manifest.line}"
        if manifest.kind == "Service":
            yield document.problem(("network", "dns"), where, network.dns, "off or auto")


def place(
    document: Document, network: Network, built: BuiltFabric, manifests: Sequence[Manifest]
) -> tuple[Sequence[JsonObject], list[Problem]]:
    """The objects of one build, or what gets no address or no place in it."""
    generate = built.build.generate
    here: FieldPath = ("builds", built.index, "generate")
    try:
        # Neither addresses nor places depend on the mode.
        return make_objects(built.fabric, network, "overlay", manifests, generate), []
    except AssignmentError as error:
        problems = []
        for problem in error.problems:
            if problem.index < 0:
                path: FieldPath = ("network", problem.field)
            elif problem.index < len(manifests):
                problems.append(_manifest_problem(problem, built, manifests[problem.index]))
                continue
            else:
                path = (*here, "services") if generate and problem.name.startswith("filler/") else ("network", "dns")
            message = problem.reason + built.where
            problems.append(document.problem(path, message, problem.value or None, problem.allowed))
        return (), problems
    except TooManyEndpoints as error:
        assert generate is not None
        allowed = (
            f"at most {error.most}, or more pods in the manifests" if error.most else "0, or pods in the manifests"
        )
        message = f"the pods do not have enough ports for so many Services{built.where}"
        return (), [document.problem((*here, "endpoints"), message, generate.endpoints, allowed)]


def scale_problems(
    document: Document,
    network: Network,
    built: BuiltFabric,
    manifests: Sequence[Manifest],
    probes: Mapping[int, Probe],
) -> Iterator[Problem]:
    """Events that would make more pods than there are addresses for, in a build in which the manifests' own fit."""
    for index, probe in probes.items():
        for number, event in enumerate(probe.events):
            scaled = [_scaled(manifest, event.scale) for manifest in manifests]
            if scaled == list(manifests):
                continue
            path: FieldPath = ("probes", index, "events", number, "scale", "replicas")
            try:
                make_objects(built.fabric, network, "overlay", scaled)
            except AssignmentError as error:
                for problem in error.problems:
                    yield document.problem(path, problem.reason + built.where, event.scale.replicas)


def _scaled(manifest: Manifest, scale: Scale) -> Manifest:
    """The Deployment that is meant with as many replicas, if these are more; any other object as it is."""
    wanted = ("Deployment", scale.namespace, scale.deployment)
    if (manifest.kind, manifest.namespace, manifest.name) != wanted or replica_count(manifest) >= scale.replicas:
        return manifest
    return replace(manifest, object={**manifest.object, "spec": {**manifest.spec, "replicas": scale.replicas}})


def _manifest_problem(problem: AssignmentProblem, built: BuiltFabric, manifest: Manifest) -> Problem:
    path = parse_field(problem.field)
    nodes = [element.name for element in built.fabric.of_kind("node")]
    is_unknown_node = problem.field.endswith("spec.nodeName") and problem.value not in ("", *nodes)
    hint = suggestion(problem.value, nodes) if is_unknown_node else ""
    allowed = names_text(nodes) if is_unknown_node else problem.allowed
    return manifest.problem(path, problem.reason + built.where + hint, problem.value or None, allowed)
