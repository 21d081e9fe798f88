"""A three-tier fat tree of k-way Linux routers (Al-Fares, Loukissas and Vahdat, SIGCOMM 2008), L3 at every tier.

By itself: ``mn --custom topologies/fat_tree.py --topo fat_tree,k=4 --controller none --test pingall``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # "mn --custom" executes this file by itself, outside the package
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies.base import EXT, FabricTopo, Parameter
from topologies.layout import Layout


class FatTree(FabricTopo):
    """k groups of k/2 edge and k/2 aggregation routers, joined by (k/2)^2 cores; external hosts on the cores.

    The j-th aggregation router of every group is linked to the j-th k/2 cores. (The paper's word for a group, pod,
    is Kubernetes' here.)
    """

    PARAMETERS = (
        Parameter("k", 4, 2, 8, "interfaces of a router; k = 4 makes 16 nodes, k = 8 makes 128", step=2),
        Parameter("nodes_per_edge", 0, 0, 16, "nodes on each edge router; 0 stands for k/2, the full tree"),
        EXT,
    )
    ROLES = ("access", "fabric")

    @classmethod
    def lay_out(cls, layout: Layout, *, k: int, nodes_per_edge: int, ext: int) -> None:
        half = k // 2
        cores = [layout.router(f"core{number}") for number in range(1, half * half + 1)]
        edges = []
        for group in range(k):
            numbers = range(group * half + 1, (group + 1) * half + 1)
            aggregations = [layout.router(f"agg{number}") for number in numbers]
            group_edges = [layout.router(f"edge{number}", location=f"edge{number}") for number in numbers]
            for j, aggregation in enumerate(aggregations):
                for core in cores[j * half : (j + 1) * half]:
                    layout.link(aggregation, core, "fabric")
                for edge in group_edges:
                    layout.link(edge, aggregation, "fabric")
            edges += group_edges
        for edge in edges:
            for _ in range(nodes_per_edge or half):
                layout.node(edge)
        for number in range(ext):
            layout.ext(cores[number % len(cores)])


topos = {"fat_tree": FatTree}
