"""Do pods of different nodes reach each other? If not, a trace tells which flow, route or device stops them."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.checkup.findings import Finding
from testbed.checkup.pings import Ping, key_of, pairs, try_all
from testbed.checkup.running import RunningCluster


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each pair of nodes that do not reach each other, and for each whose pods do not."""
    wanted = pairs(cluster)
    nodes = {key_of(pair): (pair[0].node.name, pair[1].node.node_ip) for pair in wanted}
    pods = {key_of(pair): (pair[0].namespace, pair[1].address) for pair in wanted}
    node_pings, pod_pings = try_all(nodes), try_all(pods)
    causes = {}
    for pair in wanted:
        key = key_of(pair)
        if not node_pings[key].answered:
            causes[key] = cluster.why(f"node/{pair[0].node.name}", f"node/{pair[1].node.name}")
        elif not pod_pings[key].answered:
            causes[key] = cluster.why(pair[0].name, str(pair[1].address))
    commands = {
        key_of(pair): f"testbed trace --name {cluster.name} {pair[0].name} {pair[1].address}" for pair in wanted
    }
    return judge(node_pings, pod_pings, causes, commands)


def judge(
    nodes: Mapping[str, Ping], pods: Mapping[str, Ping], causes: Mapping[str, str], commands: Mapping[str, str]
) -> list[Finding]:
    """From the pings between the nodes and between their pods, by pair; ``causes`` by pair as traces tell them."""
    found = []
    for key, ping in pods.items():
        evidence = causes.get(key) or "a trace finds nothing that stops it"
        if not nodes[key].answered:
            what = f"{key}: their nodes do not reach each other over the fabric"
            found.append(Finding("pods", "fault", what, evidence, "look at the fabric's links and routes"))
        elif not ping.answered:
            what = f"{key}: unreachable across nodes"
            found.append(Finding("pods", "fault", what, evidence, f"plugin and routes, above; {commands[key]}"))
    return found or [Finding("pods", "ok", f"pairs across nodes that reach each other: {len(pods)}")]
