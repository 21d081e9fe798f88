"""What a kubelet writes into a pod: /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from testbed.network.pod_files import hosts_file, pod_hostname, resolv_conf

NODE_FILE = "nameserver 9.9.9.9\n"
SERVICES = ip_network("10.96.0.0/12")


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-0", "namespace": "prod"},
        "spec": spec,
        "status": {"podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}]},
    }


def test_the_hosts_file_names_the_pod_and_its_aliases() -> None:
    text = hosts_file(pod(hostAliases=[{"ip": "10.1.2.3", "hostnames": ["db", "db.example"]}]), "")
    assert text.splitlines()[1:] == [
        "127.0.0.1\tlocalhost",
        "::1\tip6-localhost ip6-loopback",
        "10.244.0.2\tweb-0",
        "10.1.2.3\tdb\tdb.example",
    ]


def test_a_subdomain_gives_the_pod_its_full_name() -> None:
    assert "10.244.0.2\ta.ring.prod.svc.cluster.local\ta\n" in hosts_file(pod(hostname="a", subdomain="ring"), "")


@pytest.mark.parametrize(("name", "expected"), [("web", "web"), ("a" * 80, "a" * 63), ("a" * 62 + "-b", "a" * 62)])
def test_a_host_name_is_cut_to_what_linux_takes(name: str, expected: str) -> None:
    assert pod_hostname({"metadata": {"name": name}, "spec": {}}) == expected


def test_a_host_network_pod_has_its_nodes_name() -> None:
    agent = pod(hostNetwork=True, nodeName="n1", hostname="a", subdomain="ring")
    assert pod_hostname(agent) == "n1"
    assert hosts_file(agent, "127.0.0.1\tlocalhost\n") == "127.0.0.1\tlocalhost\n"


def test_cluster_first_is_the_default() -> None:
    assert resolv_conf(pod(), SERVICES, NODE_FILE) == (
        "nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )


def test_dns_config_is_merged_without_doubles() -> None:
    own = {
        "nameservers": ["10.96.0.10", "1.2.3.4"],
        "searches": ["lab.example", "cluster.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    assert resolv_conf(pod(dnsConfig=own), SERVICES, NODE_FILE) == (
        "nameserver 10.96.0.10\nnameserver 1.2.3.4\n"
        "search prod.svc.cluster.local svc.cluster.local cluster.local lab.example\n"
        "options ndots:2 edns0\n"
    )


@pytest.mark.parametrize("spec", [{"dnsPolicy": "Default"}, {"hostNetwork": True}])
def test_the_nodes_own_file_is_used_where_kubernetes_uses_it(spec: dict[str, Any]) -> None:
    assert resolv_conf(pod(**spec), SERVICES, NODE_FILE) == NODE_FILE


def test_a_host_network_pod_may_ask_for_the_clusters_dns() -> None:
    text = resolv_conf(pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), SERVICES, NODE_FILE)
    assert text.startswith("nameserver 10.96.0.10\n")


def test_the_nodes_search_domains_follow_the_clusters() -> None:
    node = "# a comment\nnameserver 9.9.9.9\nsearch corp.example. lab.example\noptions edns0\n"
    assert resolv_conf(pod(), SERVICES, node) == (
        "nameserver 10.96.0.10\n"
        "search prod.svc.cluster.local svc.cluster.local cluster.local corp.example lab.example\n"
        "options ndots:5\n"
    )


@pytest.mark.parametrize("spec", [{"dnsPolicy": "Default"}, {"hostNetwork": True}])
def test_dns_config_adds_to_the_nodes_own_file_too(spec: dict[str, Any]) -> None:
    node = "nameserver 9.9.9.9\nsearch corp.example\noptions edns0 ndots:2\n"
    own = {"nameservers": ["1.2.3.4"], "options": [{"name": "ndots", "value": "1"}]}
    assert resolv_conf(pod(**spec, dnsConfig=own), SERVICES, node) == (
        "nameserver 9.9.9.9\nnameserver 1.2.3.4\nsearch corp.example\noptions edns0 ndots:1\n"
    )


def test_what_is_beyond_a_kubelets_limits_is_left_out() -> None:
    own = {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"], "searches": [f"d{n}.example" for n in range(40)]}
    lines = resolv_conf(pod(dnsConfig=own), SERVICES, NODE_FILE).splitlines()
    assert lines[:3] == ["nameserver 10.96.0.10", "nameserver 1.1.1.1", "nameserver 2.2.2.2"]
    assert len(lines[3].removeprefix("search ").split()) == 32
    own = {"searches": [f"d{n}.{'x' * 60}.{'y' * 60}.example" for n in range(29)]}
    (searches,) = (line for line in resolv_conf(pod(dnsConfig=own), SERVICES, NODE_FILE).splitlines() if "d0" in line)
    assert 1900 < len(searches.removeprefix("search ")) <= 2048


def test_policy_none_takes_only_what_is_written() -> None:
    text = resolv_conf(pod(dnsPolicy="None", dnsConfig={"nameservers": ["1.2.3.4"]}), SERVICES, NODE_FILE)
    assert text == "nameserver 1.2.3.4\n"
