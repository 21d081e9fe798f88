"""Several zones, each a flat Ethernet with a router, joined by a WAN.

By itself: ``mn --custom topologies/zones.py --topo zones,zones=3 --controller none --test pingall``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # "mn --custom" executes this file by itself, outside the package
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies.base import EXT, FabricTopo, Parameter
from topologies.layout import Layout


class Zones(FabricTopo):
    """``nodes_per_zone`` nodes on the bridge of each zone; external hosts on the zones' routers in turn.

    The WAN is a full mesh, as between the zones of a cloud region: each pair of zones is one WAN link apart, so the
    delay given to the role ``wan`` is the delay between any two zones, and no zone carries another's traffic.
    """

    PARAMETERS = (
        Parameter("zones", 2, 1, 16, "zones"),
        Parameter("nodes_per_zone", 2, 1, 200, "nodes in each zone"),
        EXT,
    )
    ROLES = ("access", "fabric", "wan")

    @classmethod
    def lay_out(cls, layout: Layout, *, zones: int, nodes_per_zone: int, ext: int) -> None:
        routers = [layout.router(f"zone{number}", location=f"zone{number}") for number in range(1, zones + 1)]
        bridges = [layout.bridge(f"sw{number}", location=f"zone{number}") for number in range(1, zones + 1)]
        for router, bridge in zip(routers, bridges, strict=True):
            layout.link(router, bridge, "fabric")
        for first, router in enumerate(routers):
            for other in routers[first + 1 :]:
                layout.link(router, other, "wan")
        for bridge in bridges:
            for _ in range(nodes_per_zone):
                layout.node(bridge)
        for number in range(ext):
            layout.ext(routers[number % zones])


topos = {"zones": Zones}
