"""Links that are down: of the nodes, and of the fabric between them."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.checkup.findings import Finding, exec_command
from testbed.checkup.running import RunningCluster
from testbed.trace.kernel import Interface
from testbed.trace.places import Places


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each interface of a node, a router, a switch or an outside host that is down."""
    places = Places(cluster.state, cluster.kernel)
    nodes = [node.name for node in cluster.state.nodes]
    looked = [
        (places.name(namespace), interface)
        for namespace in (*nodes, *places.fabric)
        for interface in cluster.kernel.interfaces(namespace).values()
        if interface.kind in ("veth", "bridge")
    ]
    return judge(looked, frozenset(nodes), cluster.name)


def judge(interfaces: Iterable[tuple[str, Interface]], nodes: frozenset[str], cluster: str) -> list[Finding]:
    """The same from the interfaces, each with where it is; ``nodes`` are the places that can be entered."""
    found = []
    known = list(interfaces)
    for place, interface in known:
        if not interface.up:
            argv = ("ip", "link", "set", interface.name, "up")
            can_enter = interface.namespace in nodes
            remedy = exec_command(cluster, f"node/{interface.namespace}", *argv) if can_enter else " ".join(argv)
            remedy += "" if can_enter else f" in {interface.namespace}"
            what = f"{interface.name} of {place} is down"
            found.append(Finding("links", "fault", what, f"ip link: {interface.name} is not UP", remedy))
    return found or [Finding("links", "ok", f"interfaces of nodes and fabric that are up: {len(known)}")]
