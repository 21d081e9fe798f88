"""Whatever is in the files or on the command line: either an experiment, or InputError with a problem to read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import InputError
from testbed.spec import load_experiment, load_topology_argument

EXPERIMENT: dict[str, Any] = {
    "format": "testbed/v1",
    "name": "case",
    "description": "words",
    "topology": {
        "name": "single_switch",
        "parameters": {"nodes": 3, "ext": 1},
        "links": {"access": {"rate": "1Gbit", "delay": "1ms", "jitter": "10us", "loss": "0.1%", "queue": 10}},
    },
    "network": {
        "clusterCIDR": "10.244.0.0/16",
        "serviceCIDR": "10.96.0.0/12",
        "loadBalancerCIDR": "198.18.0.0/24",
        "dns": "on",
        "nodeCIDRMaskSize": 24,
        "vni": 1,
        "mtu_bytes": 1500,
    },
    "manifests": ["pods.yaml"],
    "builds": [
        {"name": "one", "parameters": {"nodes": 2}, "idle_ports": 3, "generate": {"services": 2, "endpoints": 3}}
    ],
    "modes": ["overlay", "routed"],
    "proxies": ["openflow", "nftables"],
    "compare": "path",
    "paths": {
        "pods": {"from": "a", "to": "other/b"},
        "vip": {"from": "a", "to": "service/web:80", "baseline": "pods"},
        "balanced": {"from": "ext/ext1", "to": "loadbalancer/other/balanced:53"},
        "out": {"from": "node/n1", "to": "ext/ext1"},
    },
    "probes": [
        {"kind": "udp_rr", "paths": ["pods"], "payload_bytes": [64, 512], "interval_ms": 1, "warmup_s": 0.1},
        {"kind": "command", "name": "own", "argv": ["x", "{target}"], "pattern": "(.)", "metric": "m_us", "scale": 2.0},
        {"kind": "flow_count"},
        {"kind": "program", "duration_s": 0.5},
        {
            "kind": "http",
            "paths": ["vip", "pods"],
            "duration_s": 2,
            "rate_per_s": 100,
            "keep_alive": False,
            "url": "/?a=1",
            "late_ms": 50,
            "events": [{"at_s": 1, "scale": {"deployment": "web", "namespace": "default", "replicas": 3}}],
        },
    ],
    "primary": "http",
    "rounds": 10,
    "seed": 1,
    "expect": [
        {"probe": "http", "path": "vip", "mode": "routed", "proxy": "nftables", "statistic": "ratio", "at_most": 2},
        {"probe": "udp_rr", "path": "pods", "payload_bytes": 64, "statistic": "p99", "at_most": 2},
    ],
}
PODS: list[Any] = [
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "labels": {"app": "a"}, "annotations": {"x": "y"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "n1"},
            "hostname": "h",
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x"]}],
            "dnsPolicy": "None",
            "dnsConfig": {
                "nameservers": ["10.0.0.2"],
                "searches": ["x.y"],
                "options": [{"name": "ndots", "value": "1"}],
            },
            "containers": [
                {
                    "name": "main",
                    "image": "busybox",
                    "command": ["sh", "-c", "$(A)"],
                    "args": ["x"],
                    "env": [{"name": "A", "value": "1"}],
                    "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 1},
                }
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "b", "namespace": "other"},
                "spec": {"nodeName": "n2", "containers": [{"name": "main", "image": "nginx:1"}]},
            }
        ],
    },
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "nginx", "ports": [{"containerPort": 80}]}]},
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.20",
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
            "internalTrafficPolicy": "Local",
            "ports": [{"port": 80, "targetPort": 80, "name": "http"}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "balanced", "namespace": "other"},
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30099,
            "loadBalancerIP": "198.18.0.9",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 30053},
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "balanced", "namespace": "other"},
        "subsets": [{"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}],
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "other", "labels": {"kubernetes.io/service-name": "balanced"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.4"], "conditions": {"ready": True}, "nodeName": "n1"}],
        "ports": [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
    },
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}},
]

# Sizes stay small: a topology of hundreds of routers is right, only slow to try many times.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers(-(2**70), -(2**40))
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "a",
            "other/b",
            "node/n1",
            "udp_rr",
            "overlay",
            "pods.yaml",
            "pause",
            "10.0.0.0/8",
            "1ms",
            "n9",
            "\0",
            "leaf_spine",
            "service/web:80",
            "None",
            "web",
            "ExternalName",
            30053,
        ]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
examples = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield (*path, step)
        yield from places(inner, (*path, step))


@st.composite
def mutated(draw: st.DrawFn, original: Any) -> Any:
    """The value with one to three places replaced, removed, renamed or given twice."""
    result = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        here = list(places(result))
        if not here:
            break
        *way, last = draw(st.sampled_from(here))
        parent = result
        for step in way:
            parent = parent[step]
        action = draw(st.sampled_from(["replace", "remove", "rename", "copy"]))
        if action == "replace":
            parent[last] = draw(values)
        elif action == "remove":
            del parent[last]
        elif isinstance(parent, dict):
            parent[draw(st.text(max_size=6))] = parent[last] if action == "copy" else parent.pop(last)
        else:
            parent.append(copy.deepcopy(parent[last]))
    return result


def load(folder: Path, experiment: Any, pods: Sequence[Any], overrides: Sequence[str] = ()) -> bool:
    """Whether it loads; anything but success and InputError is raised."""
    (folder / "case.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    (folder / "pods.yaml").write_text(yaml.safe_dump_all(pods, sort_keys=False))
    return outcome(folder / "case.yaml", overrides)


def outcome(file: Path, overrides: Sequence[str] = ()) -> bool:
    try:
        load_experiment(file, overrides)
    except InputError as error:
        assert error.problems
        assert all(problem.file and problem.message for problem in error.problems)
        str(error).encode()  # can be printed, whatever it quotes
        return False
    return True


def test_the_original_is_in_order(tmp_path: Path) -> None:
    assert load(tmp_path, EXPERIMENT, PODS)


@examples
@given(experiment=mutated(EXPERIMENT))
def test_any_change_of_an_experiment(experiment: Any, tmp_path: Path) -> None:
    load(tmp_path, experiment, PODS)


@examples
@given(pods=mutated(PODS))
def test_any_change_of_a_manifest(pods: Any, tmp_path: Path) -> None:
    load(tmp_path, EXPERIMENT, pods)


@examples
@given(value=values)
def test_any_document(value: Any, tmp_path: Path) -> None:
    assert not load(tmp_path, value, [value])


@examples
@given(experiment=st.binary(), pods=st.binary())
def test_any_bytes(experiment: bytes, pods: bytes, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_bytes(pods)
    (tmp_path / "case.yaml").write_bytes(experiment)
    assert not outcome(tmp_path / "case.yaml")
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    assert not outcome(tmp_path / "case.yaml")


@examples
@given(text=st.text(alphabet="kind: Pod\n-[]{}&*<|>!'\"#~01\t", max_size=80))
def test_any_text(text: str, tmp_path: Path) -> None:
    (tmp_path / "case.yaml").write_text(text)
    assert not outcome(tmp_path / "case.yaml")


fields = st.text(max_size=10) | st.sampled_from(
    ["probes[0]", "topology.parameters.nodes", "paths.pods.from", "rounds", "builds[9]"]
)


# With lone surrogates: that is how an argument that is not UTF-8 reaches Python.
any_words = st.text(alphabet=st.characters(), max_size=12)


@examples
@given(overrides=st.lists(any_words | st.builds("{}={}".format, fields, st.text(max_size=8)), max_size=3))
def test_any_override(overrides: list[str], tmp_path: Path) -> None:
    load(tmp_path, EXPERIMENT, PODS, overrides)


@examples
@given(
    argument=any_words
    | st.builds("{},{}={}".format, st.sampled_from(["leaf_spine", "zones"]), st.text(max_size=6), st.text(max_size=3))
)
def test_any_topology_argument(argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        load_topology_argument(argument)
    except InputError as error:
        assert error.problems
