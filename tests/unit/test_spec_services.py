"""Experiments with Services that are right: what they are built from, and what is warned of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.view import cluster_state
from testbed.errors import InputError
from testbed.spec import CheckedExperiment, load_experiment
from testbed.spec.warnings import primary_family_size

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: main, image: pause}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: main
          image: whoami
          ports: [{name: http, containerPort: 8000}]
          readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""
BY_HAND = """
---
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{name: http, port: 8000}]
"""


def load(folder: Path, manifests: str = WEB, more: str = "", overrides: tuple[str, ...] = ()) -> CheckedExperiment:
    (folder / "web.yaml").write_text(manifests)
    (folder / "case.yaml").write_text(
        "format: testbed/v1\nname: case\ntopology: {name: single_switch, parameters: {nodes: 2, ext: 1}}\n"
        f"manifests: [web.yaml]\n{more}"
    )
    return load_experiment(folder / "case.yaml", overrides)


HTTP = "paths: {web: {from: client, to: service/web:80}}\nprobes: [{kind: http}]\n"


def objects(checked: CheckedExperiment, number: int = 0) -> list[dict[str, Any]]:
    return list(checked.objects(checked.experiment.builds[number], "overlay"))


def test_everything_that_follows_from_the_manifests_is_there(tmp_path: Path) -> None:
    checked = load(tmp_path, more=HTTP)
    assert checked.pod_count == 4
    assert not checked.warnings
    found = Counter(wire["kind"] for wire in objects(checked))
    # The cluster's DNS comes with the first Service: one Deployment, its ReplicaSet, a pod, a Service, its slice.
    assert found == {
        "ConfigMap": 2,
        "Node": 2,
        "Deployment": 2,
        "ReplicaSet": 2,
        "Pod": 5,
        "Service": 2,
        "EndpointSlice": 2,
    }
    state = cluster_state(objects(checked))
    ports = {entry.key: entry for entry in state.service_ports}
    assert sorted(ports) == ["default/web:/TCP", "kube-system/kube-dns:dns-tcp/TCP", "kube-system/kube-dns:dns/UDP"]
    assert [entry.target_port for entry in ports["default/web:/TCP"].endpoints] == [8000] * 3
    assert str(ports["kube-system/kube-dns:dns/UDP"].cluster_ip) == "10.96.0.10"
    assert objects(checked) == objects(checked)


def test_the_cluster_starts_with_the_first_proxy(tmp_path: Path) -> None:
    checked = load(tmp_path, more=HTTP + "proxies: [nftables, openflow]\n")
    assert cluster_state(objects(checked)).config.proxy == "nftables"


@pytest.mark.parametrize(
    ("manifests", "more", "wanted"),
    [
        (WEB, "", True),
        (WEB, "network: {dns: off}\n", False),
        (WEB.partition("---")[0], "", False),
        (WEB.partition("---")[0], "network: {dns: on}\n", True),
        (WEB.partition("---")[0], "network: {dns: 'on'}\n", True),
        (WEB + BY_HAND.replace("name: by-hand}", "name: kube-dns, namespace: kube-system}"), "", False),
    ],
)
def test_the_clusters_dns_is_there_when_it_is_wanted(manifests: str, more: str, wanted: bool, tmp_path: Path) -> None:
    checked = load(tmp_path, manifests, more + "probes: [{kind: flow_count}]\n")
    made = [wire for wire in objects(checked) if wire["kind"] == "Deployment" and wire["metadata"]["name"] != "web"]
    assert len(made) == wanted
    specs = dict(checked.pod_specs())
    assert any("cluster-dns" in words for words in specs) == wanted


def test_generated_services_are_beside_those_of_the_manifests(tmp_path: Path) -> None:
    builds = "builds: [{name: none}, {name: some, generate: {services: 20, endpoints: 3}}]\n"
    checked = load(tmp_path, more=HTTP + builds)
    plain, filled = (cluster_state(objects(checked, number)) for number in (0, 1))
    assert filled.pods == plain.pods
    filler = [entry for entry in filled.service_ports if entry.namespace == "filler"]
    assert len(filler) == 20 == len(filled.service_ports) - len(plain.service_ports)
    addresses = {pod.pod_ip for pod in filled.pods}
    for entry in filler:
        assert len(entry.cluster_endpoints) == 3
        assert {endpoint.endpoint_ip for endpoint in entry.endpoints} <= addresses
    assert len({entry.group_number for entry in filled.service_ports}) == len(filled.service_ports)


def test_what_finds_nobody_is_warned_of(tmp_path: Path) -> None:
    lonely = WEB + BY_HAND + BY_HAND.replace("by-hand", "nobody").replace("name: nobody}\n", "name: somebody}\n")
    lonely += "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\n"
    lonely += BY_HAND.replace("by-hand", "bare").replace("labels: {kubernetes.io/service-name: bare}", "labels: {}")
    lonely = lonely.replace("{name: web}\nspec: {selector: {app: web}", "{name: web}\nspec: {selector: {app: wep}")
    warnings = load(tmp_path, lonely, HTTP).warnings
    assert [warning.partition(": ")[2].partition("\n")[0] for warning in warnings] == [
        "spec.selector: no pod of the manifests has these labels",
        "metadata.labels: has no effect: there is no Service nobody in namespace default",
        "metadata.name: has no effect: the Service web has a selector, so its endpoints are the pods it selects",
        "metadata.labels: has no effect without the label kubernetes.io/service-name, which names the Service",
    ]


def test_fields_without_effect_are_warned_of_in_every_kind(tmp_path: Path) -> None:
    more = WEB.replace("spec: {selector: {app: web}, ", "spec: {selector: {app: web}, externalIPs: [192.0.2.7], ")
    more = more.replace(
        "          readinessProbe:", "          securityContext: {runAsUser: 5}\n          readinessProbe:"
    )
    more += BY_HAND.replace("addresses: [192.0.2.1]", "addresses: [192.0.2.1], hints: {}")
    warnings = load(tmp_path, more, HTTP).warnings
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "spec.template.spec.containers[0].securityContext: has no effect here",
        "spec.externalIPs: has no effect here",
        "endpoints[0].hints: has no effect here",
    ]


def test_a_path_may_lead_to_anything_that_answers(tmp_path: Path) -> None:
    manifests = (
        WEB
        + BY_HAND
        + (
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: balanced}\n"
            "spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}\n"
        )
    )
    pod = next(
        wire["metadata"]["name"]
        for wire in objects(load(tmp_path, manifests, HTTP))
        if wire["kind"] == "Pod" and wire["metadata"]["name"].startswith("web-")
    )
    targets = ["service/web:80", "loadbalancer/balanced:80", "service/by-hand:80", "node/n2:30080", f"{pod}:8000"]
    paths = "".join(f"  path_{number}: {{from: node/n1, to: {text}}}\n" for number, text in enumerate(targets))
    outside = "  outside: {from: ext/ext1, to: loadbalancer/balanced:80}\n  port: {from: ext/ext1, to: node/n1:30080}\n"
    checked = load(tmp_path, manifests, f"paths:\n{paths}{outside}probes: [{{kind: http}}, {{kind: tcp_crr}}]\n")
    assert len(checked.experiment.paths) == 7


EXPERIMENT = HTTP.replace("web: {", "direct: {from: client, to: node/n1:80}, web: {baseline: direct, ")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (EXPERIMENT, []),
        (EXPERIMENT + "modes: [routed]\n", []),
        (HTTP + "modes: [routed]\n", ["modes: one mode, one proxy and no baseline: nothing is compared, "]),
        (HTTP + "modes: [routed]\nproxies: [openflow, ipvs]\n", []),
        (HTTP + "rounds: 7\n", ["rounds: fewer than 8 rounds: every verdict will be inconclusive"]),
        # 2 / 2**8 is 0.0078, so six of them stay below 0.05, and seven do not.
        (HTTP.replace("[{kind: http}]", "[{kind: udp_rr, payload_bytes: [64, 65, 66, 67, 68, 69], paths: [n]}]"), None),
        (
            HTTP.replace("[{kind: http}]", "[{kind: udp_rr, payload_bytes: [64, 65, 66, 67, 68, 69, 70], paths: [n]}]"),
            9,
        ),
    ],
)
def test_too_few_rounds_for_a_verdict_are_warned_of(more: str, said: Any, tmp_path: Path) -> None:
    more = more.replace("paths: {", "paths: {n: {from: node/n1, to: node/n2}, ", 1) + "network: {dns: off}\n"
    if "rounds:" not in more and not isinstance(said, list):
        more += "rounds: 8\n"
    warnings = [warning.partition(": ")[2] for warning in load(tmp_path, more=more).warnings]
    if said == 9:
        (warning,) = warnings
        assert warning.startswith("rounds: too few rounds for 7 primary comparisons")
        assert "at least 9, or fewer comparisons" in warning
        assert not load(tmp_path, more=more, overrides=("rounds=9",)).warnings
    else:
        assert [warning[: len(text)] for warning, text in zip(warnings, said or [], strict=True)] == (said or [])


def test_a_misspelt_kind_of_probe_is_one_problem(tmp_path: Path) -> None:
    more = (
        "paths: {n: {from: node/n1, to: node/n2}}\nprobes: [{kind: udp_r}]\nprimary: udp_rr\n"
        "expect: [{probe: udp_rr, path: n, at_most: 2}]\n"
    )
    with pytest.raises(InputError) as caught:
        load(tmp_path, more=more)
    assert [problem.field for problem in caught.value.problems] == ["probes[0].kind"]


def test_first_packets_are_counted_by_the_protocols_of_the_service(tmp_path: Path) -> None:
    both = (
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: both}\nspec:\n  selector: {app: web}\n  ports:\n"
        "    - {name: tcp, port: 80, targetPort: 8000}\n    - {name: udp, port: 80, targetPort: 8000, protocol: UDP}\n"
    )
    paths = "".join(
        f"  path_{number}: {{from: client, to: {target}}}\n"
        for number, target in enumerate(("service/web:80", "service/both:80", "node/n1"))
    )
    checked = load(tmp_path, WEB + both, f"paths:\n{paths}probes: [{{kind: first_packet}}]\n")
    assert primary_family_size(checked.experiment, checked.manifests) == 1 + 2 + 2


@pytest.mark.parametrize(
    ("slices", "each", "refused"), [(2, 371, False), (2, 372, True), (1, 743, False), (1, 744, True)]
)
def test_endpoints_are_counted_by_port(slices: int, each: int, refused: bool, tmp_path: Path) -> None:
    listed = BY_HAND.rpartition("---")[2]
    addresses = ", ".join("{addresses: [192.0.2.1]}" for _ in range(each))
    manifests = BY_HAND.rpartition("---")[0].removeprefix("\n---")
    for number in range(slices):
        wire = listed.replace("[{addresses: [192.0.2.1]}]", f"[{addresses}]").replace("by-hand-1", f"slice-{number}")
        # The other port's endpoints are in a group of their own.
        manifests += "---" + wire + "---" + wire.replace("slice-", "other-").replace("name: http", "name: other")
    manifests = manifests.replace("{name: http, port: 80}", "{name: http, port: 80}, {name: other, port: 81}")
    more = "probes: [{kind: flow_count}]\nnetwork: {dns: off}\n"
    if not refused:
        assert load(tmp_path, manifests, more)
        return
    with pytest.raises(InputError, match=r"more endpoints than a group .* can hold \(Service default/by-hand\)"):
        load(tmp_path, manifests, more)
    assert load(tmp_path, manifests, more + "proxies: [iptables]\n")
