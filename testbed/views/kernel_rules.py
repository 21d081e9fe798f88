"""The rules that a kernel Service proxy would give the nodes, as the text that its programs read."""

from __future__ import annotations

import shlex

from testbed.cluster.values import ClusterState, ProxyName
from testbed.proxy.iptables import IptablesRules
from testbed.proxy.ipvs import IpvsRules
from testbed.proxy.nftables import NftablesRules
from testbed.proxy.rules import Renderer, Rules


def kernel_rules(state: ClusterState, proxy: ProxyName) -> dict[str, str]:
    """From nothing to the whole, by node name: each program's command line as a comment, and below it its input."""
    rules: dict[ProxyName, Rules] = {"iptables": IptablesRules(), "nftables": NftablesRules(), "ipvs": IpvsRules("rr")}
    targets = Renderer(proxy, rules[proxy]).targets(state)
    return {
        name: "".join(
            f"# {shlex.join(command.argv)}\n{command.text}"
            for command in rules[proxy].install(target.base, target.pieces())
        )
        for name, target in targets.items()
    }
