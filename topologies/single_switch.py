"""All nodes on one Ethernet bridge: a flat L2 network, nodes route to each other directly.

By itself: ``mn --custom topologies/single_switch.py --topo single_switch,nodes=3 --controller none --test pingall``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

if not __package__:  # "mn --custom" executes this file by itself, outside the package
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies.base import EXT, FabricTopo, Parameter
from topologies.layout import Layout


class SingleSwitch(FabricTopo):
    """``nodes`` nodes and ``ext`` external hosts on the bridge sw1, in one subnet."""

    PARAMETERS = (
        Parameter("nodes", 2, 1, 200, "nodes on the bridge"),
        replace(EXT, default=1),
    )
    ROLES = ("access",)

    @classmethod
    def lay_out(cls, layout: Layout, *, nodes: int, ext: int) -> None:
        bridge = layout.bridge("sw1")
        for _ in range(nodes):
            layout.node(bridge)
        for _ in range(ext):
            layout.ext(bridge)


topos = {"single_switch": SingleSwitch}
