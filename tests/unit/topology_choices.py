"""Hypothesis strategies: any topology, with parameters small enough to follow every path."""

from __future__ import annotations

from hypothesis import strategies as st

from topologies import TOPOLOGIES
from topologies.fabric import Fabric

_SMALL = {
    "single_switch": {"nodes": st.integers(1, 12), "ext": st.integers(0, 3)},
    "leaf_spine": {
        "leaves": st.integers(1, 4),
        "spines": st.integers(1, 3),
        "nodes_per_leaf": st.integers(1, 3),
        "ext": st.integers(0, 4),
    },
    "fat_tree": {"k": st.sampled_from([2, 4]), "nodes_per_edge": st.integers(0, 2), "ext": st.integers(0, 2)},
    "zones": {"zones": st.integers(1, 4), "nodes_per_zone": st.integers(1, 3), "ext": st.integers(0, 4)},
}


@st.composite
def fabrics(draw: st.DrawFn) -> Fabric:
    name = draw(st.sampled_from(sorted(_SMALL)))
    return TOPOLOGIES[name].plan_fabric(draw(st.fixed_dictionaries(_SMALL[name])))
