"""Physical networks by name: as Mininet topologies, and as the pure values a plan is made of."""

from topologies.base import FabricTopo, Parameter
from topologies.fat_tree import FatTree
from topologies.leaf_spine import LeafSpine
from topologies.single_switch import SingleSwitch
from topologies.zones import Zones

TOPOLOGIES: dict[str, type[FabricTopo]] = {
    "single_switch": SingleSwitch,
    "leaf_spine": LeafSpine,
    "fat_tree": FatTree,
    "zones": Zones,
}

__all__ = ["TOPOLOGIES", "FabricTopo", "Parameter"]
