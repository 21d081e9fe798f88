"""Checks of what the cluster is built of: addresses and places of every pod and Service, in each build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from testbed.cluster import identity
from testbed.cluster.assign import AssignmentError, AssignmentProblem
from testbed.cluster.objects import JsonObject
from testbed.errors import Problem
from testbed.spec.check_network import BuiltFabric
from testbed.spec.checked import make_objects, wants_dns
from testbed.spec.events import Scale
from testbed.spec.field_types import parse_cidr
from testbed.spec.filler import TooManyEndpoints
from testbed.spec.manifests import Manifest, replica_count
from testbed.spec.models import Network, Probe
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.overrides import parse_field
from testbed.spec.source import Document, FieldPath


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
            if event.scale is None:
                continue
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
