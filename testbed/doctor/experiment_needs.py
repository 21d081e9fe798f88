"""What an experiment needs of the machine, read off the experiment. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from testbed.doctor.catalogue import LUA_MODULE
from testbed.doctor.facts import DatapathWish
from testbed.doctor.needs import Needs
from testbed.spec.images import UnknownImage, container_argv, find_image

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment

# Probes that start a program; the others are the testbed's own.
_PROBE_TOOLS = {"icmp_rtt": "ping", "throughput": "iperf3"}
# Images whose program becomes another one.
_IMAGE_TOOLS = {"cluster-dns": ("knotd",), "ingress-nginx/controller": ("nginx", LUA_MODULE)}
# The kernels' proxies; the bridges' needs nothing that not every network needs.
_PROXY_TOOLS = {
    "iptables": ("iptables-restore",),
    "nftables": ("nft",),
    "ipvs": ("ipvsadm", "ipset", "iptables-restore", "sysctl"),
}


def experiment_needs(checked: CheckedExperiment, datapath: DatapathWish, *, probes: bool = True) -> Needs:
    """The needs of building it, and, with ``probes``, of measuring it."""
    tools = dict(_container_programs(checked))
    if probes:
        tools |= dict(_probe_programs(checked))
    tools |= dict(_proxy_programs(checked))
    return Needs(datapath, tuple(_features(checked)), tuple(tools.items()), tuple(_modules(checked)))


def _features(checked: CheckedExperiment) -> Iterator[tuple[str, str]]:
    for role, shaping in checked.shaping.items():
        if shaping.needs_netem:
            yield "netem", f"links of role {role} have delay, jitter, loss or queue"
        if shaping.rate_mbit is not None:
            yield "tbf", f"links of role {role} have a rate"
    for proxy in checked.experiment.proxies:
        if proxy in _PROXY_TOOLS:
            yield f"proxy_{proxy}", f"proxy: {proxy}"


def _modules(checked: CheckedExperiment) -> Iterator[tuple[str, str]]:
    """SCTP can be balanced without it, but no program can speak it."""
    for manifest in checked.manifests:
        if manifest.kind == "Service":
            ports = manifest.object["spec"].get("ports") or ()
            if any(port.get("protocol") == "SCTP" for port in ports):
                yield "sctp", f"service {manifest.name} has a port of protocol SCTP"


def _proxy_programs(checked: CheckedExperiment) -> Iterator[tuple[str, str]]:
    for proxy in checked.experiment.proxies:
        for tool in _PROXY_TOOLS.get(proxy, ()):
            yield tool, f"proxy: {proxy}"


def _container_programs(checked: CheckedExperiment) -> Iterator[tuple[str, str]]:
    for whose, spec in checked.pod_specs():
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
            try:
                argv = container_argv(container)
            except UnknownImage:  # a warning was given; the pod will say so itself
                continue
            if argv:
                image = find_image(str(container.get("image") or ""))
                others = _IMAGE_TOOLS.get(image.name, ()) if image and not container.get("command") else ()
                for tool in (argv[0], *others):
                    yield tool, f"container {container['name']} of {whose}"
    if checked.wants_dns:
        yield "knotd", "the cluster's DNS (network.dns)"  # the container's program becomes it


def _probe_programs(checked: CheckedExperiment) -> Iterator[tuple[str, str]]:
    for probe in checked.experiment.probes:
        if probe.kind in _PROBE_TOOLS:
            yield _PROBE_TOOLS[probe.kind], f"probe {probe.label}"
        if probe.tool == "sockperf":
            yield "sockperf", f"probe {probe.label}"
        for argv in (probe.argv, probe.server_argv):
            if argv:
                yield argv[0], f"probe {probe.label}"
