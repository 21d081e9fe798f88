"""The cluster's DNS: a server that is ready, an answer to a pod's question, and pods that know whom to ask."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from testbed.checkup.findings import Finding, exec_command
from testbed.checkup.running import RunningCluster, namespace_of, output
from testbed.cluster.dns_addon import DEPLOYMENT_NAME, SELECTOR
from testbed.cluster.dns_records import CLUSTER_DOMAIN
from testbed.cluster.endpoint_slices import is_selected
from testbed.cluster.identity import DNS_INDEX, DNS_NAME, DNS_NAMESPACE
from testbed.cluster.kinds import SERVICE
from testbed.cluster.objects import object_name, object_namespace
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.values import PodNetwork
from testbed.network.place import Place

_NAME = f"{DNS_NAME}.{DNS_NAMESPACE}.svc.{CLUSTER_DOMAIN}"
# Beyond so many pods the files of the others are not read.
_MOST_FILES = 50
_TIMEOUT_S = 20


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for what keeps names from resolving; nothing to say of a cluster without DNS."""
    services = [(object_namespace(wire), object_name(wire)) for wire in cluster.objects(SERVICE)]
    if (DNS_NAMESPACE, DNS_NAME) not in services:
        return []
    servers = [
        is_ready(pod)
        for pod in cluster.pods.values()
        if object_namespace(pod) == DNS_NAMESPACE and is_selected(pod, SELECTOR)
    ]
    address = str(cluster.state.config.service_cidr[DNS_INDEX])
    ready = [pod for node in cluster.nodes for pod in cluster.ready_pods(node.name)]
    asking = [pod for pod in ready if _asks_cluster(cluster.pods[pod.key])]
    answers = {}
    for pod in asking[:1] if any(servers) else ():
        argv = ["kdig", "+time=1", "+retry=1", f"@{address}", _NAME, "A"]
        answers[pod.key] = output(namespace_of(pod), argv)
    files = {pod.key: text for pod in asking[:_MOST_FILES] if (text := _resolv_conf(pod)) is not None}
    return judge(servers, answers, files, address, cluster.name)


def _asks_cluster(pod: Mapping[str, Mapping[str, object]]) -> bool:
    return (pod["spec"].get("dnsPolicy") or "ClusterFirst") == "ClusterFirst"


def _resolv_conf(pod: PodNetwork) -> str | None:
    """A pod's file as its programs see it; None when it cannot be read, as in a pod that is just ending."""
    try:
        command = Place(namespace_of(pod), pod.name, of_pod=True).command(["cat", "/etc/resolv.conf"])
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def judge(
    servers: list[bool], answers: Mapping[str, str], files: Mapping[str, str], address: str, cluster: str
) -> list[Finding]:
    """From which of the servers' pods are ready, what ``kdig`` printed in some pods, and their resolv.conf."""
    found = []
    if not any(servers):
        what = "no DNS server is ready, so no name resolves"
        evidence = f"{len(servers)} pods of Deployment {DNS_NAMESPACE}/{DEPLOYMENT_NAME}, none ready"
        remedy = f"kubectl -n {DNS_NAMESPACE} get deployment {DEPLOYMENT_NAME}; kubectl -n {DNS_NAMESPACE} scale"
        found.append(Finding("dns", "fault", what, evidence, f"{remedy} deployment {DEPLOYMENT_NAME} --replicas=1"))
    for pod, said in answers.items():
        if "status: NOERROR" not in said or address not in said.partition("ANSWER SECTION")[2]:
            status = next((word for word in ("NXDOMAIN", "SERVFAIL", "REFUSED") if f"status: {word}" in said), "")
            evidence = f"kdig @{address} {_NAME}: {status or 'no answer'}"
            remedy = f"testbed trace --name {cluster} {pod} service/{DNS_NAMESPACE}/{DNS_NAME}:53"
            found.append(Finding("dns", "fault", f"pod {pod} gets no answer from the cluster DNS", evidence, remedy))
    for pod, text in files.items():
        servers_there = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
        if servers_there[:1] != [address]:
            what = f"pod {pod} does not ask the cluster DNS"
            evidence = f"/etc/resolv.conf: nameserver {', '.join(servers_there) or 'missing'}, not {address}"
            remedy = exec_command(cluster, pod, "cat", "/etc/resolv.conf")
            found.append(Finding("dns", "fault", what, evidence, f"delete the pod, or correct the file: {remedy}"))
    said = f"servers ready: {sum(servers)}; questions answered: {len(answers)}; pods that ask it: {len(files)}"
    return found or [Finding("dns", "ok", said)]
