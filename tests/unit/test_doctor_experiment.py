"""What an experiment needs is read off its links, its containers and its probes."""

from __future__ import annotations

from pathlib import Path

from testbed.doctor.experiment_needs import experiment_needs
from testbed.spec.load import load_experiment

_EXPERIMENT = """\
format: testbed/v1
name: demanding
topology:
  name: zones
  links:
    wan: {rate: 100Mbit, delay: 5ms}
manifests: [pods.yaml]
paths:
  across: {from: a, to: b}
probes:
  - {kind: icmp_rtt}
  - {kind: udp_rr, tool: sockperf}
  - {kind: tcp_rr}
  - {kind: throughput}
  - {kind: command, name: mine, argv: [my-client, "{target}"], server_argv: [my-server], pattern: "(.*)", metric: x_us}
"""
_PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: c, image: pause}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec: {containers: [{name: web, image: whatever, command: [my-web-server]}]}
"""


def test_everything_that_is_used_is_needed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(_EXPERIMENT)
    (tmp_path / "pods.yaml").write_text(_PODS)
    checked = load_experiment(tmp_path / "experiment.yaml")
    needs = experiment_needs(checked, "user")
    assert needs.datapath == "user"
    assert dict(needs.features) == {
        "netem": "links of role wan have delay, jitter, loss or queue",
        "tbf": "links of role wan have a rate",
    }
    assert dict(needs.tools) == {
        "my-web-server": "container web of pod b",
        "ping": "probe icmp_rtt",
        "sockperf": "probe udp_rr",
        "iperf3": "probe throughput",
        "my-client": "probe mine",
        "my-server": "probe mine",
    }
    assert dict(experiment_needs(checked, "user", probes=False).tools) == {"my-web-server": "container web of pod b"}


_SERVICES = """\
---
apiVersion: v1
kind: Service
metadata: {name: signalling}
spec: {selector: {app: a}, ports: [{port: 80, protocol: SCTP}]}
"""


def test_a_kernel_proxy_needs_its_programs_and_its_kernel_features(tmp_path: Path) -> None:
    text = _EXPERIMENT.replace("topology:", "proxies: [openflow, iptables, nftables, ipvs]\ntopology:")
    (tmp_path / "experiment.yaml").write_text(text)
    (tmp_path / "pods.yaml").write_text(_PODS)
    checked = load_experiment(tmp_path / "experiment.yaml")
    needs = experiment_needs(checked, "user", probes=False)
    assert {name for name, _ in needs.features} >= {"proxy_iptables", "proxy_nftables", "proxy_ipvs"}
    assert {"iptables-restore", "nft", "ipvsadm", "ipset", "sysctl"} <= {name for name, _ in needs.tools}
    assert needs.modules == ()


def test_a_service_of_protocol_sctp_needs_the_module(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(_EXPERIMENT)
    (tmp_path / "pods.yaml").write_text(_PODS + _SERVICES)
    needs = experiment_needs(load_experiment(tmp_path / "experiment.yaml"), "user")
    assert needs.modules == (("sctp", "service signalling has a port of protocol SCTP"),)


def test_images_whose_program_becomes_another_need_that_one_too(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(_EXPERIMENT)
    controller = "registry.k8s.io/ingress-nginx/controller:v1.12"
    (tmp_path / "pods.yaml").write_text(_PODS.replace("image: pause", f"image: {controller}"))
    needs = experiment_needs(load_experiment(tmp_path / "experiment.yaml"), "user", probes=False)
    assert {"nginx", "ngx_http_lua_module.so"} <= {name for name, _ in needs.tools}
