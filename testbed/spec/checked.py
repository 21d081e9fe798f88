"""The result of checking: an experiment that can be built, and the values that the build starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import Mode, ProxyName
from testbed.spec.manifests import Manifest
from testbed.spec.models import Build, Experiment, Generate, LinkProperties, Network, Topology
from testbed.spec.units import parse_delay_ms, parse_loss_pct, parse_rate_mbit
from topologies import TOPOLOGIES
from topologies.fabric import Fabric, Shaping


@dataclass(frozen=True)
class CheckedExperiment:
    """An experiment in which everything that can be known before building is in order.

    ``shaping`` maps link roles to values. ``text`` is the experiment as YAML: the file as it was read or, with
    ``overrides``, written anew with them applied, so that reading it again gives the same experiment.
    """

    experiment: Experiment
    file: Path
    manifests: tuple[Manifest, ...]
    shaping: dict[str, Shaping]
    text: str = field(repr=False)
    overrides: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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
        return make_objects(self.fabric(build), experiment.network, mode, self.manifests, build.generate, proxy)


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
) -> tuple[JsonObject, ...]:
    """A cluster on a fabric. Raises :class:`testbed.cluster.assign.AssignmentError`; a problem's ``index`` is that of
    the manifest."""
    nodes = [
        EdgeNode(element.name, fabric.address(element.name).ip, location=element.location)
        for element in fabric.of_kind("node")
    ]
    objects = [manifest.object for manifest in manifests if manifest.kind == "Pod"]
    return assign(nodes, network.config(mode, proxy), network.nodeCIDRMaskSize, objects)


def link_shaping(properties: LinkProperties) -> Shaping:
    """The quantities of one link role as numbers."""
    return Shaping(
        rate_mbit=None if properties.rate is None else parse_rate_mbit(properties.rate),
        delay_ms=None if properties.delay is None else parse_delay_ms(properties.delay),
        jitter_ms=None if properties.jitter is None else parse_delay_ms(properties.jitter),
        loss_pct=None if properties.loss is None else parse_loss_pct(properties.loss),
        queue_packets=properties.queue,
    )
