"""A two-tier Clos fabric of Linux routers: every leaf is linked to every spine, with ECMP between them (RFC 7938).

By itself: ``mn --custom topologies/leaf_spine.py --topo leaf_spine,leaves=3 --controller none --test pingall``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # "mn --custom" executes this file by itself, outside the package
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies.base import EXT, FabricTopo, Parameter
from topologies.layout import Layout


class LeafSpine(FabricTopo):
    """``nodes_per_leaf`` nodes on each leaf; external hosts on the spines, so that every leaf is equally far from them
    and traffic from outside spreads over all nodes."""

    PARAMETERS = (
        Parameter("leaves", 2, 1, 32, "leaf routers"),
        Parameter("spines", 2, 1, 16, "spine routers"),
        Parameter("nodes_per_leaf", 2, 1, 32, "nodes on each leaf"),
        EXT,
    )
    ROLES = ("access", "fabric")

    @classmethod
    def lay_out(cls, layout: Layout, *, leaves: int, spines: int, nodes_per_leaf: int, ext: int) -> None:
        spine_names = [layout.router(f"spine{number}") for number in range(1, spines + 1)]
        leaf_names = [layout.router(f"leaf{number}", location=f"leaf{number}") for number in range(1, leaves + 1)]
        for leaf in leaf_names:
            for spine in spine_names:
                layout.link(leaf, spine, "fabric")
        for leaf in leaf_names:
            for _ in range(nodes_per_leaf):
                layout.node(leaf)
        for number in range(ext):
            layout.ext(spine_names[number % spines])


topos = {"leaf_spine": LeafSpine}
