"""The experiment file as checked values. Field names are what a person writes; descriptions feed the JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from testbed.cluster.values import Mode

FORMAT = "testbed/v1"

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Model(BaseModel):
    """Unknown fields are errors; values do not change after checking."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class LinkProperties(Model):
    """What the links of one role do to packets, in each direction."""

    rate: str | None = Field(None, description="bit rate with unit, for example 100Mbit or 1Gbit (tbf)")
    delay: str | None = Field(None, description="one-way delay with unit, for example 500us or 2ms (netem)")
    jitter: str | None = Field(None, description="standard deviation of the delay, with unit (netem)")
    loss: str | None = Field(None, description="packet loss, for example 0.1% (netem)")
    queue: PositiveInt | None = Field(None, description="queue length in packets (netem limit)")


class Topology(Model):
    """A topology by name, with its parameters."""

    name: str = Field(description="single_switch, leaf_spine, fat_tree or zones")
    parameters: dict[str, int] = Field(default_factory=dict, description="the Topo class's own parameters")
    links: dict[str, LinkProperties] = Field(default_factory=dict, description="link role (access, fabric, wan) to properties")


class Network(Model):
    """Cluster-wide addresses and sizes, spelled as kube-controller-manager and kubeadm spell them."""

    clusterCIDR: str = Field("10.244.0.0/16", description="addresses of all pods")
    serviceCIDR: str = Field("10.96.0.0/12", description="addresses of Services")
    nodeCIDRMaskSize: Annotated[int, Field(ge=16, le=29, strict=True)] = Field(24, description="prefix length of a node's pod CIDR")
    vni: Annotated[int, Field(ge=1, le=16777215, strict=True)] = Field(1, description="VXLAN network identifier")
    mtu_bytes: Annotated[int, Field(ge=1280, le=9000, strict=True)] = Field(1500, description="MTU of the underlay")


class Path(Model):
    """A named pair of endpoints. An endpoint is POD, NAMESPACE/POD (prefix ``pod/`` optional), node/NODE or ext/HOST."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")


class Build(Model):
    """One built cluster of the experiment; several are measured one after the other."""

    name: Name = "main"
    parameters: dict[str, int] = Field(default_factory=dict, description="overrides topology.parameters")
    idle_ports: Annotated[int, Field(ge=0, le=1000, strict=True)] = Field(
        0, description="idle ports added to each node's bridge (the control for port cost)"
    )


ProbeKind = Literal["icmp_rtt", "udp_rr", "tcp_rr", "tcp_crr", "throughput", "first_packet", "flow_count", "command"]


class Probe(Model):
    """One measurement, run in every arm of every round on each of its paths."""

    kind: ProbeKind
    name: Name | None = Field(None, description="defaults to the kind; must be unique")
    paths: tuple[str, ...] | None = Field(None, description="names of paths; all by default")
    duration_s: Seconds = Field(1.0, description="measuring time of one cell, after the warm-up")
    warmup_s: Annotated[float, Field(ge=0, le=60)] = Field(0.2, description="time before measuring whose samples are not kept")
    payload_bytes: tuple[Annotated[int, Field(ge=16, le=65000, strict=True)], ...] = Field(
        (64,), description="payload sizes, each a cell of its own (a factor)"
    )
    interval_ms: Annotated[float, Field(ge=0, le=10000)] | None = Field(
        None, description="open loop: intended time between requests; closed loop (ping-pong) when absent"
    )
    protocol: Literal["tcp", "udp"] = Field("tcp", description="throughput: transport protocol")
    # command only
    argv: tuple[str, ...] | None = Field(None, description="command: program and arguments, run at the path's source; {target} is the target's address")
    server_argv: tuple[str, ...] | None = Field(None, description="command: a server run at the path's target meanwhile")
    pattern: str | None = Field(None, description="command: regular expression; its first group is a figure, every match counts")
    json_path: str | None = Field(None, description="command: dotted path into JSON output, for example end.sum_sent.bits_per_second")
    metric: str | None = Field(None, description="command: name of the figure with its unit, for example rtt_us")
    scale: float = Field(1.0, description="command: factor from the figure's unit to the metric's")
    higher_is_better: bool = False

    @property
    def label(self) -> str:
        return self.name or self.kind


class Expectation(Model):
    """A condition on the result; when it does not hold the command ends with status 1 and names it."""

    probe: str
    path: str | None = None
    build: str | None = None
    payload_bytes: int | None = None
    statistic: Literal["ratio", "ratio_ci_low", "ratio_ci_high", "median", "p99", "loss"] = "ratio"
    mode: Mode | None = Field(None, description="for median, p99 and loss: which mode")
    at_most: float | None = None
    at_least: float | None = None


class Experiment(Model):
    """One experiment: what is built, what is measured on it, and what is expected."""

    format: Literal["testbed/v1"]
    name: Name
    description: str = ""
    topology: Topology
    network: Network = Field(default_factory=Network)
    manifests: tuple[str, ...] = Field((), description="manifest files, relative to this file")
    builds: tuple[Build, ...] = (Build(),)
    modes: tuple[Mode, ...] = ("overlay", "routed")
    paths: dict[Name, Path] = Field(default_factory=dict)
    probes: tuple[Probe, ...]
    primary: str | None = Field(None, description="label of the probe whose ratios form the primary family; the first latency probe by default")
    rounds: Annotated[int, Field(ge=1, le=1000, strict=True)] = 10
    seed: Annotated[int, Field(ge=0, strict=True)] = 1
    expect: tuple[Expectation, ...] = ()


JsonObject = dict[str, Any]
