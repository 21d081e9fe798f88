"""Probes to Services, with real packets: our servers behind them, evidence of an endpoint, pods that come and go."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from typing import Any

import pytest

from testbed.cluster.namespaces import namespace_object
from testbed.cluster.values import MODES
from testbed.measure import evidence
from testbed.measure.capture import capturing
from testbed.measure.events.restore import brought_back
from testbed.measure.evidence import Asking
from testbed.measure.probes import run_probe
from testbed.measure.probes.base import Context, Result, serve_echo
from testbed.measure.process import ProbeFailure, Servers
from testbed.network.testbed import Testbed
from testbed.spec.endpoints import EndpointRef, parse_endpoint, parse_target
from testbed.spec.filler import NAMESPACE, filler_pods, filler_services, filler_slices
from testbed.spec.models import Generate, Probe
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box

CLIENT = parse_endpoint("client")


def labelled(name: str, node: str, **labels: str) -> dict[str, Any]:
    found = pod(name, node)
    found["metadata"]["labels"] = labels
    return found


def service(name: str, selector: dict[str, str], *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": selector, "ports": list(ports), **spec},
    }


def both(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "protocol": name.upper(), "port": number, **more} for name in ("udp", "tcp")]


def settle(testbed: Testbed) -> None:
    testbed.wait_settled()
    testbed.wait_pods_ready()
    testbed.wait_settled()


def measured(testbed: Testbed, servers: Servers, source: EndpointRef, target: str, **fields: Any) -> Result:
    probe = Probe.model_validate({"duration_s": 0.15, "warmup_s": 0.05} | fields)
    return run_probe(Context(testbed, servers, probe, source, parse_target(target), probe.payload_bytes[0], 23456))


def proven(testbed: Testbed, servers: Servers, source: EndpointRef, target: str) -> evidence.Finding:
    asking = Asking(source, serve_echo(testbed, servers, parse_target(target), "udp"), "udp")
    marker = f"evidence {source} {target} {time.monotonic_ns()}".encode()
    with capturing(testbed.uplinks()) as capture:
        return evidence.take(testbed, capture, asking, 23457, marker)


def services_are_measured_like_pods() -> None:
    pods = [
        pod("client", "n1"),
        labelled("near", "n1", on="n1", app="echo"),
        labelled("far", "n2", on="n2", app="echo"),
    ]
    services = [
        service("far", {"on": "n2"}, *both(7000, targetPort=8100)),
        service("tcp-only", {"on": "n2"}, {"protocol": "TCP", "port": 7000}),
        service("none", {"app": "nobody"}, *both(7000)),
        service("local", {"app": "echo"}, *both(7000, nodePort=30070), type="NodePort", externalTrafficPolicy="Local"),
        service("any", {"on": "n2"}, *both(7000, nodePort=30071), type="NodePort"),
    ]
    plan = plan_of("leaf_spine", [*pods, *services], leaves=2, spines=1, nodes_per_leaf=1, ext=1)
    outside = parse_endpoint("ext/ext1")
    far_ip = str(next(each.pod_ip for each in plan.state.pods if each.name == "far"))
    with cluster(plan) as testbed, Servers(testbed) as servers:
        settle(testbed)
        for mode in MODES:
            testbed.set_mode(mode)
            for proxy in ("openflow", "nftables"):
                testbed.set_proxy(proxy)
                for kind, metric in (("udp_rr", "rtt_us"), ("tcp_rr", "rtt_us"), ("tcp_crr", "connect_rtt_us")):
                    result = measured(testbed, servers, CLIENT, "service/far:7000", kind=kind)
                    assert len(dict(result.values)[metric]) > 10 and not result.lost, (mode, proxy, kind)
                finding = proven(testbed, servers, CLIENT, "service/far:7000")
                assert finding.ok, (mode, proxy, finding.detail)
                assert finding.inner is not None and finding.inner["ipv4_dst"] == far_ip
                assert finding.inner["udp_dst"] == 8100
                assert (finding.outer is not None) == (mode == "overlay")
                for target in ("node/n1:30070", "node/n1:30071"):
                    finding = proven(testbed, servers, outside, target)
                    assert finding.ok, (mode, proxy, target, finding.detail)
                    result = measured(testbed, servers, outside, target, kind="tcp_crr")
                    assert result.lost == 0 and result.exchanges > 10, (mode, proxy, target)
        testbed.set_proxy("openflow")
        first = dict(measured(testbed, servers, CLIENT, "service/far:7000", kind="first_packet").values)
        assert set(first) == {"first_packet_us", "first_connection_us"}
        first = dict(measured(testbed, servers, CLIENT, "service/tcp-only:7000", kind="first_packet").values)
        assert set(first) == {"first_connection_us"}
        with pytest.raises(ProbeFailure, match=r"service/none:7000 has no usable endpoint"):
            measured(testbed, servers, CLIENT, "service/none:7000", kind="udp_rr")
        with pytest.raises(ProbeFailure, match="has no UDP port"):
            measured(testbed, servers, CLIENT, "service/tcp-only:7000", kind="udp_rr")


@pytest.mark.parametrize("user", USERS[-1:])  # the stricter
def test_services_are_measured_like_pods(user: str) -> None:
    run_in_box(services_are_measured_like_pods, user)


def _web_deployment(replicas: int) -> dict[str, Any]:
    readiness = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    container = {"name": "web", "image": "whoami", "ports": [{"containerPort": 8000}], "readinessProbe": readiness}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def requests_see_pods_come_and_go_and_programming_is_timed() -> None:
    objects = [
        pod("client", "n1"),
        _web_deployment(3),
        service("web", {"app": "web"}, {"port": 80, "targetPort": 8000}),
    ]
    plan = plan_of("leaf_spine", objects, leaves=2, spines=1, nodes_per_leaf=1)
    events = [{"at_s": at_s, "scale": {"deployment": "web", "replicas": count}} for at_s, count in ((0.3, 1), (1.2, 4))]
    fields = {"kind": "http", "duration_s": 4.0, "rate_per_s": 100.0, "keep_alive": False, "events": events}
    with cluster(plan) as testbed, Servers(testbed) as servers:
        settle(testbed)
        before = Counter(each.node_name for each in testbed.state.pods)
        for proxy in ("openflow", "nftables"):
            testbed.set_proxy(proxy)
            with brought_back(testbed, Probe.model_validate(fields).events):
                result = measured(testbed, servers, CLIENT, "service/web:80", **fields)
            down, up = result.happenings
            assert len(result.requests) == 400
            assert (len(down.removed), len(down.added)) == (2, 0)
            assert (len(up.removed), len(up.added)) == (0, 3)
            assert 300 <= down.written_ms < down.confirmed_ms <= up.written_ms
            # Once all has followed, nobody asks a pod that is gone, and every request is answered.
            left = [each for each in result.requests if down.confirmed_ms < each.due_ms < up.written_ms]
            assert not {each.pod for each in left} & set(down.removed)
            assert all(each.ok for each in left), [each for each in left if not each.ok]
            later = [each for each in result.requests if each.due_ms > up.confirmed_ms]
            assert {each.pod for each in later} > {each.pod for each in left}
            (stale_ms,) = dict(result.values)["stale_ms"]
            assert 0 <= stale_ms <= down.confirmed_ms - down.written_ms + 50
            assert result.loss_is_a_result
            # Afterwards there are as many as before, and on each node as many.
            assert Counter(each.node_name for each in testbed.state.pods) == before
        generate = Generate(services=5, endpoints=2)
        testbed.store.create(namespace_object(NAMESPACE))
        slices = filler_slices(generate, filler_pods(testbed.plan.pods))
        testbed.wait_confirmed(testbed.apply([*filler_services(generate), *slices]))
        whole = endpoint_counts(testbed)
        for proxy in ("openflow", "nftables"):
            testbed.set_proxy(proxy)
            result = measured(testbed, servers, CLIENT, "service/web:80", kind="program")
            times_ms = dict(result.values)["program_ms"]
            assert len(times_ms) >= 2 and len(times_ms) % 2 == 0
            assert 0.1 < statistics.median(times_ms) < 5000
            assert endpoint_counts(testbed) == whole


def endpoint_counts(testbed: Testbed) -> dict[str, int]:
    return {port.key: len(port.endpoints) for port in testbed.state.service_ports}


def test_requests_see_pods_come_and_go_and_programming_is_timed() -> None:
    run_in_box(requests_see_pods_come_and_go_and_programming_is_timed, USERS[0])
