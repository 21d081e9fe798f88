"""The experiment file as checked values. Field names are what a person writes; descriptions feed the JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from testbed.cluster.values import MAX_GROUP_ENDPOINTS, Mode, NetworkConfig, ProxyName
from testbed.spec.events import Event
from testbed.spec.field_types import (
    CIDR,
    Delay,
    Endpoint,
    JsonPath,
    Loss,
    Name,
    Number,
    Parameters,
    PositiveInt,
    Rate,
    RegularExpression,
    Seconds,
    Switch,
    TargetText,
    UrlPath,
    parse_cidr,
)
from testbed.spec.model import Model

FORMAT = "testbed/v1"


class LinkProperties(Model):
    """What the links of one role do to packets, in each direction."""

    rate: Rate | None = Field(default=None, description="bit rate with unit, for example 100Mbit or 1Gbit (tbf)")
    delay: Delay | None = Field(default=None, description="one-way delay with unit, for example 500us or 2ms (netem)")
    jitter: Delay | None = Field(default=None, description="standard deviation of the delay; needs delay (netem)")
    loss: Loss | None = Field(default=None, description="packet loss, for example 0.1% (netem)")
    queue: PositiveInt | None = Field(default=None, description="queue length in packets (netem limit)")


class Topology(Model):
    """The physical network: a topology by name, with its parameters."""

    name: str = Field(description="single_switch, leaf_spine, fat_tree or zones")
    parameters: Parameters = Field(
        default_factory=dict, description="the topology's own parameters; what is left out has its default"
    )
    links: dict[str, LinkProperties] = Field(
        default_factory=dict, description="link role (access, fabric, wan) to what its links do to packets"
    )


class Network(Model):
    """Cluster-wide addresses and sizes, spelled as kube-controller-manager and kubeadm spell them."""

    clusterCIDR: CIDR = Field(default="10.244.0.0/16", description="addresses of all pods")
    serviceCIDR: CIDR = Field(default="10.96.0.0/12", description="addresses of Services")
    loadBalancerCIDR: CIDR = Field(
        default="198.18.0.0/24", description="addresses that Services of type LoadBalancer get"
    )
    nodeCIDRMaskSize: Annotated[int, Field(ge=16, le=29, strict=True)] = Field(
        default=24, description="prefix length of a node's pod CIDR"
    )
    vni: Annotated[int, Field(ge=1, le=16777215, strict=True)] = Field(default=1, description="VXLAN network id")
    mtu_bytes: Annotated[int, Field(ge=1330, le=9000, strict=True)] = Field(
        default=1500,
        description="MTU of the underlay, and of the pods in routed mode; in overlay mode pods have 50 bytes less, "
        "and an IPv6 packet of 1280 bytes must still fit",
    )
    dns: Switch = Field(
        default="auto", description="the cluster's DNS server, a pod behind a Service; auto: if there is any Service"
    )

    def config(self, mode: Mode, proxy: ProxyName = "openflow") -> NetworkConfig:
        """The settings of the cluster network in one mode and with one Service proxy."""
        return NetworkConfig(
            mode=mode,
            proxy=proxy,
            load_balancer_cidr=parse_cidr(self.loadBalancerCIDR),
            cluster_cidr=parse_cidr(self.clusterCIDR),
            service_cidr=parse_cidr(self.serviceCIDR),
            vni=self.vni,
            underlay_mtu_bytes=self.mtu_bytes,
        )


class Path(Model):
    """A named pair of ends, and what it is compared with.

    An endpoint is POD, NAMESPACE/POD, pod/NAMESPACE/POD, node/NODE or ext/HOST. A target is an endpoint, ENDPOINT:PORT,
    service/[NAMESPACE/]NAME:PORT or loadbalancer/[NAMESPACE/]NAME:PORT.
    """

    source: Endpoint = Field(alias="from", description="where requests start")
    target: TargetText = Field(alias="to", description="where requests go")
    baseline: str | None = Field(
        default=None, description="name of another path, with which this one is compared in the same mode and proxy"
    )


class Generate(Model):
    """Services that nobody asks anything of: load for whatever balances connections."""

    services: Annotated[int, Field(ge=1, le=20_000, strict=True)] = Field(description="how many Services")
    endpoints: Annotated[int, Field(ge=0, le=MAX_GROUP_ENDPOINTS, strict=True)] = Field(
        default=1, description="endpoints of each: ports of the experiment's pods, of which no two Services share one"
    )


class Build(Model):
    """One built cluster of the experiment; several are measured one after the other."""

    name: Name = Field(default="main", description="unique in the experiment; stands in every row of the samples")
    parameters: Parameters = Field(default_factory=dict, description="laid over topology.parameters")
    idle_ports: Annotated[int, Field(ge=0, le=1000, strict=True)] = Field(
        default=0, description="idle ports added to each node's bridge (the control for port cost)"
    )
    generate: Generate | None = Field(default=None, description="Services added to those of the manifests")


Comparison = Literal["mode", "proxy", "path", "nothing"]
ProbeKind = Literal[
    "icmp_rtt",
    "udp_rr",
    "tcp_rr",
    "tcp_crr",
    "http",
    "throughput",
    "first_packet",
    "flow_count",
    "program",
    "command",
]
# What the primary family is of when the experiment does not say.
LATENCY_KINDS: tuple[ProbeKind, ...] = ("udp_rr", "tcp_rr", "icmp_rtt", "tcp_crr", "first_packet", "http")
# Kinds whose samples count lost requests. TCP sends again what is lost, so there a loss shows as a late answer.
LOSS_KINDS: tuple[ProbeKind, ...] = ("udp_rr", "icmp_rtt", "first_packet", "http")

_REQUEST_FIELDS = frozenset({"paths", "duration_s", "warmup_s", "payload_bytes", "interval_ms"})

# Which fields mean something for which kind, beside kind and name. Any other is refused: it would change nothing.
FIELDS_OF_KIND: dict[ProbeKind, frozenset[str]] = {
    "icmp_rtt": _REQUEST_FIELDS,
    "udp_rr": _REQUEST_FIELDS | {"tool"},
    "tcp_rr": _REQUEST_FIELDS,
    "tcp_crr": _REQUEST_FIELDS,
    "http": frozenset({"paths", "duration_s", "warmup_s", "rate_per_s", "keep_alive", "url", "late_ms", "events"}),
    "throughput": frozenset({"paths", "duration_s", "warmup_s", "protocol"}),
    "first_packet": frozenset({"paths", "duration_s"}),
    "flow_count": frozenset(),
    "program": frozenset({"duration_s"}),
    "command": frozenset(
        {"paths", "duration_s", "argv", "server_argv", "pattern", "json_path", "metric", "scale", "higher_is_better"}
    ),
}


class Probe(Model):
    """One measurement, run in every arm of every round on each of its paths."""

    kind: ProbeKind = Field(description="what is measured")
    name: Name | None = Field(default=None, description="defaults to the kind; unique in the experiment")
    paths: tuple[str, ...] | None = Field(default=None, min_length=1, description="names of paths; all by default")
    duration_s: Seconds = Field(default=1.0, description="measuring time of one cell, after the warm-up")
    warmup_s: Annotated[float, Field(ge=0, le=60, strict=True)] = Field(
        default=0.2, description="time before measuring whose samples are not kept"
    )
    payload_bytes: tuple[Annotated[int, Field(ge=16, le=65000, strict=True)], ...] = Field(
        default=(64,), min_length=1, description="payload sizes of a request, each a cell of its own (a factor)"
    )
    interval_ms: Annotated[float, Field(gt=0, le=10000, strict=True)] | None = Field(
        default=None, description="open loop: intended time between requests; closed loop (ping-pong) when absent"
    )
    tool: Literal["testbed", "sockperf"] = Field(
        "testbed", description="udp_rr: our own client, or sockperf as a check on it (closed loop; 2 s to start)"
    )
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="throughput: transport protocol")
    rate_per_s: Annotated[float, Field(gt=0, le=100_000, strict=True)] | None = Field(
        default=None,
        description="http: open loop, requests a second, each timed from when it should have been sent; "
        "closed loop when absent",
    )
    keep_alive: bool = Field(
        default=True, strict=True, description="http: many requests on one connection, or a connection for each"
    )
    url: UrlPath = Field(default="/", description="http: path of the request")
    late_ms: Annotated[float, Field(gt=0, le=1000, strict=True)] = Field(
        default=100.0, description="http: an answer later than this is counted as late"
    )
    events: tuple[Event, ...] = Field(default=(), description="http: what happens to the cluster meanwhile")
    argv: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="command: program and arguments, run at the path's source; {target} is the target's address",
    )
    server_argv: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="command: a server run at the path's target meanwhile"
    )
    pattern: RegularExpression | None = Field(
        default=None, description="command: regular expression; its first group is a figure, every match counts"
    )
    json_path: JsonPath | None = Field(
        default=None, description="command: dotted path into JSON output, for example end.sum_sent.bits_per_second"
    )
    metric: Name | None = Field(default=None, description="command: name of the figure with its unit: rtt_us")
    scale: Number = Field(default=1.0, description="command: factor from the figure's unit to the metric's")
    higher_is_better: bool = Field(default=False, strict=True, description="command: a larger figure is better")

    @property
    def label(self) -> str:
        return self.name or self.kind

    @property
    def takes_paths(self) -> bool:
        """Whether the probe runs between two ends; ``flow_count`` and ``program`` are of the whole cluster instead."""
        return "paths" in FIELDS_OF_KIND[self.kind]

    @property
    def payloads(self) -> tuple[int | None, ...]:
        """The payload factor; ``(None,)`` for a kind that has none."""
        return self.payload_bytes if "payload_bytes" in FIELDS_OF_KIND[self.kind] else (None,)


class Expectation(Model):
    """A condition on the result; when it does not hold the command ends with status 1 and names it."""

    probe: str = Field(description="label of a probe (its name, or its kind)")
    path: str | None = Field(default=None, description="name of a path; every path of the probe by default")
    build: str | None = Field(default=None, description="name of a build; every build by default")
    payload_bytes: Annotated[int, Field(strict=True)] | None = Field(
        default=None, description="one of the probe's payload sizes; every one by default"
    )
    statistic: Literal["ratio", "ratio_ci_low", "ratio_ci_high", "median", "p99", "loss"] = Field(
        default="ratio",
        description="ratio: of the medians of what is compared, or an end of its 95% interval; median, p99: in the "
        "metric's unit; loss: share of probes lost, from 0 to 1",
    )
    mode: Mode | None = Field(
        default=None, description="which mode; every mode by default. Not for a ratio of the two modes"
    )
    proxy: ProxyName | None = Field(
        default=None, description="which Service proxy; every one by default. In a ratio of proxies: the one compared"
    )
    at_most: Number | None = Field(default=None, description="upper limit")
    at_least: Number | None = Field(default=None, description="lower limit")


class Experiment(Model):
    """One experiment: what is built, what is measured on it, and what is expected."""

    format: Literal["testbed/v1"] = Field(description="version of this file format")
    name: Name = Field(description="names the results folder")
    description: str = Field(default="", description="what the experiment asks; stands in the report")
    topology: Topology = Field(description="the physical network")
    network: Network = Field(default_factory=Network, description="addresses and sizes of the cluster network")
    manifests: tuple[str, ...] = Field(default=(), description="manifest files, relative to this file")
    builds: tuple[Build, ...] = Field(default=(Build(),), min_length=1, description="measured one after the other")
    modes: tuple[Mode, ...] = Field(
        default=("overlay", "routed"), min_length=1, description="pod networks to compare; both run in every round"
    )
    proxies: tuple[ProxyName, ...] = Field(
        default=("openflow",),
        min_length=1,
        description="what balances the connections of Services; all run in every round, in every mode",
    )
    compare: Comparison | None = Field(
        default=None,
        description="what the primary family compares: overlay with routed, each proxy with the first, each path with "
        "its baseline, or nothing, so that every figure stands alone; by default paths if any has a baseline, else "
        "proxies if there are several, else modes",
    )
    paths: dict[Name, Path] = Field(default_factory=dict, description="name to pair of ends")
    probes: tuple[Probe, ...] = Field(default=(), description="measurements; at least one to run")
    primary: str | None = Field(
        default=None,
        description="label of the probe whose ratios are the primary family; by default the first latency probe",
    )
    rounds: Annotated[int, Field(ge=1, le=1000, strict=True)] = Field(
        default=10, description="repetitions of everything; fewer than 8 valid ones are inconclusive"
    )
    seed: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] = Field(
        default=1, description="decides the order of modes in each round and the resampling"
    )
    expect: tuple[Expectation, ...] = Field(default=(), description="conditions on the result")

    @property
    def compared(self) -> Comparison:
        """What the primary family compares, whether the file says so or not."""
        if self.compare is not None:
            return self.compare
        if any(path.baseline is not None for path in self.paths.values()):
            return "path"
        return "proxy" if len(self.proxies) > 1 else "mode"

    @property
    def primary_probe(self) -> Probe | None:
        """The probe of the primary family: the one named, or the first that measures latency, or the first."""
        if self.primary is not None:
            return next((probe for probe in self.probes if probe.label == self.primary), None)
        latency = (probe for probe in self.probes if probe.kind in LATENCY_KINDS)
        return next(latency, next(iter(self.probes), None))
