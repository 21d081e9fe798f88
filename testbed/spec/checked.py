"""The result of checking: an experiment that can be built, and the values that the build starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.cluster import identity
from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.dns_addon import dns_addon
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.values import Mode, ProxyName
from testbed.spec.filler import filler_pods, filler_services, filler_slices
from testbed.spec.manifests import Manifest, pod_template, replica_count
from testbed.spec.models import Build, Experiment, Generate, LinkProperties, Network, Topology
from testbed.spec.units import parse_delay_ms, parse_loss_pct, parse_rate_mbit
from topologies import TOPOLOGIES
from topologies.fabric import Fabric, Shaping


@dataclass(frozen=True)
class CheckedExperiment:
    """An experiment in which everything that can be known before building is in order.

    ``shaping`` maps link roles to values. ``text`` is the experiment as YAML: the file as it was read or, with
    ``overrides``, written anew with them applied, so that reading it again gives the same experiment. A ``living``
    cluster is kept for people, who see its workloads come up as in Kubernetes.
    """

    experiment: Experiment
    file: Path
    manifests: tuple[Manifest, ...]
    shaping: dict[str, Shaping]
    text: str = field(repr=False)
    overrides: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    living: bool = False

    @property
    def pod_count(self) -> int:
        """How many pods the manifests make."""
        return sum(replica_count(manifest) for manifest in self.manifests if pod_template(manifest) is not None)

    def pod_specs(self) -> Iterator[tuple[str, JsonObject]]:
        """The ``spec`` of every pod and template, with words for whose it is."""
        for manifest in self.manifests:
            found = pod_template(manifest)
            if found is not None:
                yield f"{manifest.kind.lower()} {manifest.name}", found[1]["spec"]
        if self.wants_dns:
            service_cidr = self.experiment.network.config("overlay").service_cidr
            for wire in dns_addon(service_cidr):
                if wire["kind"] == "Deployment":
                    yield f"deployment {object_name(wire)} (network.dns)", wire["spec"]["template"]["spec"]

    @property
    def wants_dns(self) -> bool:
        """Whether the cluster's DNS is added to the manifests."""
        return wants_dns(self.experiment.network, self.manifests)

    def fabric(self, build: Build) -> Fabric:
        """The build's physical network."""
        return make_fabric(self.experiment.topology, build, self.shaping)

    def objects(self, build: Build, mode: Mode) -> tuple[JsonObject, ...]:
        """The build's cluster as complete Kubernetes objects, with every address decided.

        They are those of the manifests with all that follows from them (a Deployment's pods, a Service's slices), the
        build's generated Services, and the cluster's DNS where it is wanted.
        """
        experiment = self.experiment
        proxy = experiment.proxies[0]
        return make_objects(
            self.fabric(build), experiment.network, mode, self.manifests, build.generate, proxy, self.living
        )


def make_fabric(topology: Topology, build: Build, shaping: dict[str, Shaping]) -> Fabric:
    """A topology with a build's parameters. Raises KeyError or ValueError for what the checks would refuse."""
    return TOPOLOGIES[topology.name].plan_fabric(build_parameters(topology, build), shaping)


def build_parameters(topology: Topology, build: Build) -> dict[str, int]:
    """The topology's parameters with the build's laid over them."""
    return {**topology.parameters, **build.parameters}


def make_objects(
    fabric: Fabric,
    network: Network,
    mode: Mode,
    manifests: Sequence[Manifest],
    generate: Generate | None = None,
    proxy: ProxyName = "openflow",
    living: bool = False,
) -> tuple[JsonObject, ...]:
    """A cluster on a fabric; ``living`` as for :func:`testbed.cluster.assign.assign`.

    Raises :class:`testbed.cluster.assign.AssignmentError`; the ``index`` of a problem is that of the manifest, and
    beyond the manifests' that of what the experiment adds to them.
    """
    nodes = [
        EdgeNode(element.name, fabric.address(element.name).ip, location=element.location)
        for element in fabric.of_kind("node")
    ]
    config = network.config(mode, proxy)
    wanted = [manifest.object for manifest in manifests]
    if wants_dns(network, manifests):
        wanted += dns_addon(config.service_cidr)
    objects = assign(nodes, config, network.nodeCIDRMaskSize, wanted, living)
    if generate is None:
        return objects
    pods = filler_pods([wire for wire in objects if wire["kind"] == "Pod"])
    wanted += filler_services(generate)
    wanted += filler_slices(generate, pods)
    # Once more, since Services are given addresses together; pods do not depend on them.
    return assign(nodes, config, network.nodeCIDRMaskSize, wanted, living)


def wants_dns(network: Network, manifests: Sequence[Manifest]) -> bool:
    """Whether the experiment adds the cluster's DNS to the manifests, which may bring their own."""
    if network.dns != "auto":
        return network.dns == "on"
    services = [(manifest.namespace, manifest.name) for manifest in manifests if manifest.kind == "Service"]
    return bool(services) and (identity.DNS_NAMESPACE, identity.DNS_NAME) not in services


def link_shaping(properties: LinkProperties) -> Shaping:
    """The quantities of one link role as numbers."""
    return Shaping(
        rate_mbit=None if properties.rate is None else parse_rate_mbit(properties.rate),
        delay_ms=None if properties.delay is None else parse_delay_ms(properties.delay),
        jitter_ms=None if properties.jitter is None else parse_delay_ms(properties.jitter),
        loss_pct=None if properties.loss is None else parse_loss_pct(properties.loss),
        queue_packets=properties.queue,
    )
