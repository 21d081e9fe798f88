"""Services and what is behind them: a selector that matches, pods that are ready, programs that listen on the port."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from testbed.checkup.findings import Finding
from testbed.checkup.running import API_KEY, RunningCluster, namespace_of, output
from testbed.cluster.endpoint_slices import is_selected
from testbed.cluster.identity import DNS_NAME, DNS_NAMESPACE
from testbed.cluster.kinds import SERVICE
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key
from testbed.cluster.pod_facts import is_ready, labels_of
from testbed.cluster.values import IPAddress, ServicePort
from testbed.errors import RunError

# What listens in a network namespace: protocol, host and port as ``ss`` prints them.
Sockets = frozenset[tuple[str, str, int]]
_SHOWN = 3


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each Service without endpoints, and for each endpoint where nothing listens."""
    spaces = {pod.pod_ip: namespace_of(pod) for pod in cluster.state.pods}
    spaces.update((node.node_ip, node.name) for node in cluster.state.nodes)
    known: dict[str, Sockets] = {}

    def sockets(address: IPAddress) -> Sockets | None:
        space = spaces.get(address)
        if space is None:
            return None
        if space not in known:
            known[space] = parse_sockets(output(space, ["ss", "-H", "-l", "-n", "-t", "-u"]))
        return known[space]

    # The DNS has a check of its own, which knows better what to do.
    services = [wire for wire in cluster.objects(SERVICE) if _key(wire) not in (f"{DNS_NAMESPACE}/{DNS_NAME}", API_KEY)]
    return judge(services, cluster.pods, cluster.answered_ports, sockets)


def _key(wire: JsonObject) -> str:
    return f"{object_namespace(wire)}/{object_name(wire)}"


def parse_sockets(text: str) -> Sockets:
    """Read what ``ss -H -l -n -t -u`` prints."""
    found = set()
    for line in text.splitlines():
        # Kind, state, two queues, then the local address and port: *:80, [::]:80, 10.0.0.1%eth0:80.
        words = line.split()
        host, _, number = words[4].rpartition(":")
        if number.isdigit():
            found.add((words[0].upper(), host.partition("%")[0], int(number)))
    return frozenset(found)


def listens(sockets: Sockets, protocol: str, address: IPAddress, number: int) -> bool:
    """Whether one of the sockets takes what is sent to this address and port."""
    return any((protocol, host, number) in sockets for host in ("*", "0.0.0.0", "[::]", str(address)))


def judge(
    services: Iterable[JsonObject],
    pods: Mapping[str, JsonObject],
    ports: Iterable[ServicePort],
    sockets: Callable[[IPAddress], Sockets | None],
) -> list[Finding]:
    """From the Services, the pods by ``namespace/name``, the Services' ports, and what listens at an address (None:
    not an address of this cluster)."""
    found: list[Finding] = []
    without = set()
    by_service: dict[str, list[ServicePort]] = {}
    for port in ports:
        by_service.setdefault(port.service_key, []).append(port)
    count = 0
    for wire in services:
        count += 1
        key = _key(wire)
        fault = _selected(wire, key, pods) or _targeted(wire, key, by_service.get(key, ()))
        if fault is not None:
            found.append(fault)
            without.add(key)
    for key, entries in by_service.items():
        if key not in without:
            for entry in entries:
                found += _listening(entry, sockets)
    return found or [Finding("endpoints", "ok", f"Services with endpoints that listen: {count}")]


def _selected(wire: JsonObject, key: str, pods: Mapping[str, JsonObject]) -> Finding | None:
    """Whether a Service's selector finds ready pods."""
    selector = wire["spec"].get("selector")
    if not selector or wire["spec"].get("type") == "ExternalName":
        return None
    namespace = object_namespace(wire)
    beside = [pod for pod in pods.values() if object_namespace(pod) == namespace]
    chosen = [pod for pod in beside if is_selected(pod, selector)]
    wanted = ",".join(f"{name}={value}" for name, value in selector.items())
    if not chosen:
        what = f"Service {key} has no endpoints: its selector {wanted} matches no pod"
        there = sorted({",".join(f"{k}={v}" for k, v in labels_of(pod).items()) or "no labels" for pod in beside})
        evidence = f"pods of {namespace} have: {'; '.join(there[:_SHOWN])}" if there else f"no pods in {namespace}"
        remedy = f"kubectl -n {namespace} get pods --show-labels; then correct the selector or the labels"
        return Finding("endpoints", "fault", what, evidence, remedy)
    if wire["spec"].get("publishNotReadyAddresses") or any(is_ready(pod) for pod in chosen):
        return None
    what = f"Service {key} has no endpoints: none of its {len(chosen)} pods ({wanted}) is ready"
    evidence = "; ".join(f"{pod_key(pod)}: {_state(pod)}" for pod in chosen[:_SHOWN])
    first = object_name(chosen[0])
    remedy = f"workloads, above; kubectl -n {namespace} describe pod {first}"
    return Finding("endpoints", "fault", what, evidence, remedy)


def _state(pod: JsonObject) -> str:
    """What a pod that is not ready is waiting for."""
    status = pod.get("status") or {}
    for entry in status.get("containerStatuses") or ():
        waiting = (entry.get("state") or {}).get("waiting")
        if waiting:
            return f"container {entry['name']} waits: {waiting.get('reason', 'no reason given')}"
        if not entry.get("ready"):
            return f"container {entry['name']} is not ready, {entry.get('restartCount', 0)} restarts"
    return str(status.get("phase", "Pending"))


def _targeted(wire: JsonObject, key: str, ports: Iterable[ServicePort]) -> Finding | None:
    """Whether each port of a Service with ready pods has endpoints: a port's name may be none of theirs."""
    if not wire["spec"].get("selector"):
        return None
    empty = {port.service_port for port in ports if not port.endpoints}
    for port in wire["spec"].get("ports") or ():
        if port["port"] in empty:
            target = port.get("targetPort", port["port"])
            what = f"Service {key} port {port['port']} has no endpoints though its pods are ready"
            evidence = f"targetPort {target}: no container of theirs has a port of this name and protocol"
            remedy = f"kubectl -n {object_namespace(wire)} edit service {object_name(wire)}: correct targetPort"
            return Finding("endpoints", "fault", what, evidence, remedy)
    return None


def _listening(entry: ServicePort, sockets: Callable[[IPAddress], Sockets | None]) -> list[Finding]:
    """Whether somebody listens at each endpoint."""
    deaf, others = [], set[int]()
    for endpoint in entry.cluster_endpoints if entry.protocol in ("TCP", "UDP") else ():
        try:
            there = sockets(endpoint.endpoint_ip)
        except RunError:
            continue  # its pod has just gone
        if there is not None and not listens(there, entry.protocol, endpoint.endpoint_ip, endpoint.target_port):
            deaf.append(endpoint)
            others |= {number for protocol, host, number in there if protocol == entry.protocol and host[:4] != "127."}
    if not deaf:
        return []
    target = f"{entry.protocol} {deaf[0].target_port}"
    what = f"Service {entry.service_key} port {entry.service_port}: nothing listens on {target}"
    what += f" in {len(deaf)} of {len(entry.cluster_endpoints)} endpoints"
    evidence = f"ss in {deaf[0].endpoint_ip}: " + (", ".join(map(str, sorted(others))) or "nothing") + " listens"
    namespace, _, name = entry.service_key.partition("/")
    remedy = f"kubectl -n {namespace} edit service {name}: correct targetPort, or the port of the program"
    return [Finding("endpoints", "fault", what, evidence, remedy)]
