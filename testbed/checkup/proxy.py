"""The kernels' Service proxies, where they balance: running, and every node's rules confirmed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster, runs_module
from testbed.cluster.confirm import parse_versions
from testbed.cluster.identity import PROXY_STATUS_NAME
from testbed.cluster.kinds import ENDPOINT_SLICE, SERVICE
from testbed.cluster.objects import resource_version
from testbed.cluster.values import ProxyName

_MODULE = "testbed.proxy"
_CONFIRM_S, _AGAIN_S = 3.0, 0.1


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault when no proxy runs, or a node's rules are not those of the objects after a few seconds."""
    if cluster.state.config.proxy == "openflow":
        return []  # the bridges' flows balance, which are compared with their program
    deadline = time.monotonic() + _CONFIRM_S
    while True:
        wanted = {
            kind.name: max(map(resource_version, cluster.objects(kind)), default=0)
            for kind in (SERVICE, ENDPOINT_SLICE)
        }
        names = [node.name for node in cluster.state.nodes]
        running = runs_module(_MODULE)
        found = judge(cluster.state.config.proxy, running, names, cluster.status(PROXY_STATUS_NAME), wanted)
        if found[0].state == "ok" or not running or time.monotonic() > deadline:
            return found
        time.sleep(_AGAIN_S)
        cluster = RunningCluster(cluster.url, cluster.name)


def judge(
    proxy: ProxyName, running: bool, nodes: Iterable[str], status: Mapping[str, str], wanted: Mapping[str, int]
) -> list[Finding]:
    """From ``proxy-status``, and the newest version of each kind that rules are made of."""
    look = f"kubectl -n kube-system describe configmap {PROXY_STATUS_NAME}"
    found = []
    if not running:
        what = f"the Service proxy ({proxy}) does not run: rules stay as they are, and changes of Services are lost"
        found.append(Finding("proxy", "fault", what, f"no process python -m {_MODULE}", look))
    names = list(nodes)
    for name in names:
        confirmed = parse_versions(status.get(name, ""))
        behind = [
            f"{kind} {confirmed.get(kind, 0)} of {number}"
            for kind, number in wanted.items()
            if confirmed.get(kind, 0) < number
        ]
        said = status.get(f"{name}.error")
        if said or behind:
            what = f"the {proxy} rules of {name} are not confirmed"
            found.append(Finding("proxy", "fault", what, said or f"versions: {', '.join(behind)}", look))
    return found or [Finding("proxy", "ok", f"nodes with confirmed {proxy} rules: {len(names)}")]
